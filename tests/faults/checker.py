"""Whether what is in the ledger keeps what is promised, given the faults there were. Pure.

- Each call has exactly one outcome, and an answer is the right one, of a run that was finished.
- Nothing that isn't idempotent has run twice; what says that it certainly did not start, didn't.
- An error needs a fault that allows it: of that kind, in that time, that hit that replica. One
  that was killed explains as many errors as it had calls: one, or one for each slot; and any number
  of calls that certainly did not start, while it looked as if it couldn't be loaded. Idempotent
  calls are tried again, unless the controller was just away as well: calls that go directly
  aren't, nor those of a router that hasn't heard of the function yet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.faults.ledger import Ended, Finished, Injected, Ledger, Made, Started, answer

#: By kind of fault, the errors that it allows, and the seconds after which it doesn't any more.
#: A replica that fell silent is lost after 10 s; its caller hears that from a router, for which
#: it may have to wait.
ALLOWED: dict[str, dict[str, float]] = {
    "front": {"replica_lost": 40.0},
    "worker": {"function_crashed": 40.0},
}
#: Seconds for which a replica whose worker was killed just after it had loaded may look like one
#: whose handler can't be loaded: all that wait hear so meanwhile, and none of them has started.
UNLOADED_S = 15.0
#: Faults after which calls may not be tried again, and for how many seconds.
UNSETTLING, UNSETTLED_S = ("router", "reconciler", "outage", "engine"), 15.0
#: Faults that may hinder whoever deploys or scales meanwhile: any function, or the one they hit.
HINDERING, HINDERING_ITS_OWN = ("engine",), ("worker", "front")
Event = TypeVar("Event", Ended, Started, Finished)
#: The share of calls that have to succeed.
SHARE = 0.99


@dataclass
class Verdict:
    """What came of all calls, and what is wrong with it."""

    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    #: Runs of idempotent calls beyond their first.
    repeated: int = 0
    #: Calls without an outcome, or with an error that no fault allows.
    lost: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [
            ("calls", self.calls),
            *(("  " + code, number) for code, number in self.outcomes.most_common()),
            ("  run again (idempotent)", self.repeated),
            ("  lost", self.lost),
            ("faults", sum(self.faults.values())),
            *(("  " + kind, number) for kind, number in sorted(self.faults.items())),
        ]
        table = "\n".join(f"{name:<26}{number:>7}" for name, number in rows)
        return "\n".join([table, *self.problems])


def check(ledger: Ledger, faults: Sequence[Injected], *, share: float = SHARE) -> Verdict:
    """Judge all calls."""
    verdict = Verdict(
        calls=len(ledger.made),
        outcomes=Counter(ended.code for ended in ledger.ended),
        faults=Counter(fault.kind for fault in faults),
    )
    ended, started, finished = (
        _by_key(ledger.ended),
        _by_key(ledger.started),
        _by_key(ledger.finished),
    )
    made = {call.key: call for call in ledger.made}
    if len(made) < len(ledger.made):
        verdict.problems.append("two calls have the same key: the ledger is no use")
    for key in (ended.keys() | started.keys() | finished.keys()) - made.keys():
        verdict.problems.append(f"{key}: nobody made this call")
    for call in ledger.made:
        outcomes, runs = ended[call.key], started[call.key]
        if len(outcomes) != 1:
            verdict.problems.append(f"{_name(call)}: {len(outcomes)} outcomes, not one")
            verdict.lost += not outcomes
        verdict.repeated += max(0, len(runs) - 1) if call.idempotent else 0
        verdict.problems += _problems(call, outcomes[:1], runs, finished[call.key])
    for error in _unexplained(ledger, made, faults):
        verdict.lost += 1
        verdict.problems.append(
            f"{_name(made[error.key])}: no fault allows {error.code} from {error.replica or '?'} "
            f"at {error.at:.2f}: {error.message}"
        )
    verdict.problems += _hindered(faults)
    answered = verdict.outcomes["ok"]
    if answered < share * verdict.calls:
        verdict.problems.append(f"only {answered} of {verdict.calls} calls succeeded")
    if not verdict.calls:
        verdict.problems.append("nobody made a call")
    return verdict


def _problems(
    call: Made, outcomes: list[Ended], runs: list[Started], finished: list[Finished]
) -> Iterator[str]:
    if len(runs) > 1 and not call.idempotent:
        yield f"{_name(call)}: ran {len(runs)} times: {[run.run for run in runs]}"
    if stray := {end.run for end in finished} - {run.run for run in runs}:
        yield f"{_name(call)}: finished without having started: {stray}"
    for outcome in outcomes:
        if outcome.code != "ok":
            if outcome.retry_safe and runs:
                yield f"{_name(call)}: {outcome.code} says that it did not start, but it did"
        elif outcome.value != answer(call.key, call.text):
            yield f"{_name(call)}: wrong answer: {outcome.value!r}"
        elif not any(end.at <= outcome.at for end in finished):
            yield f"{_name(call)}: answered by no run that was finished"


def _unexplained(
    ledger: Ledger, made: dict[str, Made], faults: Sequence[Injected]
) -> Iterator[Ended]:
    """The errors that are left when each fault has explained the one that it allows."""
    left = [fault for fault in faults for _ in range(fault.calls)]
    # Those that name their replica first: they have no choice.
    errors = [each for each in ledger.ended if each.code != "ok" and each.key in made]
    for error in sorted(errors, key=lambda each: (not each.replica, each.at)):
        call = made[error.key]
        if any(_unloads(one, call, error) for one in faults):
            continue
        fault = next((one for one in left if _allows(one, call, error)), None)
        if call.idempotent and not _is_unsettled(call, error, faults):
            fault = None
        if fault is None:
            yield error
        else:
            left.remove(fault)


def _allows(fault: Injected, call: Made, error: Ended) -> bool:
    until = ALLOWED.get(fault.kind, {}).get(error.code)
    return (
        until is not None
        and fault.target == call.function
        and (not error.replica or not fault.replica or error.replica == fault.replica)
        and call.at <= fault.ended
        and fault.began <= error.at <= fault.ended + until
    )


def _unloads(fault: Injected, call: Made, error: Ended) -> bool:
    return (
        fault.kind == "worker"
        and (error.code, error.retry_safe) == ("init_failed", True)
        and (fault.target, fault.replica) == (call.function, error.replica)
        and fault.began <= error.at <= fault.ended + UNLOADED_S
    )


def _is_unsettled(call: Made, error: Ended, faults: Sequence[Injected]) -> bool:
    return any(
        fault.kind in UNSETTLING
        and fault.began <= error.at
        and call.at <= fault.ended + UNSETTLED_S
        for fault in faults
    )


def _hindered(faults: Sequence[Injected]) -> Iterator[str]:
    for fault in faults:
        if fault.failed and not any(
            (
                other.kind in HINDERING
                or (other.kind in HINDERING_ITS_OWN and other.target == fault.target)
            )
            and other.began <= fault.ended
            and fault.began <= other.ended
            for other in faults
        ):
            yield f"{fault.kind} of {fault.target} failed: {fault.failed}"


def _by_key(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.key].append(event)
    return found


def _name(call: Made) -> str:
    return f"{call.key} of {call.function} at {call.at:.2f}"
