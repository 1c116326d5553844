"""The open calls and those that are over, and how a call begins and ends. Pure.

- A call is open from `add` to `close` or `drop`, and is in its caller's row all the time.
- The router's own word on a call (`end`) is said once, logged once, and remembered.
- What is to be done is in `actions`, in order.
"""

from __future__ import annotations

from funker.controller.agenda import Agenda
from funker.controller.ended import Ended
from funker.controller.replicas import Replicas
from funker.controller.tables import Action, Finish, OpenCall, Record, Send
from funker.rpc.messages import Cancel, Error


class Ledger:
    """Calls by id: `open`, with their moments in `agenda`, and `ended`."""

    def __init__(self, replicas: Replicas) -> None:
        self.actions: list[Action] = []
        self.open: dict[str, OpenCall] = {}
        self.ended = Ended()
        self.agenda = Agenda(self.open)
        self._replicas = replicas

    def add(self, call: OpenCall) -> None:
        self.open[call.id] = call
        call.caller.calls[call.id] = call
        self.agenda.note(call, call.deadline)

    def refuse(self, call: OpenCall, code: str, message: str, hint: str) -> None:
        """A call that was never here."""
        error = Error(
            id=call.id,
            code=code,
            message=message,
            hint=hint,
            function=call.call.function,
            retry_safe=call.untouched,
        )
        self.actions.append(Send(call.caller.peer, error))

    def end(self, call: OpenCall, error: Error, now: float) -> None:
        """The router's own word on a call: its caller hears it, and the call is over."""
        self.unqueue(call)
        error = error.replace(id=call.id, function=call.function)
        self.log(call, error, "", now)
        self.actions.append(Send(call.caller.peer, error))
        self.close(call, now, error)

    def unqueue(self, call: OpenCall) -> None:
        """It waits no more, wherever it did."""
        call.caller.stalled.pop(call.id, None)
        if (pool := self._replicas.pools.get(call.function)) is not None:
            pool.queue.remove(call.id)

    def close(self, call: OpenCall, now: float, error: Error | None = None) -> None:
        self.ended.add(call.id, error, now)
        self.drop(call)

    def drop(self, call: OpenCall) -> None:
        self.open.pop(call.id, None)
        call.caller.calls.pop(call.id, None)
        if call.replica is not None and (replica := self._replicas.get(call.replica)) is not None:
            replica.calls.pop(call.id, None)
            if replica.running:
                self._replicas.stop(replica, call.id)
            if call.asked:
                self._replicas.vacate(replica)  # it may never have come to it
            if replica.leaving and not replica.calls:
                self._replicas.forget(call.replica)

    def tell_replica_cancel(self, call: OpenCall) -> None:
        if call.replica is not None:
            self.actions.append(Send(call.replica, Cancel(id=call.id)))

    def log(self, call: OpenCall, error: Error | None, replica: str, now: float) -> None:
        """What became of it, and by which replica's word; empty: by the router's."""
        sent = call.sent_at if call.replica is not None else now
        # Of a short call its replica sends no ACCEPT: all of its time counts as the handler's.
        started = call.started_at if call.accepted else sent
        record = Record(
            id=call.id,
            function=call.function,
            outcome=error.code if error else "ok",
            replica=replica,
            at=now,
            queue_ms=round((sent - call.queued_at) * 1000),
            start_ms=round((started - sent) * 1000),
            run_ms=round((now - started) * 1000) if replica else 0,
            attempt=call.attempt,
            output_tail=error.output_tail if error else "",
            message=error.message if error else "",
        )
        self.actions.append(Finish(record))
