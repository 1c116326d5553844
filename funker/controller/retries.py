"""Calls that are tried again after an error. Pure.

- An error that says that the function certainly did not start is tried again, as often as the
  function's policy says. So is any failure of a call that may run twice: its caller says so, or
  its function does.
- A call that may run twice and whose replica was lost is tried again whatever the policy: at once,
  and then, since it may be what kills them, `LOST_TRIES` times in all.
- A call that waits for its next try is with no replica and in no queue. It is cancelled, expires
  and recovers like one that waits in a queue.
- Nobody waits for a try that would come after the deadline: the last error is the outcome.
- An outcome that was followed by another try counts once, however often it is repeated.
"""

from __future__ import annotations

from hashlib import blake2b

from funker.controller.ledger import Ledger
from funker.controller.liveness import SWEEP_S
from funker.controller.replicas import Replicas
from funker.controller.tables import OpenCall, Phase
from funker.rpc.messages import Error

#: What may pass. Everything else would only fail again, or is the caller's own doing.
FAILURES = frozenset({"function_error", "function_crashed", "function_timeout", "replica_lost"})
UNSTARTED = frozenset({"init_failed"}) | FAILURES
#: How often in all a call is run whose replicas are lost, where its policy doesn't say more.
LOST_TRIES = 3
#: Seconds between two tries, at most.
BACKOFF_MAX_S = 60.0


class Retries:
    """Which calls are tried again, and when."""

    def __init__(self, *, ledger: Ledger, replicas: Replicas) -> None:
        self._ledger = ledger
        self._replicas = replicas

    def next_try(self, call: OpenCall, error: Error, now: float) -> float | None:
        """When to try a call again that has failed like this; None: that's its outcome."""
        if call.cancelled or not call.is_whole:
            return None
        rules = self._replicas.rules(call.function)
        unstarted = error.retry_safe and error.code in UNSTARTED
        may_repeat = self._replicas.may_run_twice(call.call, call.function)
        if not unstarted and not (error.code in FAILURES and may_repeat):
            return None
        tries = 1 + rules.retries
        if error.code == "replica_lost":
            if call.attempt == 1:
                return now
            tries = max(tries, LOST_TRIES)
        if call.attempt >= tries:
            return None
        at = now + delay(call.id, call.attempt, rules.backoff)
        return at if at < call.deadline else None

    def again(self, call: OpenCall, error: Error, now: float) -> bool:
        """Let it wait for its next try. False if there is none."""
        at = self.next_try(call, error, now)
        if at is None:
            return False
        call.failure = error
        call.touched = call.touched or not error.retry_safe
        call.attempt += 1
        call.replica, call.accepted, call.asked = None, False, False
        call.phase = Phase.RETRYING
        self._ledger.agenda.note(call, at)
        return True

    def later(self, call: OpenCall, now: float) -> None:
        """It has not failed, but whoever could take it now may not: look again soon."""
        call.phase = Phase.RETRYING
        self._ledger.agenda.note(call, min(call.deadline, now + SWEEP_S))


def delay(id: str, attempt: int, backoff: float) -> float:
    """Seconds to wait after that try, the first of which is 1, before the next.

    backoff·2^(attempt-1)·u, at most `BACKOFF_MAX_S`. u is in [0, 1): «full jitter», so that calls
    that have failed together don't come together again. It is drawn from the call's id and the
    attempt: whoever computes it finds the same.
    """
    digest = blake2b(f"{id}:{attempt}".encode(), digest_size=8).digest()
    u = int.from_bytes(digest, "big") / 2**64
    return min(backoff * 2.0 ** min(attempt - 1, 60), BACKOFF_MAX_S) * u


def final(call: OpenCall, error: Error) -> Error:
    """The error as its caller is to hear it: after how many tries, and whether none has started."""
    if error.retry_safe and not call.untouched:
        error = error.replace(retry_safe=False)
    if call.attempt == 1:
        return error
    return error.replace(message=f"{error.message} (attempt {call.attempt})")
