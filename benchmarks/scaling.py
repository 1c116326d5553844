"""How long calls queue if the autoscaler chooses the number of replicas, as the load changes.

Two loads, each of which goes up to 60 % of what the engine can start: a ramp, and one that is on
and off. Each meets an autoscaled function first, and then one with a fixed number of replicas: as
many as the autoscaler had on average. `--plot FILE` draws calls, replicas and queue over time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.report import Report, at_least, main, percentile
from benchmarks.rig import Rig, floors
from benchmarks.rig.events import until
from benchmarks.rig.floors import SLEEP
from funker.spec import ScalePolicy

SHAPES = ("ramp", "on-off")
#: Seconds of each load, and of the floor.
SECONDS, FLOOR_S = 160.0, 30.0
#: Of the engine's starts per second.
SHARE = 0.6
REPLICAS = 8
POLICY = ScalePolicy(min=1, max=20)
#: Seconds between looks.
LOOK_S = 0.5
#: Calls that the router remembers of each function.
REMEMBERED = 200


@dataclass(frozen=True)
class Course:
    """One load on one pool. Times are seconds after the first call could come."""

    shape: str
    scaled: bool
    arrivals: list[float]
    answered: int
    #: Milliseconds of each call in the queue.
    queued_ms: list[float]
    times: list[float]
    wanted: list[int]
    warm: list[int]
    queue: list[int]


def measure(report: Report, *, seconds: float) -> None:
    courses = []
    with Rig(controlled=True) as rig:
        floors.create(rig, router=rig.controller)
        pace = floors.starts_per_second(rig, SLEEP, replicas=REPLICAS, seconds=FLOOR_S)
        for shape in SHAPES:
            scaled = course(rig, shape, SHARE * pace, seconds, POLICY, POLICY.min)
            size = max(1, round(mean(scaled.wanted)))
            fixed = course(rig, shape, SHARE * pace, seconds, None, size)
            courses += [scaled, fixed]
            compare(report, scaled, fixed, size)
    if report.plot:
        draw(courses, report.plot)


def compare(report: Report, scaled: Course, fixed: Course, size: int) -> None:
    where = f"{scaled.shape}, {len(scaled.arrivals)} calls"
    report.add(
        f"{where}, answered",
        scaled.answered,
        "calls",
        target=at_least(len(scaled.arrivals), "all of them"),
    )
    for share in (50, 99):
        floor = percentile(fixed.queued_ms, share)
        report.add(
            f"{where}, time in the queue, p{share}",
            percentile(scaled.queued_ms, share),
            "ms",
            floor=floor,
            floor_is=f"a fixed pool of {size}, the autoscaler's average",
        )


def course(
    rig: Rig, shape: str, rate: float, seconds: float, policy: ScalePolicy | None, replicas: int
) -> Course:
    name = f"{shape}-{'scaled' if policy else 'fixed'}"
    rig.function(name, replicas=replicas, router=rig.controller, scale=policy)
    until(lambda: rig.known(name).get("free") == replicas, f"the replicas of {name}")
    arguments = (rig.full_name(name), shape, rate, seconds)
    with looked_at(rig, name) as looks:
        result = rig.run("arrivals.py", *arguments, router=rig.controller)
    records = rig.run("ask.py", "calls", rig.full_name(name), REMEMBERED, router=rig.controller)
    rig.remove(name)
    looks = [(at - result["began"], about) for at, about in looks if at >= result["began"]]
    return Course(
        shape=shape,
        scaled=policy is not None,
        arrivals=result["arrivals"],
        answered=result["answered"],
        queued_ms=[record["queue_ms"] for record in records],
        times=[at for at, _ in looks],
        wanted=[about["wanted"] for _, about in looks],
        warm=[about["free"] for _, about in looks],
        queue=[about["queued"] for _, about in looks],
    )


@contextmanager
def looked_at(rig: Rig, name: str) -> Iterator[list[tuple[float, dict[str, Any]]]]:
    """What the controller knows of the function, again and again, with the time."""
    looks: list[tuple[float, dict[str, Any]]] = []
    over = threading.Event()

    def look() -> None:
        with rig.watching(name) as known:
            while not over.wait(LOOK_S):
                looks.append((time.time(), known()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()


def draw(courses: list[Course], file: Path) -> None:
    """One column for each load; the autoscaler's course, and the fixed pool's in grey."""
    import matplotlib as mpl

    mpl.use("svg" if file.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        3, len(SHAPES), figsize=(11, 7), sharex=True, sharey="row", layout="constrained"
    )
    for column, shape in enumerate(SHAPES):
        calls, replicas, queue = axes[:, column]
        for one in (each for each in courses if each.shape == shape):
            colour = "tab:blue" if one.scaled else "0.6"
            label = "autoscaled" if one.scaled else "fixed"
            if one.scaled:
                calls.hist(one.arrivals, bins=range(0, int(max(one.times)) + 5, 5), color=colour)
                replicas.step(one.times, one.warm, color="tab:green", lw=0.8, label="of them warm")
            replicas.step(one.times, one.wanted, color=colour, label=label)
            queue.step(one.times, one.queue, color=colour, label=label)
        calls.set(title=shape, ylabel="calls in 5 s")
        replicas.set(ylabel="replicas")
        queue.set(xlabel="seconds", ylabel="calls in the queue")
        replicas.legend(frameon=False)
        queue.legend(frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main("scaling", measure, seconds=SECONDS)
