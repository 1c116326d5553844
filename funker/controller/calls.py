"""What becomes of each call in the router. Pure.

    RECOVERING ─claimed by a replica──────────► RUNNING
       └─window over─► QUEUED ─free replica─► SENT ─ACCEPT─► RUNNING ─outcome─► ANSWERED ─ACK─► over
                         ▲ ▲                    │                │
                         │ └─certainly not taken┘                │ an error that may be tried again,
                         └──────────────RETRYING◄────────────────┘ or lost: else over

Invariants:

- A call's phase changes here, in `recovery` (to RECOVERING, and to RUNNING where it is claimed), in
  `waiting` (to SENT and to QUEUED) and in `retries` (to RETRYING), and nowhere else.
- A call is with at most one replica, and goes to another only if it was certainly not accepted, or
  certainly did not start, or may run twice.
- Each caller hears exactly one outcome of each call, and each replica exactly one ACK.
- Nothing is O(number of calls) per message: queues and tables are dictionaries, deadlines a heap.
"""

from __future__ import annotations

from collections.abc import Sequence

from funker.controller.callers import Callers, may_be_elsewhere
from funker.controller.ledger import Ledger
from funker.controller.recovery import Recovery
from funker.controller.replicas import Replicas
from funker.controller.retries import Retries, final
from funker.controller.tables import GRACE_S, Limits, OpenCall, Phase, Replica, Send
from funker.controller.waiting import Waiting
from funker.rpc.messages import Ack, Call, Error

#: Bytes above which a call that won't be sent again isn't kept whole while it runs.
KEPT_BODY = 4096


