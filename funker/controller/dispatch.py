"""What becomes of each call in the router. Pure: messages in, messages out, no sockets, no clock.

One call:

    RECOVERING ─claimed by a replica──────────► RUNNING
       └─window over─► QUEUED ─free replica─► SENT ─ACCEPT─► RUNNING ─outcome─► ANSWERED ─ACK─► over
                           ▲                    │
                           └─certainly not taken┘      lost: QUEUED if idempotent, else done

Invariants:

- Every transition of a call lives here; nothing else changes a call's state.
- A call is with at most one replica, and goes to another only if it was certainly not accepted,
  or is idempotent.
- A call is handed out only while its caller is known to be alive *and* attached to this router:
  within `DISPATCH_S` of sending the PONG whose number its caller has echoed. A caller resends to
  another router at the earliest 2 s after receiving that PONG, so that two routers never run one
  call.
- Each caller hears exactly one outcome of each call, and each replica exactly one ACK.
- Nothing is O(number of calls) per message: queues and tables are dictionaries, deadlines a heap.

Peers are named by ZeroMQ routing ids that they choose and keep over reconnects.
"""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from funker.controller.queue import Budget, Queue, QueueFullError
from funker.controller.tables import (
    GRACE_S,
    SUSPECT_S,
    Action,
    Caller,
    Catalogue,
    Event,
    Finish,
    Limits,
    OpenCall,
    Phase,
    Pool,
    Printed,
    Received,
    Record,
    Replica,
    Send,
    Tick,
    Unreachable,
)
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
    Pong,
    Ready,
    Result,
)

#: Seconds after sending a PONG for which its caller's calls may be handed out.
DISPATCH_S = 1.5
#: Seconds of silence after which a peer is lost.
LOST_S = 10.0
#: Seconds of silence after which a peer is asked whether it is there: if its connection is gone,
#: that is how it shows.
PROBE_S = 1.0
#: Seconds for a peer whose connection is gone to come back.
RETURN_S = 1.5
#: Seconds that a resent call waits for a replica to tell that it holds it before it is judged.
RECOVERY_S = 3.0
#: Seconds past the end of its standing after which a caller may have been with another router,
#: and seconds for which it, back again, may resend what the other was given.
AWAY_S, BACK_S = 0.5, 4.0
#: Seconds between looks at who has been silent.
SWEEP_S = 0.25
#: Calls that are remembered after their end, so that late duplicates start nothing.
REMEMBERED, REMEMBER_S = 100_000, 60.0
#: Seconds that a replica whose handler can't be loaded is told to wait: at first, and at most.
FAILED_S, FAILED_MAX_S = 5.0, 60.0
#: Seconds past that wait for which the failure still stands: the time to start and load.
FAILURE_S = 10.0
#: Misspelled names whose correction is remembered, and characters of one that are looked at.
SUGGESTIONS, MAX_NAME = 256, 128
#: Bytes above which the body of a call that won't be sent again isn't kept while it runs.
KEPT_BODY = 4096


