"""Many calls at once (`funker call --repeat N --concurrency C`), and what became of them.

Percentiles are of the answered calls only: a refusal that takes a millisecond would make a
function look fast.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from funker.rpc.errors import CallError

#: Seconds for cancelled calls to end. More than a caller waits for the replica's own word on it.
CANCEL_S = 3.0


class Sample(NamedTuple):
    """One finished call: seconds it took, and the code of its failure ("" for an answer)."""

    seconds: float
    code: str
    error: CallError | None = None


class Summary(NamedTuple):
    """What became of all calls. Times are milliseconds, None if nothing was answered."""

    ok: int
    errors: dict[str, int]
    calls_per_s: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def summarise(samples: Sequence[Sample], *, elapsed: float) -> Summary:
    """Counts, answers per second over `elapsed` seconds, and percentiles."""
    answered = sorted(sample.seconds * 1000 for sample in samples if not sample.code)
    failed = Counter(sample.code for sample in samples if sample.code)
    return Summary(
        ok=len(answered),
        errors=dict(sorted(failed.items())),
        calls_per_s=round(len(answered) / elapsed, 2) if elapsed > 0 else 0.0,
        p50_ms=percentile(answered, 50),
        p90_ms=percentile(answered, 90),
        p99_ms=percentile(answered, 99),
        max_ms=percentile(answered, 100),
    )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile of ascending values, rounded to microseconds (as ms)."""
    if not ordered:
        return None
    rank = max(1, math.ceil(len(ordered) * percent / 100))
    return round(ordered[rank - 1], 3)


def sample(call: Callable[[], object]) -> Sample:
    """Make one call and time it."""
    started = time.monotonic()
    try:
        call()
    except CallError as error:
        return Sample(time.monotonic() - started, error.code, error)
    return Sample(time.monotonic() - started, "")


def run(
    call: Callable[[threading.Event], object],
    *,
    repeat: int,
    concurrency: int,
    finished: Callable[[Sample], None],
) -> None:
    """Make `repeat` calls, at most `concurrency` at a time; this thread tells `finished` of each.

    `call` gets an event that cancels it when it is set. An interrupted run cancels what is open
    and waits for it. An error other than a CallError ends the run and is raised here.
    """
    turns = itertools.count()  # next() on it is atomic
    done: queue.SimpleQueue[Sample | Exception] = queue.SimpleQueue()
    cancel = threading.Event()

    def caller() -> None:
        while next(turns) < repeat and not cancel.is_set():
            try:
                done.put(sample(lambda: call(cancel)))
            except Exception as error:  # noqa: BLE001  # handed to the thread that waits
                done.put(error)
                return

    callers = [
        threading.Thread(target=caller, daemon=True) for _ in range(min(concurrency, repeat))
    ]
    for thread in callers:
        thread.start()
    try:
        for _ in range(repeat):
            outcome = done.get()
            if isinstance(outcome, Exception):
                raise outcome
            finished(outcome)
    finally:
        cancel.set()
        for thread in callers:
            thread.join(CANCEL_S)


def as_lines(summary: Summary) -> list[str]:
    """The summary for a person."""
    total = summary.ok + sum(summary.errors.values())
    lines = [f"answered   {summary.ok} of {total} ({summary.calls_per_s:g} a second)"]
    times = [
        f"{name.removesuffix('_ms')} {value:.1f}"
        for name, value in summary._asdict().items()
        if name.endswith("_ms") and value is not None
    ]
    if times:
        lines.append(f"ms         {'   '.join(times)}")
    if summary.errors:
        counts = "   ".join(f"{code} {count}" for code, count in summary.errors.items())
        lines.append(f"failed     {counts}")
    return lines
