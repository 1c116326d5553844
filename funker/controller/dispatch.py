"""The router's rules: messages in, messages out, no sockets, no clock. Pure.

Here is who is told of what. Callers come and go in `callers`, replicas in `replicas`; `names` knows
which function is meant. A call begins and ends in `ledger`, waits in `waiting`, and what becomes of
it otherwise is in `calls`. Each of these says its own invariants.

Peers are named by ZeroMQ routing ids that they choose and keep over reconnects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funker.controller.callers import Callers, note_echo, note_heard, note_pong
from funker.controller.calls import Calls
from funker.controller.forward import json_text, pong
from funker.controller.ledger import Ledger
from funker.controller.liveness import LOST_S, SUSPECT_S, SWEEP_S, Peer
from funker.controller.names import Names
from funker.controller.recovery import Recovery
from funker.controller.replicas import Replicas
from funker.controller.retries import Retries
from funker.controller.status import about, nothing, others
from funker.controller.tables import (
    Action,
    Catalogue,
    Event,
    Limits,
    Passing,
    Printed,
    Received,
    Send,
    Unreachable,
)
from funker.controller.waiting import Waiting
from funker.rpc.messages import (
    PROTOCOL,
    Accept,
    Ack,
    Busy,
    Bye,
    Call,
    Cancel,
    Error,
    Failed,
    Message,
    Output,
    Ping,
    Ready,
    Result,
)

#: The versions of the protocol that are served.
SPOKEN = (PROTOCOL, PROTOCOL - 1)
#: Characters of a function's name: every call of it repeats it in its header.
MAX_NAME = 1024


class Dispatch:
    """The router's tables and rules. `epoch` names this router's life; times are monotonic."""

    def __init__(self, *, epoch: str, now: float, limits: Limits = Limits()) -> None:  # noqa: B008
        self._epoch = json_text(epoch)
        self._callers = Callers()
        self._replicas = Replicas(limits, now)
        self._names = Names()
        self._ledger = Ledger(self._replicas)
        retries = Retries(ledger=self._ledger, replicas=self._replicas)
        self._waiting = Waiting(
            ledger=self._ledger,
            replicas=self._replicas,
            retries=retries,
            names=self._names,
            limits=limits,
        )
        self._recovery = Recovery(
            ledger=self._ledger, waiting=self._waiting, replicas=self._replicas, now=now
        )
        self._calls = Calls(
            ledger=self._ledger,
            waiting=self._waiting,
            retries=retries,
            recovery=self._recovery,
            callers=self._callers,
            replicas=self._replicas,
            limits=limits,
        )
        self._passing = {
            b"ACCEPT": self._calls.on_accept,
            b"RESULT": self._calls.on_result,
            b"ACK": self._calls.on_ack,
        }
        self._sweep_at = now + SWEEP_S
        self._stamp = 0

    def on(self, event: Event, now: float) -> list[Action]:
        """The actions that follow, in order."""
        if type(event) is Passing:
            peer, kind, id, frames = event
            self._note_heard(peer, now)
            self._passing[kind](peer, id, frames, now)
        elif type(event) is Received:
            self._note_heard(event.peer, now)
            self._on_received(event.peer, event.message, event.frames, now)
        elif type(event) is Unreachable:
            self._on_unreachable(event.peer, event.call, now)
        elif type(event) is Catalogue:
            self._on_catalogue(event, now)
        if now >= self._sweep_at:
            self._sweep(now)
        if now >= self._ledger.agenda.soonest():
            for call in self._ledger.agenda.due(now):
                self._calls.overdue(call, now)
        rows = self._replicas
        if now >= rows.rest_until:
            for replica in rows.rested(now):
                self._waiting.hand_out(replica.function, now)
        while rows.unblocked:
            self._waiting.hand_out(rows.unblocked.pop(), now)
        actions, self._ledger.actions = self._ledger.actions, []
        return actions

    def wakeup(self) -> float:
        """When `on(Tick(), …)` is due at the latest."""
        return min(self._sweep_at, self._ledger.agenda.soonest(), self._replicas.rest_until)

    # What it knows

    def status(self, now: float) -> dict[str, dict[str, Any]]:
        """What is there, by function: queue, replicas and what they do, and what is measured."""
        rows, pools = self._replicas, self._replicas.pools
        described = {
            name: nothing(wanted=n) for name, n in rows.wanted.items() if name not in pools
        }
        for function, pool in pools.items():
            replicas = [rows.row(peer) for peer in pool.replicas]
            told = [replica.describe(now) for replica in replicas]
            described[function] = {**about(pool, replicas, now), **others(), "replicas": told}
        return described

    def demanding(self, now: float) -> dict[str, dict[str, Any]]:
        """The functions whose calls wait for more replicas than start, and were not told yet."""
        functions, self._waiting.demanding = self._waiting.demanding, set()
        rows = self._replicas
        return {
            function: about(pool, [rows.row(peer) for peer in pool.replicas], now)
            for function in functions
            if (pool := rows.pools.get(function)) is not None
        }

    @property
    def is_demanding(self) -> bool:
        """Whether there are such."""
        return bool(self._waiting.demanding)

    def describe(self, id: str) -> dict[str, Any] | None:
        """An open call."""
        call = self._ledger.open.get(id)
        if call is None:
            return None
        return {"id": id, "function": call.function, "outcome": call.phase.value}

    # Messages

    def _note_heard(self, peer: bytes, now: float) -> None:
        if (replica := self._replicas.get(peer)) is not None:
            replica.heard_at, replica.gone_at = now, None
        elif (caller := self._callers.get(peer)) is not None:
            note_heard(caller, now)

    def _on_received(
        self, peer: bytes, message: Message, frames: Sequence[bytes], now: float
    ) -> None:
        if type(message) is Ping:  # most of what idle replicas say: not at the end of the cases
            self._on_ping(peer, message, now)
            return
        match message:
            case Call():
                self._calls.on_call(peer, message, frames, now)
            case Accept(id=id):
                self._calls.on_accept(peer, id, frames, now)
            case Result(id=id):
                self._calls.on_result(peer, id, frames, now)
            case Error(id=str(id)):
                self._calls.on_outcome(peer, id, message, frames, now)
            case Ack(id=id):
                self._calls.on_ack(peer, id, frames, now)
            case Ready():
                self._on_ready(peer, message, now)
            case Busy(id=id):
                self._calls.on_busy(peer, id, now)
            case Bye():
                self._on_bye(peer, message, now)
            case Failed():
                self._on_failed(peer, message, now)
            case Cancel(id=id):
                self._calls.on_cancel(id, now)
            case Output(id=id, text=text):
                self._ledger.actions.append(Printed(id, text))
            case _:
                pass

    def _say(self, peer: bytes, message: Message) -> None:
        self._ledger.actions.append(Send(peer, message))

    def _on_ping(self, peer: bytes, ping: Ping, now: float) -> None:
        self._stamp += 1
        known = peer in self._replicas
        if not known:
            # Replicas say READY before they PING; whoever is no replica is a caller.
            known = peer in self._callers
            caller = self._callers.meet(peer, now)
            if note_echo(caller, ping.echo):
                self._waiting.unstall(caller, now)
            note_pong(caller, self._stamp, now)
        self._ledger.actions.append(
            Send(peer, pong(ping.number, self._epoch, stamp=self._stamp, known=known))
        )

    def _on_ready(self, peer: bytes, ready: Ready, now: float) -> None:
        old = self._replicas.get(peer)
        if old is not None and (old.ready.session, old.function) != (ready.session, ready.function):
            self._lose(peer, now, kept=set(ready.held))
            old = None
        caller = self._callers.get(peer)
        if caller is not None and not caller.calls:
            self._callers.forget(caller)  # it has asked before it was ready
        replica = self._replicas.join(peer, ready, now)
        if (problem := _problem(ready)) is None:
            self._replicas.serve(replica)
        else:
            self._say(peer, Error(code="protocol_error", message=problem))
            self._replicas.refuse(replica)
        for id in ready.held:
            self._recovery.held(id, replica, now)
        if old is not None:
            self._recovery.not_held(old, replica, now)
        if self._replicas.offer(replica):
            self._waiting.hand_out(ready.function, now)

    def _on_bye(self, peer: bytes, bye: Bye, now: float) -> None:
        self._say(peer, Ack(id=bye.session))
        replica = self._replicas.get(peer)
        if replica is None:
            return
        self._replicas.leave(replica)
        for id, call in list(replica.calls.items()):
            if id not in bye.held and call.replica == peer:
                del replica.calls[id]
                self._replicas.stop(replica, id)
                self._calls.not_taken(call, now)
        if not bye.held:
            self._replicas.forget(peer)

    def _on_failed(self, peer: bytes, failed: Failed, now: float) -> None:
        replica = self._replicas.get(peer)
        self._replicas.forget(peer)
        for call in list(replica.calls.values()) if replica is not None else ():
            if call.replica == peer:
                self._calls.not_taken(call, now)
        self._callers.meet(peer, now)  # known, so that it won't say it again
        wait_s = self._replicas.fail(failed, now)
        self._say(peer, Ack(id=failed.session, wait_ms=round(wait_s * 1000)))
        self._waiting.fail_waiting(failed.function, now)

    # Who is there, and what

    def _on_unreachable(self, peer: bytes, id: str, now: float) -> None:
        if (replica := self._replicas.get(peer)) is not None:
            replica.unreachable(now)
            self._replicas.set_aside(replica)
            self._calls.on_unreachable(peer, id, now)
        elif (caller := self._callers.get(peer)) is not None:
            caller.unreachable(now)

    def _on_catalogue(self, catalogue: Catalogue, now: float) -> None:
        self._names.learn(catalogue.functions, now)
        self._replicas.learn(catalogue.wanted, catalogue.rules)
        self._waiting.unrouted = catalogue.unrouted
        self._judge_unknown(now)
        self._waiting.fail_unrouted(now)

    def _judge_unknown(self, now: float) -> None:
        """Calls that wait for a function that isn't there: it was removed, or it never was."""
        for function in [name for name in self._replicas.pools if name not in self._names]:
            pool = self._replicas.pools[function]
            if not pool.replicas:  # else it is being removed; its last calls end first
                del self._replicas.pools[function]
                self._waiting.rename(pool, now)

    def _sweep(self, now: float) -> None:
        if now > self._sweep_at + SUSPECT_S:
            # It was us who slept: what the others have said meanwhile isn't read yet.
            peers: list[Peer] = [*self._replicas, *self._callers]
            for one in peers:
                one.heard_at = now
        self._sweep_at = now + SWEEP_S
        for replica in self._replicas:
            if replica.is_lost(now):
                self._lose(replica.peer, now, kept=set())
                self._waiting.fail_waiting(replica.function, now)
                continue
            if replica.is_to_be_asked(now):
                self._say(replica.peer, Ping(number=0))
            if not replica.is_suspect(now) and self._replicas.offer(replica):
                self._waiting.hand_out(replica.function, now)
        for caller in self._callers:
            if caller.is_lost(now):
                self._callers.forget(caller)
                for call in list(caller.calls.values()):
                    self._calls.abandon(call, now)
            elif caller.calls and caller.is_to_be_asked(now):
                self._say(caller.peer, Ping(number=0))
        while (orphan := self._replicas.overdue_orphan(now - LOST_S)) is not None:
            self._recovery.give_up(*orphan, now)
        if self._names.is_overdue(now):
            self._judge_unknown(now)  # nobody will tell of them
        self._ledger.ended.forget_old(now)
        self._replicas.drop_empty(self._names)

    def _lose(self, peer: bytes, now: float, kept: set[str]) -> None:
        """A replica is gone, with all its calls but those that its next life holds (`kept`)."""
        replica = self._replicas.row(peer)
        self._replicas.forget(peer)
        for call in list(replica.calls.values()):
            if call.replica == peer and call.id not in kept:
                self._calls.lost(call, now)


def _problem(ready: Ready) -> str | None:
    """Why this replica can't be given calls."""
    if ready.protocol not in SPOKEN:
        spoken = ", ".join(map(str, SPOKEN))
        return f"protocol {ready.protocol} isn't spoken here ({spoken})"
    if len(ready.function) > MAX_NAME:
        return f"a function's name has at most {MAX_NAME} characters"
    return None
