"""Sixty calls at once of a function with two warm replicas: how long until all are answered.

Nothing can be quicker than the engine: each call takes one start of a container, and two are there.
So the time is compared with that of sixty starts at the engine's own pace, measured in the same
run, before and after. Each burst meets a function of its own, whose autoscaler knows nothing yet.
"""

from __future__ import annotations

from statistics import mean

from benchmarks.report import Report, at_least, at_most, main, percentile
from benchmarks.rig import Rig, floors
from benchmarks.rig.events import until
from benchmarks.rig.floors import SLEEP, WHAT
from benchmarks.rig.load import offer
from funker.spec import ScalePolicy

CALLS, WARM, BURSTS = 60, 2, 3
#: Seconds for all calls of one burst, and of each turn of the floor.
PATIENCE_S, FLOOR_S = 180.0, 30.0
#: Replicas of the floor: more than the engine can start at once.
REPLICAS = 8
#: The target, in times of the floor.
SHARE = 1.35


def measure(report: Report, *, bursts: int, calls: int) -> None:
    times, right = [], 0
    with Rig(controlled=True) as rig:
        floors.create(rig, router=rig.controller)
        paces = [floors.starts_per_second(rig, SLEEP, replicas=REPLICAS, seconds=FLOOR_S)]
        for number in range(1, bursts + 1):
            took, answers = burst(rig, f"add-{number}", calls)
            times.append(took)
            right += answers
        paces.append(floors.starts_per_second(rig, SLEEP, replicas=REPLICAS, seconds=FLOOR_S))

    where = f"{calls} calls at once on {WARM} warm replicas"
    report.add(
        f"{where}, {bursts} times, right answers",
        right,
        "calls",
        target=at_least(bursts * calls, "all of them"),
    )
    floor = calls / mean(paces)
    report.add(
        f"{where}, until the last answer, median",
        percentile(times, 50),
        "s",
        floor=floor,
        floor_is=f"{calls} {WHAT[SLEEP]}, at their pace",
        target=at_most(SHARE * floor, f"{SHARE} of the floor"),
    )
    report.add("the slowest of them", max(times), "s", floor=floor, floor_is="as above")
    before, after = paces
    name = f"{WHAT[SLEEP]}, after the bursts"
    report.add(name, after, "per second", floor=before, floor_is="before them")


def burst(rig: Rig, name: str, calls: int) -> tuple[float, int]:
    """Seconds from the first call to the last answer, and the right answers."""
    rig.function(name, replicas=WARM, router=rig.controller, scale=ScalePolicy(min=WARM, max=100))
    until(lambda: rig.known(name).get("free") == WARM, f"{WARM} warm replicas of {name}")
    load = offer(rig, name, callers=calls, calls=calls, seconds=PATIENCE_S, router=rig.controller)
    rig.remove(name)
    return max(load.answers, default=load.ended) - load.began, len(load.answers)


if __name__ == "__main__":
    main("burst", measure, bursts=BURSTS, calls=CALLS)