class Dispatch:
    """The router's tables and rules. `epoch` names this router's life; times are monotonic."""

    def __init__(self, *, epoch: str, now: float, limits: Limits = Limits()) -> None:  # noqa: B008
        self.epoch = epoch
        self._limits = limits
        self._actions: list[Action] = []
        self._started_at = now
        self._budget = Budget(limits.queued_bytes)
        self._callers: dict[bytes, Caller] = {}
        self._replicas: dict[bytes, Replica] = {}
        self._pools: dict[str, Pool] = {}
        self._calls: dict[str, OpenCall] = {}
        # When they ended, and the error if the router had to say one: their callers may ask again.
        self._done: OrderedDict[str, tuple[float, Error | None]] = OrderedDict()
        # Calls that replicas hold and whose callers haven't asked yet: by whom, since when.
        self._held: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        # When to look at which call, soonest first. Of calls that came back to wait at the same
        # moment the last comes first, since each goes to its queue's head.
        self._dues: list[tuple[float, int, str]] = []
        self._order = itertools.count(0, -1)
        self._functions: set[str] | None = None  # None: nobody has told yet
        self._short: dict[str, set[str]] = {}
        self._suggestions: dict[str, str] = {}
        self._sweep_at = now + SWEEP_S
        self._stamp = 0

    def on(self, event: Event, now: float) -> list[Action]:
        """The actions that follow, in order."""
        self._actions = []
        match event:
            case Received(peer, message, frames):
                self._on_message(peer, message, frames, now)
            case Unreachable(peer, id):
                self._on_unreachable(peer, id, now)
            case Catalogue(functions):
                self._on_catalogue(functions, now)
            case Tick():
                pass
        if now >= self._sweep_at:
            self._sweep(now)
        while self._dues and self._dues[0][0] <= now:
            at, _, id = heapq.heappop(self._dues)
            if (call := self._calls.get(id)) is not None and call.due == at:
                self._on_overdue(call, now)
        return self._actions

    def wakeup(self) -> float:
        """When `on(Tick(), …)` is due at the latest."""
        return min(self._sweep_at, self._dues[0][0]) if self._dues else self._sweep_at

    def status(self, now: float) -> dict[str, dict[str, Any]]:
        """What is there, by function: queue, replicas and what they do."""
        described: dict[str, dict[str, Any]] = {}
        for function, pool in self._pools.items():
            replicas = [self._replicas[peer] for peer in pool.replicas]
            states = [replica.state(now) for replica in replicas]
            described[function] = self.nothing() | {
                "queued": len(pool.queue),
                "queued_bytes": pool.queue.size,
                "free": states.count("free"),
                "busy": states.count("busy"),
                "leaving": states.count("leaving"),
                "failing": pool.failure.message if pool.failure else None,
                "replicas": [replica.describe(now) for replica in replicas],
            }
        return described

    @staticmethod
    def nothing() -> dict[str, Any]:
        """The status of a function that nobody has called and that has no replica."""
        counts = dict.fromkeys(
            ("queued", "queued_bytes", "free", "busy", "leaving", "calls", "errors"), 0
        )
        return counts | {"failing": None, "replicas": []}

    def describe(self, id: str) -> dict[str, Any] | None:
        """An open call."""
        call = self._calls.get(id)
        if call is None:
            return None
        return {"id": id, "function": call.function, "outcome": call.phase.value}

    def _on_message(
        self, peer: bytes, message: Message, frames: Sequence[bytes], now: float
    ) -> None:
        if (replica := self._replicas.get(peer)) is not None:
            replica.heard_at, replica.gone_at = now, None
        elif (caller := self._callers.get(peer)) is not None:
            caller.heard_at, caller.gone_at = now, None
            if now >= caller.valid_until + AWAY_S:
                caller.astray_at = now
        match message:
            case Call():
                self._on_call(peer, message, now)
            case Accept():
                self._on_accept(peer, message, frames, now)
            case Result() | Error():
                self._on_outcome(peer, message, frames, now)
            case Ack(id=id):
                self._on_ack(peer, id, frames, now)
            case Ping():
                self._on_ping(peer, message, now)
            case Ready():
                self._on_ready(peer, message, now)
            case Busy(id=id):
                self._on_busy(peer, id, now)
            case Bye():
                self._on_bye(peer, message, now)
            case Failed():
                self._on_failed(peer, message, now)
            case Cancel(id=id):
                self._on_cancel(id, now)
            case Output(id=id, text=text):
                self._actions.append(Printed(id, text))
            case _:
                pass

    # Callers

    def _caller(self, peer: bytes, now: float) -> Caller:
        caller = self._callers.get(peer)
        if caller is None:
            caller = self._callers[peer] = Caller(peer, now)
        return caller

    def _on_ping(self, peer: bytes, ping: Ping, now: float) -> None:
        replica = self._replicas.get(peer)
        self._stamp += 1
        known = replica is not None
        if replica is None:
            # Replicas say READY before they PING; whoever is no replica is a caller.
            known = peer in self._callers
            caller = self._caller(peer, now)
            if (sent_at := caller.pongs.get(ping.echo)) is not None:
                caller.valid_until = max(caller.valid_until, sent_at + DISPATCH_S)
                self._unstall(caller, now)
            caller.pongs[self._stamp] = now
            if len(caller.pongs) > 8:
                caller.pongs.popitem(last=False)
        pong = Pong(number=ping.number, epoch=self.epoch, stamp=self._stamp, known=known)
        self._actions.append(Send(peer, pong))

    def _unstall(self, caller: Caller, now: float) -> None:
        if caller.stalled and caller.valid_until > now:
            stalled, caller.stalled = caller.stalled, {}
            for call in reversed(stalled.values()):
                self._pool(call.function).queue.push_front(call.id, call, call.size)
            for function in {call.function for call in stalled.values()}:
                self._hand_out(function, now)

    def _unqueue(self, call: OpenCall) -> None:
        """It waits no more, wherever it did."""
        call.caller.stalled.pop(call.id, None)
        if (pool := self._pools.get(call.function)) is not None:
            pool.queue.remove(call.id)

    def _on_call(self, peer: bytes, call: Call, now: float) -> None:
        if (known := self._calls.get(call.id)) is not None:
            self._on_repeated(known, peer, call, now)
            return
        if call.id in self._done:
            _, error = self._done[call.id]
            if error is not None:
                self._actions.append(Send(peer, error))
            return
        caller = self._caller(peer, now)
        if len(caller.calls) >= self._limits.caller:
            message = f"{len(caller.calls)} calls of yours are open, the limit"
            self._refuse(peer, call, "queue_full", message, safe=not call.resend)
            return
        made = OpenCall(call, call.function, caller, now)
        if call.resend and call.id in self._held:
            self._open(made)
            self._claim(made, self._held[call.id][0])
            self._ask(made, now)
        elif call.resend and self._may_be_elsewhere(caller, now):
            self._open(made)
            self._recover(made, now)
        elif call.resend and (error := self._judgement(call)) is not None:
            self._actions.append(Send(peer, error))
        else:
            self._enqueue(made, now)

    def _enqueue(self, call: OpenCall, now: float) -> None:
        peer = call.caller.peer
        function, error = self._resolve(call.call.function)
        if function is None:
            self._actions.append(Send(peer, error.replace(id=call.id, retry_safe=call.untouched)))
            return
        call.function = function
        try:
            self._pool(function).queue.push(call.id, call, call.size)
        except QueueFullError as full:
            safe = call.untouched
            self._refuse(peer, call.call, "queue_full", f"{function}: {full}", safe=safe)
            return
        self._open(call)
        self._fail_waiting(function, now)
        self._hand_out(function, now)

    @staticmethod
    def _may_be_elsewhere(caller: Caller, now: float) -> bool:
        """Whether another router may have handed out what this caller resends."""
        return now < caller.astray_at + BACK_S

    def _recover(self, call: OpenCall, now: float) -> None:
        call.phase = Phase.RECOVERING
        until, young_until = now + RECOVERY_S, self._started_at + RECOVERY_S
        if now < young_until:  # replicas have been looking for this router since it started
            until = max(young_until, now + RETURN_S)
        self._look(call, min(call.deadline, until))

    def _open(self, call: OpenCall) -> None:
        self._calls[call.id] = call
        call.caller.calls[call.id] = call
        self._look(call, call.deadline)

    def _look(self, call: OpenCall, at: float) -> None:
        """Have a look at the call then."""
        call.due = at
        heapq.heappush(self._dues, (at, next(self._order), call.id))
        if len(self._dues) > 2 * len(self._calls) + 1024:  # mostly calls that are over
            self._dues = [(c.due, n, c.id) for n, c in enumerate(self._calls.values())]
            heapq.heapify(self._dues)

    def _on_repeated(self, call: OpenCall, peer: bytes, again: Call, now: float) -> None:
        """The caller reconnected and asks: it hears what the replica, who knows best, repeats."""
        if call.caller.peer != peer:
            call.caller.calls.pop(call.id, None)
            stalled = call.caller.stalled.pop(call.id, None)
            call.caller = self._caller(peer, now)
            call.caller.calls[call.id] = call
            if stalled is not None:
                call.caller.stalled[call.id] = call
        if call.phase is Phase.ANSWERED and call.error is not None:
            self._actions.append(Send(peer, call.error))
        elif call.phase is Phase.ANSWERED and call.replica is None:
            self._actions.append(Send(peer, self._lost(call, "the answer was lost with it")))
        elif call.replica is not None:
            self._ask(call, now)
        elif again.resend and self._may_be_elsewhere(call.caller, now):
            # It has waited here, and may have been accepted there meanwhile.
            self._unqueue(call)
            call.call = again
            self._recover(call, now)

    def _ask(self, call: OpenCall, now: float) -> None:
        """What became of it? Without the body: the answer of who doesn't hold it is BUSY."""
        assert call.replica is not None
        replica = self._replicas[call.replica]
        question = self._forward(call, replica, now).replace(resend=True, body=None)
        self._actions.append(Send(call.replica, question))

    def _resolve(self, name: str) -> tuple[str | None, Error]:
        """The full name of the function that is meant, or the error that says why there is none."""
        nothing = Error(code="", message="")
        pool = self._pools.get(name)
        joined = pool is not None and pool.joined
        if joined or self._functions is None or name in self._functions:
            return name, nothing
        candidates = sorted(self._short.get(name, ()))
        if len(candidates) == 1:
            return candidates[0], nothing
        if candidates:
            message = f"{name!r} may be {' or '.join(candidates)}"
            hint = "call it by its full name"
            return None, Error(
                code="ambiguous_function", message=message, hint=hint, function=name,
                retry_safe=True,
            )  # fmt: skip
        return None, Error(
            code="function_not_found",
            message=f"no function {name!r}",
            hint=self._suggestion(name),
            function=name,
            retry_safe=True,
        )

    def _suggestion(self, name: str) -> str:
        # Kept, since comparing with a thousand names takes milliseconds, and programs repeat
        # their mistakes.
        if name not in self._suggestions:
            if len(self._suggestions) >= SUGGESTIONS:
                self._suggestions.clear()
            known = [*(self._functions or ()), *self._short]
            near = difflib.get_close_matches(name[:MAX_NAME], known, n=1)
            self._suggestions[name] = f"did you mean {near[0]!r}?" if near else ""
        return self._suggestions[name]

    # Handing out

    def _hand_out(self, function: str, now: float) -> None:
        pool = self._pools[function]
        while pool.free and len(pool.queue):
            peer, replica = next(iter(pool.free.items()))
            if now - replica.heard_at > SUSPECT_S or replica.gone_at is not None:
                del pool.free[peer]  # it is put back when it speaks
                continue
            call = pool.queue.pop()
            assert call is not None
            if call.caller.valid_until <= now or call.caller.gone_at is not None:
                call.caller.stalled[call.id] = call
                continue
            self._give(call, peer, replica, now)
            if replica.free == 0:
                del pool.free[peer]

    def _give(self, call: OpenCall, peer: bytes, replica: Replica, now: float) -> None:
        replica.free -= 1
        replica.calls[call.id] = call
        call.replica, call.phase, call.sent_at, call.asked = peer, Phase.SENT, now, False
        self._actions.append(Send(peer, self._forward(call, replica, now), call.id))

    def _forward(self, call: OpenCall, replica: Replica, now: float) -> Call:
        patience = max(1, round((call.deadline - now) * 1000))
        return call.call.replace(
            function=replica.function,
            session=replica.ready.session,
            deadline_ms=patience,
            attempt=call.attempt,
            resend=False,
            accepted_by="",
        )

    # Replicas

    def _on_ready(self, peer: bytes, ready: Ready, now: float) -> None:
        old = self._replicas.get(peer)
        if old is not None and (old.ready.session, old.function) != (ready.session, ready.function):
            self._lose(peer, now, kept=set(ready.held))
            old = None
        self._forget(peer)
        caller = self._callers.get(peer)
        if caller is not None and not caller.calls:
            del self._callers[peer]  # it has asked before it was ready
        pool = self._pool(ready.function)
        replica = self._replicas[peer] = Replica(ready, now)
        pool.replicas.add(peer)
        pool.joined = True
        if not self._speaks(ready):
            message = f"protocol {ready.protocol} isn't spoken here ({PROTOCOL}, {PROTOCOL - 1})"
            self._actions.append(Send(peer, Error(code="protocol_error", message=message)))
            replica.free = 0
        else:
            pool.failure, pool.failed_wait = None, 0.0
        for id in ready.held:
            self._on_held(id, peer, now)
        if old is not None:
            self._on_not_held(old, peer, now)
        if replica.free:
            pool.free[peer] = replica
            self._hand_out(ready.function, now)

    def _on_held(self, id: str, peer: bytes, now: float) -> None:
        """A replica has joined, or joined again, with this call."""
        call = self._calls.get(id)
        if call is None:
            if id in self._done:
                # Whatever it does with it, running or done, nobody waits for it.
                self._actions += [Send(peer, Cancel(id=id)), Send(peer, Ack(id=id))]
            else:
                self._hold(id, peer, now)
        elif call.replica is None:
            if call.phase is Phase.ANSWERED:
                call.replica, self._replicas[peer].calls[id] = peer, call
            else:
                self._claim(call, peer)
            self._ask(call, now)
        elif call.replica == peer:
            self._replicas[peer].calls[id] = call
            self._ask(call, now)

    def _on_not_held(self, old: Replica, peer: bytes, now: float) -> None:
        """The same life, again. What it doesn't hold never arrived, or crosses with the READY."""
        replica = self._replicas[peer]
        for id, call in old.calls.items():
            if id in replica.ready.held or call.replica != peer:
                continue
            if call.phase is Phase.ANSWERED:
                call.replica = None
            else:
                replica.calls[id] = call
                replica.free = max(0, replica.free - 1)
                call.asked = True
                self._ask(call, now)

    def _hold(self, id: str, peer: bytes, now: float) -> None:
        """A replica has a call that nobody has asked for yet."""
        if id not in self._held:
            self._held[id] = (peer, now)
            self._replicas[peer].orphans.add(id)

    @staticmethod
    def _speaks(ready: Ready) -> bool:
        return ready.protocol in (PROTOCOL, PROTOCOL - 1)

    def _claim(self, call: OpenCall, peer: bytes) -> None:
        """A replica holds a call that this router has not given to it."""
        self._unqueue(call)
        self._release(call.id)
        replica = self._replicas[peer]
        replica.calls[call.id] = call
        call.function = replica.function
        call.replica, call.phase, call.accepted = peer, Phase.RUNNING, True
        self._look(call, call.deadline)

    def _release(self, id: str) -> None:
        """Somebody has asked for it, or it is over."""
        holder = self._held.pop(id, None)
        if holder is not None and (replica := self._replicas.get(holder[0])) is not None:
            replica.orphans.discard(id)

    def _on_accept(self, peer: bytes, accept: Accept, frames: Sequence[bytes], now: float) -> None:
        id = accept.id
        call = self._calls.get(id)
        if call is None:
            if peer in self._replicas and id not in self._done:
                self._hold(id, peer, now)
            return
        if call.replica is None and call.phase is not Phase.ANSWERED and peer in self._replicas:
            self._claim(call, peer)
        if call.replica != peer:
            return
        if call.phase is Phase.SENT:
            call.phase, call.started_at = Phase.RUNNING, now
        call.accepted = True
        if call.size > KEPT_BODY and not call.call.idempotent:
            call.call = call.call.replace(body=None)
        self._actions.append(Send(call.caller.peer, frames))

    def _on_busy(self, peer: bytes, id: str, now: float) -> None:
        call = self._calls.get(id)
        if call is None or call.replica != peer:
            return
        replica = self._replicas.get(peer)
        if replica is not None:
            replica.calls.pop(id, None)
            if call.asked:
                self._vacate(peer, replica)
        self._not_taken(call, now)

    def _vacate(self, peer: bytes, replica: Replica) -> None:
        """A place of this replica is free again."""
        if not replica.leaving:
            replica.free += 1
            self._pools[replica.function].free[peer] = replica

    def _not_taken(self, call: OpenCall, now: float) -> None:
        """Its replica says that it doesn't have the call."""
        if call.phase is Phase.SENT and not call.accepted:
            self._requeue(call, now)
        else:
            self._settle_lost(call, now)

    def _on_bye(self, peer: bytes, bye: Bye, now: float) -> None:
        self._actions.append(Send(peer, Ack(id=bye.session)))
        replica = self._replicas.get(peer)
        if replica is None:
            return
        replica.leaving, replica.free = True, 0
        self._pools[replica.function].free.pop(peer, None)
        for id, call in list(replica.calls.items()):
            if id not in bye.held and call.replica == peer:
                del replica.calls[id]
                self._not_taken(call, now)
        if not bye.held:
            self._forget(peer)

    def _on_failed(self, peer: bytes, failed: Failed, now: float) -> None:
        pool = self._pool(failed.function)
        replica = self._replicas.get(peer)
        self._forget(peer)
        for call in list(replica.calls.values()) if replica is not None else ():
            if call.replica == peer:
                self._not_taken(call, now)
        self._caller(peer, now)  # known, so that it won't say it again
        if now >= pool.failed_until:
            # One step for all that fail in the same round, however many they are.
            pool.failed_wait = min(max(FAILED_S, 2 * pool.failed_wait), FAILED_MAX_S)
            pool.failed_until = now + pool.failed_wait
        pool.failure, pool.joined = failed, True
        wait_ms = round((pool.failed_until - now) * 1000)
        self._actions.append(Send(peer, Ack(id=failed.session, wait_ms=wait_ms)))
        self._fail_waiting(failed.function, now)

    def _fail_waiting(self, function: str, now: float) -> None:
        """Nobody can serve these: tell the callers why, instead of letting them wait."""
        pool = self._pool(function)
        failure = pool.failure
        if pool.replicas or failure is None or now > pool.failed_until + FAILURE_S:
            return
        while (call := pool.queue.pop()) is not None:
            self._end(
                call,
                Error(
                    code="init_failed",
                    message=failure.message,
                    traceback=failure.traceback,
                    replica=failure.replica,
                    retry_safe=call.untouched,
                ),
                now,
            )

    def _requeue(self, call: OpenCall, now: float) -> None:
        call.replica, call.phase, call.asked = None, Phase.QUEUED, False
        if call.cancelled:
            message, safe = "cancelled by the caller", call.untouched
            self._end(call, Error(code="cancelled", message=message, retry_safe=safe), now)
            return
        self._pool(call.function).queue.push_front(call.id, call, call.size)
        self._fail_waiting(call.function, now)
        self._hand_out(call.function, now)

    def _forget(self, peer: bytes) -> None:
        replica = self._replicas.pop(peer, None)
        if replica is not None:
            pool = self._pools[replica.function]
            pool.free.pop(peer, None)
            pool.replicas.discard(peer)
            for id in replica.orphans:
                self._held.pop(id, None)

    def _lose(self, peer: bytes, now: float, kept: set[str]) -> None:
        """A replica is gone, with all its calls but those that its next life holds (`kept`)."""
        replica = self._replicas[peer]
        self._forget(peer)
        for call in list(replica.calls.values()):
            if call.replica == peer and call.id not in kept:
                self._settle_lost(call, now)

    def _settle_lost(self, call: OpenCall, now: float) -> None:
        call.replica = None
        if call.phase is Phase.ANSWERED:
            return  # the outcome is on its way to the caller, who may still ask
        if call.call.idempotent and not call.cancelled:
            call.attempt += 1
            call.accepted = False
            self._requeue(call, now)
        else:
            self._end(call, self._lost(call, "the call may have run"), now)

    @staticmethod
    def _lost(call: OpenCall, consequence: str) -> Error:
        return Error(
            id=call.id,
            code="replica_lost",
            message=f"the replica is gone; {consequence}",
            function=call.function,
        )

    # Outcomes

    def _on_outcome(
        self, peer: bytes, outcome: Result | Error, frames: Sequence[bytes], now: float
    ) -> None:
        if outcome.id is None:
            return
        call = self._calls.get(outcome.id)
        replica = self._replicas.get(peer)
        refused = isinstance(outcome, Error) and outcome.retry_safe
        if call is None:
            if outcome.id in self._done:
                self._actions.append(Send(peer, Ack(id=outcome.id)))
                if refused and replica is not None and not replica.calls and not replica.free:
                    self._vacate(peer, replica)
            elif replica is not None and not refused:
                self._hold(outcome.id, peer, now)  # its caller may still ask
            return
        if (
            call.replica is None
            and call.phase is not Phase.ANSWERED
            and replica is not None
            and not refused
        ):
            self._claim(call, peer)
        if call.replica != peer:
            self._actions.append(Send(peer, Ack(id=outcome.id)))
            return
        self._actions.append(Send(call.caller.peer, frames))
        if call.phase in (Phase.SENT, Phase.RUNNING):
            call.phase = Phase.ANSWERED
            call.error = outcome if isinstance(outcome, Error) else None
            self._log(call, outcome, now)
            replica = self._replicas[peer]
            self._vacate(peer, replica)
            self._hand_out(replica.function, now)

    def _on_ack(self, peer: bytes, id: str, frames: Sequence[bytes], now: float) -> None:
        call = self._calls.get(id)
        if call is None:
            if (holder := self._held.get(id)) is not None:
                self._actions.append(Send(holder[0], frames))
                self._release(id)
            if id not in self._done:
                self._remember(id, None, now)
            return
        if call.caller.peer != peer:
            return
        if call.replica is not None:
            if call.phase is not Phase.ANSWERED:  # answered by another replica or router
                self._tell_replica_cancel(call)
            self._actions.append(Send(call.replica, frames))
        self._unqueue(call)
        self._close(call, now)

    def _on_cancel(self, id: str, now: float) -> None:
        call = self._calls.get(id)
        if call is None or call.cancelled:
            return
        call.cancelled = True
        if call.phase in (Phase.SENT, Phase.RUNNING):
            self._tell_replica_cancel(call)
            call.give_up = min(call.give_up, now + GRACE_S)
            self._look(call, call.give_up)
        elif call.phase in (Phase.QUEUED, Phase.RECOVERING):
            message, safe = "cancelled by the caller", call.untouched
            self._end(call, Error(code="cancelled", message=message, retry_safe=safe), now)

    def _on_overdue(self, call: OpenCall, now: float) -> None:
        match call.phase:
            case Phase.RECOVERING if now < call.deadline:
                self._judge(call, now)
            case Phase.QUEUED | Phase.RECOVERING:
                self._expire(call, now)
            case _ if now < call.give_up:
                self._look(call, call.give_up)
            case Phase.ANSWERED:
                # Its caller, who had time enough, won't say that it has the outcome.
                if call.replica is not None:
                    self._actions.append(Send(call.replica, Ack(id=call.id)))
                self._close(call, now)
            case Phase.SENT | Phase.RUNNING:
                code = "deadline_exceeded" if now >= call.deadline else "cancelled"
                message = "the replica did not say what became of it in time"
                self._tell_replica_cancel(call)
                self._end(call, Error(code=code, message=message), now)

    def _expire(self, call: OpenCall, now: float) -> None:
        pool = self._pools.get(call.function)
        waited, replicas = now - call.queued_at, len(pool.replicas) if pool else 0
        self._end(
            call,
            Error(
                code="deadline_exceeded",
                message=f"waited {waited:.3g} s in the queue; {replicas} replicas",
                hint="raise the deadline, or the number of replicas",
                retry_safe=call.untouched,
            ),
            now,
        )

    def _tell_replica_cancel(self, call: OpenCall) -> None:
        if call.replica is not None:
            self._actions.append(Send(call.replica, Cancel(id=call.id)))

    def _judge(self, call: OpenCall, now: float) -> None:
        """The window is over and no replica holds it."""
        error = self._judgement(call.call)
        if error is None:
            function, error = self._resolve(call.call.function)
            if function is not None:
                call.function, call.phase = function, Phase.QUEUED
                self._look(call, call.deadline)
                self._requeue(call, now)
                return
        self._end(call, error.replace(retry_safe=False), now)

    @staticmethod
    def _judgement(call: Call) -> Error | None:
        """Why a call that was sent before, and that nobody holds, can't be run."""
        if call.accepted_by and not call.idempotent:
            message = f"{call.accepted_by} had accepted it and is gone; it may have run"
        elif call.body is None:
            message = "no replica knows of it"  # it was only a question
        else:
            return None
        return Error(id=call.id, code="replica_lost", message=message, function=call.function)

    def _refuse(self, peer: bytes, call: Call, code: str, message: str, *, safe: bool) -> None:
        error = Error(
            id=call.id, code=code, message=message, function=call.function, retry_safe=safe
        )
        self._actions.append(Send(peer, error))

    def _end(self, call: OpenCall, error: Error, now: float) -> None:
        """The router's own word on a call: its caller hears it, and the call is over."""
        self._unqueue(call)
        error = error.replace(id=call.id, function=call.function)
        self._log(call, error, now)
        self._actions.append(Send(call.caller.peer, error))
        self._close(call, now, error)

    def _close(self, call: OpenCall, now: float, error: Error | None = None) -> None:
        self._remember(call.id, error, now)
        self._drop(call)

    def _drop(self, call: OpenCall) -> None:
        self._calls.pop(call.id, None)
        call.caller.calls.pop(call.id, None)
        if call.replica is not None and (replica := self._replicas.get(call.replica)) is not None:
            replica.calls.pop(call.id, None)
            if call.asked:
                self._vacate(call.replica, replica)  # it may never have come to it
            if replica.leaving and not replica.calls:
                self._forget(call.replica)

    def _remember(self, id: str, error: Error | None, now: float) -> None:
        self._done[id] = (now, error)
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    def _log(self, call: OpenCall, outcome: Result | Error, now: float) -> None:
        sent = call.sent_at if call.replica is not None else now
        started = call.started_at if call.accepted else now
        error = outcome if isinstance(outcome, Error) else None
        self._actions.append(
            Finish(
                Record(
                    id=call.id,
                    function=call.function,
                    outcome=error.code if error else "ok",
                    replica=outcome.replica,
                    at=now,
                    queue_ms=round((sent - call.queued_at) * 1000),
                    start_ms=round((started - sent) * 1000) if call.accepted else 0,
                    run_ms=round((now - started) * 1000) if call.accepted else 0,
                    attempt=call.attempt,
                    output_tail=error.output_tail if error else "",
                    message=error.message if error else "",
                )
            )
        )

    # Who is there

    def _on_unreachable(self, peer: bytes, id: str, now: float) -> None:
        if (replica := self._replicas.get(peer)) is not None:
            if replica.gone_at is None:
                replica.gone_at = now
            self._pools[replica.function].free.pop(peer, None)
            call = self._calls.get(id)
            if call is not None and call.replica == peer and call.phase is Phase.SENT:
                del replica.calls[id]
                replica.free += 1
                self._requeue(call, now)
        elif (caller := self._callers.get(peer)) is not None and caller.gone_at is None:
            caller.gone_at = now

    def _on_catalogue(self, functions: Mapping[str, Sequence[str]], now: float) -> None:
        self._functions = set(functions)
        self._short, self._suggestions = {}, {}
        for function, names in functions.items():
            for name in names:
                if name != function:
                    self._short.setdefault(name, set()).add(function)
        for name in [name for name in self._pools if name not in self._functions]:
            pool = self._pools[name]
            if pool.replicas:
                continue  # being removed; its last calls end first
            del self._pools[name]
            while (call := pool.queue.pop()) is not None:
                self._rename(call, now)

    def _rename(self, call: OpenCall, now: float) -> None:
        """It waits for a function that was removed, or for one whose short name it was given."""
        function, error = self._resolve(call.call.function)
        if function is None:
            self._end(call, error.replace(retry_safe=call.untouched), now)
            return
        call.function = function
        queue = self._pool(function).queue
        queue.push_back(call.id, call, call.size)
        self._hand_out(function, now)

    def _pool(self, function: str) -> Pool:
        pool = self._pools.get(function)
        if pool is None:
            queue: Queue[OpenCall] = Queue(limit=self._limits.queue, budget=self._budget)
            pool = self._pools[function] = Pool(queue)
        return pool

    def _sweep(self, now: float) -> None:
        if now > self._sweep_at + SUSPECT_S:
            # It was us who slept: what the others have said meanwhile isn't read yet.
            peers: list[Replica | Caller] = [*self._replicas.values(), *self._callers.values()]
            for one in peers:
                one.heard_at = now
        self._sweep_at = now + SWEEP_S
        for peer, replica in list(self._replicas.items()):
            returns_by = RETURN_S if replica.gone_at is not None else LOST_S
            since = replica.heard_at if replica.gone_at is None else replica.gone_at
            if now - since > returns_by:
                function = replica.function
                self._lose(peer, now, kept=set())
                self._fail_waiting(function, now)
                continue
            self._probe(peer, replica, now)
            pool = self._pools[replica.function]
            if replica.free and replica.state(now) != "suspect" and peer not in pool.free:
                pool.free[peer] = replica
                self._hand_out(replica.function, now)
        for peer, caller in list(self._callers.items()):
            returns_by = RETURN_S if caller.gone_at is not None else LOST_S
            since = caller.heard_at if caller.gone_at is None else caller.gone_at
            if now - since > returns_by:
                del self._callers[peer]
                for call in list(caller.calls.values()):
                    self._abandon(call, now)
            elif caller.calls:
                self._probe(peer, caller, now)
        while self._held and next(iter(self._held.values()))[1] < now - LOST_S:
            self._give_up_orphan(now)
        while self._done and next(iter(self._done.values()))[0] < now - REMEMBER_S:
            self._done.popitem(last=False)

    def _probe(self, peer: bytes, one: Replica | Caller, now: float) -> None:
        silent = now - one.heard_at
        if one.gone_at is None and silent // PROBE_S > max(0, silent - SWEEP_S) // PROBE_S:
            self._actions.append(Send(peer, Ping(number=0)))

    def _give_up_orphan(self, now: float) -> None:
        """Nobody has asked for it: it is stopped, or acknowledged in its caller's place."""
        id, (peer, _) = self._held.popitem(last=False)
        self._replicas[peer].orphans.discard(id)
        self._actions += [Send(peer, Cancel(id=id)), Send(peer, Ack(id=id))]
        message = "its caller did not ask for it in time"
        self._remember(id, Error(id=id, code="replica_lost", message=message), now)

    def _abandon(self, call: OpenCall, now: float) -> None:
        """Its caller is gone: not run, or stopped, or acknowledged in the caller's place."""
        self._unqueue(call)
        if call.phase is not Phase.ANSWERED:
            self._log(call, Error(code="cancelled", message="its caller is gone"), now)
        if call.phase in (Phase.QUEUED, Phase.RECOVERING):
            self._drop(call)  # nothing has happened, so that its caller may well come back
            return
        if call.phase is not Phase.ANSWERED:
            self._tell_replica_cancel(call)
        elif call.replica is not None:
            self._actions.append(Send(call.replica, Ack(id=call.id)))
        message = "its caller was silent for too long, and it was given up"
        self._close(call, now, Error(id=call.id, code="replica_lost", message=message))