class Calls:
    """What callers and replicas say of calls, and what time does to them."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        waiting: Waiting,
        retries: Retries,
        recovery: Recovery,
        callers: Callers,
        replicas: Replicas,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._waiting = waiting
        self._retries = retries
        self._recovery = recovery
        self._callers = callers
        self._replicas = replicas
        self._limits = limits

    # From callers

    def on_call(self, peer: bytes, call: Call, frames: Sequence[bytes], now: float) -> None:
        if (known := self._ledger.open.get(call.id)) is not None:
            self._on_repeated(known, peer, call, now)
            return
        if call.id in self._ledger.ended:
            if (error := self._ledger.ended.error(call.id)) is not None:
                self._ledger.actions.append(Send(peer, error))
            return
        caller = self._callers.meet(peer, now)
        made = OpenCall(call, caller, sum(map(len, frames[1:])), now)
        if len(caller.calls) >= self._limits.caller:
            message = f"{len(caller.calls)} calls of yours are open, the limit"
            hint = "wait for some of them before you make others"
            self._ledger.refuse(made, "queue_full", message, hint)
        elif not call.resend:
            self._waiting.enqueue(made, now)
        elif (holder := self._replicas.holder(call.id)) is not None:
            self._ledger.add(made)
            self._recovery.claim(made, holder)
            self._recovery.ask(made, now)
        elif may_be_elsewhere(caller, now):
            self._ledger.add(made)
            self._recovery.recover(made, now)
        elif (error := self._recovery.judgement(call, now)) is not None:
            self._ledger.actions.append(Send(peer, error))
        else:
            self._waiting.enqueue(made, now)

    def on_ack(self, peer: bytes, id: str, frames: Sequence[bytes], now: float) -> None:
        call = self._ledger.open.get(id)
        if call is None:
            if (holder := self._replicas.holder(id)) is not None:
                self._ledger.actions.append(Send(holder.peer, frames))
                self._replicas.release(id)
            if id not in self._ledger.ended:
                self._ledger.ended.add(id, None, now)
            return
        if call.caller.peer != peer:
            return
        if call.replica is not None:
            if call.phase is not Phase.ANSWERED:  # answered by another replica or router
                self._ledger.tell_replica_cancel(call)
            self._ledger.actions.append(Send(call.replica, frames))
        self._ledger.unqueue(call)
        self._ledger.close(call, now)

    def on_cancel(self, id: str, now: float) -> None:
        call = self._ledger.open.get(id)
        if call is None or call.cancelled:
            return
        call.cancelled = True
        if call.phase in (Phase.SENT, Phase.RUNNING):
            self._ledger.tell_replica_cancel(call)
            call.give_up = min(call.give_up, now + GRACE_S)
            self._ledger.agenda.note(call, call.give_up)
        elif call.phase in (Phase.QUEUED, Phase.RETRYING, Phase.RECOVERING):
            message, safe = "cancelled by the caller", call.untouched
            self._ledger.end(call, Error(code="cancelled", message=message, retry_safe=safe), now)

    def _on_repeated(self, call: OpenCall, peer: bytes, again: Call, now: float) -> None:
        """The caller reconnected and asks: it hears what the replica, who knows best, repeats."""
        if call.caller.peer != peer:
            call.caller.calls.pop(call.id, None)
            stalled = call.caller.stalled.pop(call.id, None)
            call.caller = self._callers.meet(peer, now)
            call.caller.calls[call.id] = call
            if stalled is not None:
                call.caller.stalled[call.id] = call
        if call.phase is Phase.ANSWERED and call.error is not None:
            self._ledger.actions.append(Send(peer, call.error))
        elif call.phase is Phase.ANSWERED and call.replica is None:
            self._ledger.actions.append(Send(peer, _lost(call, "the answer was lost with it")))
        elif call.replica is not None:
            self._recovery.ask(call, now)
        elif again.resend and may_be_elsewhere(call.caller, now):
            # It has waited here, and may have been accepted there meanwhile.
            self._ledger.unqueue(call)
            call.call = again
            self._recovery.recover(call, now)

    def abandon(self, call: OpenCall, now: float) -> None:
        """Its caller is gone: not run, or stopped, or acknowledged in the caller's place."""
        self._ledger.unqueue(call)
        if call.phase is not Phase.ANSWERED:
            gone = Error(code="cancelled", message="its caller is gone")
            self._ledger.log(call, gone, "", now)
        if call.phase in (Phase.QUEUED, Phase.RETRYING, Phase.RECOVERING):
            self._ledger.drop(call)  # nothing has happened, so that its caller may well come back
            return
        if call.phase is not Phase.ANSWERED:
            self._ledger.tell_replica_cancel(call)
        elif call.replica is not None:
            self._ledger.actions.append(Send(call.replica, Ack(id=call.id)))
        message = "its caller was silent for too long, and it was given up"
        self._ledger.close(call, now, Error(id=call.id, code="replica_lost", message=message))

    def on_unreachable(self, peer: bytes, id: str, now: float) -> None:
        """A call could not be sent to the replica that it was given to."""
        call = self._ledger.open.get(id)
        if call is not None and call.replica == peer and call.phase is Phase.SENT:
            replica = self._replicas.row(peer)
            del replica.calls[id]
            self._replicas.stop(replica, id)
            self._replicas.vacate(replica)
            self._replicas.set_aside(replica)
            self._waiting.requeue(call, now)

    # From replicas

    def on_accept(self, peer: bytes, id: str, frames: Sequence[bytes], now: float) -> None:
        call = self._ledger.open.get(id)
        if call is None:
            replica = self._replicas.get(peer)
            if replica is not None and id not in self._ledger.ended:
                self._replicas.hold(id, replica, now)
            return
        replica = self._replicas.get(peer)
        if _is_free(call) and replica is not None and peer not in call.failed_by:
            self._recovery.claim(call, replica)
        if call.replica != peer:
            return
        if call.phase is Phase.SENT:
            call.phase, call.started_at = Phase.RUNNING, now
        call.accepted = True
        if call.size > KEPT_BODY and not self._replicas.may_run_twice(call.call, call.function):
            call.call, call.is_whole = call.call.replace(body=None), False
        self._ledger.actions.append(Send(call.caller.peer, frames))

    def on_busy(self, peer: bytes, id: str, now: float) -> None:
        call = self._ledger.open.get(id)
        replica = self._replicas.get(peer)
        if call is not None and peer in call.questions:
            open_ones, asked_at = call.questions[peer]
            call.questions = {**call.questions, peer: (open_ones - 1, asked_at)}
        if call is None or call.replica != peer:
            if replica is not None:
                self._replicas.is_full(replica, now)  # it was given up, and its place with it
            return
        if replica is not None:
            replica.calls.pop(call.id, None)
            self._replicas.stop(replica, id)
            if call.asked:
                self._replicas.vacate(replica)
            elif call.phase is Phase.SENT:
                self._replicas.is_full(replica, now)
        self.not_taken(call, now)

    def on_result(self, peer: bytes, id: str, frames: Sequence[bytes], now: float) -> None:
        self.on_outcome(peer, id, None, frames, now)

    def on_outcome(
        self, peer: bytes, id: str, error: Error | None, frames: Sequence[bytes], now: float
    ) -> None:
        """A replica's last word on a call: an answer, or an error."""
        call = self._ledger.open.get(id)
        replica = self._replicas.get(peer)
        refused = error is not None and error.retry_safe
        if call is None and id not in self._ledger.ended:
            if replica is not None and not refused:
                self._replicas.hold(id, replica, now)  # its caller may still ask
                self._served(replica, now, refused=False)
            return
        is_news = not refused and (call is None or peer not in call.failed_by)
        if call is not None and _is_free(call) and replica is not None and is_news:
            self._recovery.claim(call, replica)
        if call is None or call.replica != peer:
            self._ledger.actions.append(Send(peer, Ack(id=id)))
            if replica is not None:
                self._served(replica, now, refused=refused)
        elif call.phase is Phase.ANSWERED:
            self._ledger.actions.append(Send(call.caller.peer, call.error or frames))
        else:
            assert replica is not None
            self._replicas.stop(replica, id)
            if call.is_timed and not refused:
                self._replicas.pool(replica.function).demand.service.add(now - call.sent_at, now)
            if error is None or not self._tried_again(call, error, replica, now):
                self._answered(call, error, frames, replica, now)
            self._served(replica, now, refused=refused)

    def _answered(
        self,
        call: OpenCall,
        error: Error | None,
        frames: Sequence[bytes],
        replica: Replica,
        now: float,
    ) -> None:
        if error is not None and (call.attempt > 1 or error.retry_safe):
            error = final(call, error)
            self._ledger.actions.append(Send(call.caller.peer, error))
        else:
            self._ledger.actions.append(Send(call.caller.peer, frames))
        call.phase, call.error = Phase.ANSWERED, error
        self._ledger.log(call, error, replica.ready.replica, now)

    def _tried_again(self, call: OpenCall, error: Error, replica: Replica, now: float) -> bool:
        """Its outcome isn't the call's: the replica is acknowledged in the caller's place."""
        if not self._retries.again(call, error, now):
            return False
        call.failed_by |= {replica.peer}
        replica.calls.pop(call.id, None)
        self._ledger.actions.append(Send(replica.peer, Ack(id=call.id)))
        return True

    def _served(self, replica: Replica, now: float, *, refused: bool) -> None:
        """It has given an outcome: it takes another call, or has had the one of its life."""
        if refused or not replica.ready.once:
            self._replicas.vacate(replica)
            self._waiting.hand_out(replica.function, now)
        elif not replica.leaving:  # without a BYE, which would compete with the outcome
            self._replicas.leave(replica)
            pool = self._replicas.pool(replica.function)
            pool.demand.departed(replica.ready.replica, now)
        if replica.leaving and not replica.calls and not replica.orphans:
            self._replicas.forget(replica.peer)

    def not_taken(self, call: OpenCall, now: float) -> None:
        """Its replica says that it doesn't have the call."""
        if call.phase is Phase.SENT and not call.accepted:
            self._waiting.requeue(call, now)
        else:
            self.lost(call, now)

    def lost(self, call: OpenCall, now: float) -> None:
        """Its replica is gone."""
        call.replica = None
        if call.phase is Phase.ANSWERED:
            return  # the outcome is on its way to the caller, who may still ask
        error = _lost(call, "the call may have run")
        if not self._retries.again(call, error, now):
            self._ledger.end(call, final(call, error), now)

    # Time

    def overdue(self, call: OpenCall, now: float) -> None:
        match call.phase:
            case Phase.RECOVERING if now < call.deadline:
                self._recovery.judge(call, now)
            case Phase.RETRYING if now < call.deadline:
                self._waiting.retry(call, now)
            case Phase.QUEUED | Phase.RETRYING | Phase.RECOVERING:
                self._waiting.expire(call, now)
            case _ if now < call.give_up:
                self._ledger.agenda.note(call, call.give_up)
            case Phase.ANSWERED:
                # Its caller, who had time enough, won't say that it has the outcome.
                if call.replica is not None:
                    self._ledger.actions.append(Send(call.replica, Ack(id=call.id)))
                self._ledger.close(call, now)
            case Phase.SENT | Phase.RUNNING:
                code = "deadline_exceeded" if now >= call.deadline else "cancelled"
                message = "the replica did not say what became of it in time"
                self._ledger.tell_replica_cancel(call)
                self._ledger.end(call, Error(code=code, message=message), now)


def _is_free(call: OpenCall) -> bool:
    """No replica has it here, and none has answered it."""
    return call.replica is None and call.phase is not Phase.ANSWERED


def _lost(call: OpenCall, consequence: str) -> Error:
    return Error(
        id=call.id,
        code="replica_lost",
        message=f"the replica is gone; {consequence}",
        function=call.function,
    )
