"""The calls that wait, and how they are handed out. Pure.

- A call waits in its function's queue, or in its caller's `stalled` if its turn came while that
  was silent; never in both.
- First come, first served, for each function by itself: one function's queue is never in the way
  of another's. What comes back goes to the head.
- A call is handed out only while its caller is alive and stands with this router (`callers`), to
  a replica that has a free place and isn't suspect.
- No more calls of a function run at once than its rules say.
- Where nobody can serve a call, its caller hears why at once, instead of waiting. A name that is
  unknown waits for the next catalogue.
"""

from __future__ import annotations

from collections.abc import Collection

from funker.controller.callers import stands
from funker.controller.forward import header
from funker.controller.ledger import Ledger
from funker.controller.names import Names
from funker.controller.queue import QueueFullError
from funker.controller.replicas import Replicas
from funker.controller.retries import Retries, final
from funker.controller.tables import Caller, Limits, OpenCall, Phase, Pool, Replica, Send
from funker.rpc.messages import Error

#: Seconds for which a replica that was here proves that its function's replicas can come here.
ROUTED_S = 60.0


class Waiting:
    """The queues of all functions."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        replicas: Replicas,
        retries: Retries,
        names: Names,
        limits: Limits,
    ) -> None:
        #: Functions whose replicas can't join this router.
        self.unrouted: Collection[str] = ()
        #: Functions whose calls wait for more replicas than there are and than start.
        self.demanding: set[str] = set()
        self._ledger = ledger
        self._replicas = replicas
        self._retries = retries
        self._names = names
        self._limits = limits

    def enqueue(self, call: OpenCall, now: float) -> None:
        """A call that has not been here joins its queue, or its caller hears why it can't."""
        name = call.call.function
        function = self.resolve(name, now)
        if isinstance(function, Error) and self._names.may_come(name, now):
            function = name
        if isinstance(function, Error):
            error = function.replace(id=call.id, retry_safe=call.untouched)
            self._ledger.actions.append(Send(call.caller.peer, error))
            return
        call.function = function
        pools = self._replicas.pools
        unknown = function not in pools and function not in self._names
        if unknown and len(pools) >= self._limits.names:
            message = f"calls wait for {len(pools)} functions, the limit for unknown ones"
            hint = "nobody tells the router what functions there are: is the reconciler running?"
            self._ledger.refuse(call, "queue_full", message, hint)
            return
        pool = self._replicas.pool(function)
        try:
            pool.queue.push(call.id, call, call.size)
        except QueueFullError as full:
            self._ledger.refuse(call, "queue_full", f"{function}: {full}", full.hint)
            return
        self._ledger.add(call)
        if not call.call.resend:  # else it came long ago, and runs already perhaps
            pool.demand.arrived(now)
        if pool.failure is not None:
            self.fail_waiting(function, now)
        self.hand_out(function, now)
        if not pool.free and pool.queue:
            self._demand(function, pool)

    def resolve(self, name: str, now: float) -> str | Error:
        """The full name of the function that is meant, or why it can't be called."""
        pool = self._replicas.pools.get(name)
        served = pool is not None and pool.joined_at is not None  # whether or not we were told
        function = name if served else self._names.resolve(name)
        if self.unrouted and isinstance(function, str):
            return self._unrouted(function, now) or function
        return function

    def _unrouted(self, function: str, now: float) -> Error | None:
        """Why calls of this function can't come through here; None if they can."""
        pool = self._replicas.pools.get(function)
        if function not in self.unrouted or (pool is not None and _joined_lately(pool, now)):
            return None
        return Error(
            code="router_unavailable",
            message=f"the replicas of {function} can't join the router: "
            "they lack its key, or aren't on its network",
            hint=f"`funker deploy` it again, or give its replicas the key themselves: "
            f"`docker service update --secret-add funker-client-key {function}`",
            function=function,
        )

    def requeue(self, call: OpenCall, now: float) -> None:
        """It goes back to the head of its queue, where its deadline goes on."""
        call.replica, call.phase, call.asked = None, Phase.QUEUED, False
        if call.cancelled:
            message, safe = "cancelled by the caller", call.untouched
            self._ledger.end(call, Error(code="cancelled", message=message, retry_safe=safe), now)
            return
        if now >= call.deadline:
            self.expire(call, now)
            return
        pool = self._replicas.pool(call.function)
        pool.queue.push_front(call.id, call, call.size)
        self.fail_waiting(call.function, now)
        self.hand_out(call.function, now)
        self._demand(call.function, pool)

    def retry(self, call: OpenCall, now: float) -> None:
        """Its next try is due. It has waited before, so it goes to the head."""
        function = self.resolve(call.call.function, now)
        if isinstance(function, Error):
            self._ledger.end(call, function.replace(retry_safe=call.untouched), now)
            return
        call.function, call.queued_at = function, now
        self._ledger.agenda.note(call, call.deadline)
        self._replicas.pool(function).demand.arrived(now)
        self.requeue(call, now)

    def _demand(self, function: str, pool: Pool) -> None:
        """Note if what starts can't take all that waits for a replica."""
        starting = pool.starting * pool.slots
        waits = len(pool.queue) > starting and not pool.free and not pool.is_at_its_limit
        if waits and function in self._names:
            self.demanding.add(function)

    def fail_waiting(self, function: str, now: float) -> None:
        """If nobody can serve these, tell the callers why, instead of letting them wait."""
        pool = self._replicas.pool(function)
        failure = self._replicas.standing_failure(pool, now)
        if failure is None:
            return
        error = Error(
            code="init_failed",
            message=failure.message,
            traceback=failure.traceback,
            replica=failure.replica,
        )
        while (call := pool.queue.pop()) is not None:
            # This try has not started, whatever the ones before have done.
            if not self._retries.again(call, error.replace(retry_safe=True), now):
                last = final(call, error.replace(retry_safe=call.untouched))
                self._ledger.end(call, last, now)

    def fail_unrouted(self, now: float) -> None:
        """The same for those whose replicas can't come here."""
        for function in self.unrouted:
            pool = self._replicas.pools.get(function)
            if pool is None or (error := self._unrouted(function, now)) is None:
                continue
            while (call := pool.queue.pop()) is not None:
                self._ledger.end(call, error.replace(retry_safe=call.untouched), now)

    def rename(self, waiting: Pool, now: float) -> None:
        """These wait for a function that was removed, or for one whose short name they gave."""
        while (call := waiting.queue.pop()) is not None:
            function = self.resolve(call.call.function, now)
            if isinstance(function, Error):
                self._ledger.end(call, function.replace(retry_safe=call.untouched), now)
                continue
            call.function = function
            self._replicas.pool(function).queue.push_back(call.id, call, call.size)
            self.hand_out(function, now)

    def unstall(self, caller: Caller, now: float) -> None:
        """A caller stands again: its calls whose turn came meanwhile go first."""
        if not caller.stalled or not stands(caller, now):
            return
        stalled, caller.stalled = caller.stalled, {}
        for call in reversed(stalled.values()):
            self._replicas.pool(call.function).queue.push_front(call.id, call, call.size)
        for function in {call.function for call in stalled.values()}:
            self.hand_out(function, now)

    def expire(self, call: OpenCall, now: float) -> None:
        pool = self._replicas.pools.get(call.function)
        waited, replicas = now - call.queued_at, len(pool.replicas) if pool else 0
        message = f"waited {waited:.3g} s in the queue; {replicas} replicas"
        if (failure := call.failure) is not None:
            message += f"; attempt {call.attempt - 1} failed: {failure.code}: {failure.message}"
        error = Error(
            code="deadline_exceeded",
            message=message,
            hint="raise the deadline, or the number of replicas",
            retry_safe=call.untouched,
        )
        self._ledger.end(call, error, now)

    def hand_out(self, function: str, now: float) -> None:
        """Calls of this function go to its free replicas, as long as there are both."""
        pool = self._replicas.pool(function)
        free, queue, limit = pool.free, pool.queue, pool.rules.max_inflight
        while free and queue and (limit is None or pool.inflight < limit):
            replica = next(iter(free.values()))
            if replica.is_suspect(now):
                self._replicas.set_aside(replica)  # it is put back when it speaks
                continue
            call = queue.pop()
            assert call is not None
            if not stands(call.caller, now):
                call.caller.stalled[call.id] = call
                continue
            self._replicas.take_place(replica, call.id)
            replica.calls[call.id] = call
            call.replica, call.phase, call.asked = replica.peer, Phase.SENT, False
            call.sent_at, call.is_timed = now, True
            if call.failed_by:
                call.failed_by -= {replica.peer}  # its next outcome is that of this try
            self._ledger.actions.append(Send(replica.peer, _forwarded(call, replica, now), call.id))


def left_ms(call: OpenCall, now: float) -> int:
    """What is left of its deadline, in milliseconds; it is over when it has passed, not before."""
    return max(1, round((call.deadline - now) * 1000))


def _forwarded(call: OpenCall, replica: Replica, now: float) -> list[bytes]:
    """The call as this replica is to hear it."""
    left = left_ms(call, now)
    frames = [b"CALL", header(call.call, replica.address, deadline_ms=left, attempt=call.attempt)]
    if call.call.body is not None:
        frames.append(call.call.body)
    return frames


def _joined_lately(pool: Pool, now: float) -> bool:
    """Its replicas do come here, whatever is said of them."""
    return bool(pool.replicas) or (pool.joined_at is not None and now < pool.joined_at + ROUTED_S)
