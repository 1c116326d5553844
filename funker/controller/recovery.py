"""Calls that this router has not handed out itself, or may not have: they recover. Pure.

- A replica that joins tells what it holds. Who holds a call has it, whoever gave it: it is claimed,
  and asked for what became of it.
- A call that is sent again and that nobody holds waits for its holder, and is judged then: it is
  run only if it was certainly not accepted, or may run twice.
"""

from __future__ import annotations

from funker.controller.ledger import Ledger
from funker.controller.liveness import LOST_S, RETURN_S
from funker.controller.replicas import Replicas
from funker.controller.tables import OpenCall, Phase, Replica, Send
from funker.controller.waiting import Waiting, left_ms
from funker.rpc.messages import Ack, Call, Cancel, Error

#: Seconds that a resent call waits for a replica to tell that it holds it before it is judged.
RECOVERY_S = 3.0


class Recovery:
    """What replicas hold, and calls that wait to be held."""

    def __init__(self, *, ledger: Ledger, waiting: Waiting, replicas: Replicas, now: float) -> None:
        self._ledger = ledger
        self._waiting = waiting
        self._replicas = replicas
        self._started_at = now

    def held(self, id: str, replica: Replica, now: float) -> None:
        """A replica has joined, or joined again, with this call."""
        call = self._ledger.open.get(id)
        if call is None:
            if id in self._ledger.ended:
                # Whatever it does with it, running or done, nobody waits for it.
                self._ledger.actions += [
                    Send(replica.peer, Cancel(id=id)),
                    Send(replica.peer, Ack(id=id)),
                ]
            else:
                self._replicas.hold(id, replica, now)
        elif call.replica is None:
            if replica.peer in call.failed_by:
                self._ledger.actions.append(Send(replica.peer, Ack(id=id)))
                return
            if call.phase is Phase.ANSWERED:
                call.replica, replica.calls[id] = replica.peer, call
            else:
                self.claim(call, replica)
            self.ask(call, now)
        elif call.replica == replica.peer:
            replica.calls[id] = call
            if call.phase is not Phase.ANSWERED:
                self._replicas.run(replica, id)
            self.ask(call, now)

    def not_held(self, old: Replica, replica: Replica, now: float) -> None:
        """The same life, again. What it doesn't hold never arrived, or crosses with the READY."""
        for id, call in old.calls.items():
            if id in replica.ready.held or call.replica != replica.peer:
                continue
            if call.phase is Phase.ANSWERED:
                call.replica = None
            else:
                replica.calls[id] = call
                self._replicas.run(replica, id)
                replica.free = max(0, replica.free - 1)
                call.asked = True
                self.ask(call, now)

    def claim(self, call: OpenCall, replica: Replica) -> None:
        """A replica holds a call that this router has not given to it."""
        self._ledger.unqueue(call)
        self._replicas.release(call.id)
        replica.calls[call.id] = call
        self._replicas.run(replica, call.id)
        call.function, call.is_timed = replica.function, False
        call.replica, call.phase, call.accepted = replica.peer, Phase.RUNNING, True
        self._ledger.agenda.note(call, call.deadline)

    def ask(self, call: OpenCall, now: float) -> None:
        """What became of it? Without the body: the answer of who doesn't hold it is BUSY."""
        assert call.replica is not None
        replica = self._replicas.row(call.replica)
        open_ones, _ = call.questions.get(call.replica, (0, now))
        call.questions = {**call.questions, call.replica: (open_ones + 1, now)}
        question = call.call.replace(
            function=replica.function,
            session=replica.ready.session,
            deadline_ms=left_ms(call, now),
            attempt=call.attempt,
            resend=True,
            accepted_by="",
            body=None,
        )
        self._ledger.actions.append(Send(call.replica, question))

    def recover(self, call: OpenCall, now: float) -> None:
        """Wait for a replica that says it has the call."""
        call.phase = Phase.RECOVERING
        until, young_until = now + RECOVERY_S, self._started_at + RECOVERY_S
        if now < young_until:  # replicas have been looking for this router since it started
            until = max(young_until, now + RETURN_S)
        call.lost_at = until - RECOVERY_S + LOST_S
        self._ledger.agenda.note(call, min(call.deadline, until))

    def judge(self, call: OpenCall, now: float) -> None:
        """The window is over and no replica holds it.

        All that is left for a call that was accepted is an error, and somebody may hold its answer
        and not find this router at once, say where the engine that answers for names is away: it
        waits as long as for a replica that has fallen silent.
        """
        if now < call.lost_at and call.call.accepted_by and not self._may_run_twice(call.call, now):
            self._ledger.agenda.note(call, min(call.deadline, call.lost_at))
            return
        error = self.judgement(call.call, now)
        if error is None:
            function = self._waiting.resolve(call.call.function, now)
            if isinstance(function, str):
                call.function, call.phase = function, Phase.QUEUED
                self._ledger.agenda.note(call, call.deadline)
                self._waiting.requeue(call, now)
                return
            error = function
        self._ledger.end(call, error.replace(retry_safe=False), now)

    def judgement(self, call: Call, now: float) -> Error | None:
        """Why a call that was sent before, and that nobody holds, can't be run."""
        if call.accepted_by and not self._may_run_twice(call, now):
            message = f"{call.accepted_by} had accepted it and is gone; it may have run"
        elif call.body is None:
            message = "no replica knows of it"  # it was only a question
        else:
            return None
        return Error(id=call.id, code="replica_lost", message=message, function=call.function)

    def _may_run_twice(self, call: Call, now: float) -> bool:
        function = self._waiting.resolve(call.function, now)
        name = function if isinstance(function, str) else call.function
        return self._replicas.may_run_twice(call, name)

    def give_up(self, id: str, replica: Replica, now: float) -> None:
        """Nobody has asked for it: it is stopped, or acknowledged in its caller's place."""
        self._ledger.actions += [Send(replica.peer, Cancel(id=id)), Send(replica.peer, Ack(id=id))]
        message = "its caller did not ask for it in time"
        self._ledger.ended.add(id, Error(id=id, code="replica_lost", message=message), now)
