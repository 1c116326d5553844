"""A fresh process for every call: how many a second, and how long one takes.

pace        16 callers of the `add` function with `isolation: process` on one replica, through a
            router, beside a bare loop that forks, runs the handler, tells the answer and ends, turn
            by turn with it; the same with `container` on 8 replicas, the engine's own pace of
            starting containers, and the original funker 0.0.1
warm call   one caller: a call of a process replica beside one of a warm container

With --backend local the containers are processes of this machine, and neither the engine nor the
original have a part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from benchmarks.report import Report, at_least, at_most, main, percentile
from benchmarks.rig import Rig, floors
from benchmarks.rig.events import pace
from benchmarks.rig.floors import RAMP_S, SLEEP
from benchmarks.rig.load import Load, offer, offer_to_original
from benchmarks.rig.local import LocalRig
from benchmarks.warm_call import Times

PROCESS, CONTAINER = "add-process", "add-container"
CALLERS = 16
#: Replicas of a function with a container for each call. Of the other one is enough: it has a slot
#: for each CPU.
CONTAINERS, LOCAL_CONTAINERS = 8, 4
#: Turns of the loop and the function, and the seconds of each.
TURNS, TURN_S = 5, 8.0
#: Seconds at the beginning of a load that don't count.
WARM_S = 1.0
CONTAINER_S = 30.0
#: Turns of the two callers of a warm replica, their calls in each, and the seconds between calls.
WARM_TURNS, WARM_CALLS, GAP_S = 8, 11, 0.8
#: The targets, in what they stand beside.
OF_THE_LOOP, WARM = 0.5, 1.3

LOOP_IS = "bare loop of fork, handler, answer, end"


def measure(report: Report, *, backend: str, seconds: float) -> None:
    if backend == "local":
        locally(report, seconds)
    else:
        on_swarm(report, seconds)


def on_swarm(report: Report, seconds: float) -> None:
    with Rig() as rig:
        router = rig.router("router")

        def load(name: str, lasting: float) -> Load:
            return offer(rig, name, callers=CALLERS, seconds=lasting, router=router)

        rig.function(PROCESS, replicas=1, router=router, isolation="process")
        ours = by_turns(report, rig.run, lambda s: load(PROCESS, s), seconds)

        rig.function(CONTAINER, replicas=CONTAINERS, router=router)
        beside_containers(report, ours, load(CONTAINER, RAMP_S + CONTAINER_S))
        callers = {
            name: {"arguments": ["call", rig.full_name(name)], "environment": router.environment}
            for name in (PROCESS, CONTAINER)
        }
        turns = ("turns.py", json.dumps(callers), WARM_TURNS, WARM_CALLS, GAP_S)
        warm(report, rig.run_with(*turns, files=router.files))
        rig.scale(CONTAINER, 0)
        rig.scale(PROCESS, 0)

        floors.create(rig, router=router)
        churn = floors.starts_per_second(rig, SLEEP, replicas=CONTAINERS, seconds=CONTAINER_S)
        add_pace(report, ours, churn, floors.WHAT[SLEEP])
        theirs = offer_to_original(
            rig, callers=CALLERS, replicas=CONTAINERS, seconds=CONTAINER_S, delay=0
        )
        add_pace(report, ours, theirs.answers_per_second, "original funker, restart delay 0 s")


def locally(report: Report, seconds: float) -> None:
    with LocalRig() as rig:

        def load(name: str, lasting: float) -> Load:
            told = rig.run("load.py", name, CALLERS, lasting, env=rig.environment)
            return Load(**told)

        rig.function(PROCESS, replicas=1, isolation="process")
        ours = by_turns(report, rig.run, lambda s: load(PROCESS, s), seconds)

        rig.function(CONTAINER, replicas=LOCAL_CONTAINERS)
        beside_containers(report, ours, load(CONTAINER, RAMP_S + CONTAINER_S))
        callers = {
            name: {"arguments": ["call", name], "environment": rig.environment}
            for name in (PROCESS, CONTAINER)
        }
        warm(report, rig.run("turns.py", json.dumps(callers), WARM_TURNS, WARM_CALLS, GAP_S))


def by_turns(
    report: Report, run: Callable[..., Any], load: Callable[[float], Load], seconds: float
) -> float:
    """The loop and the function, one after the other; the function's answers per second."""
    cpus = os.cpu_count() or 1
    ours, loop, loops = [], [], []
    errors = 0
    load(WARM_S)
    for _ in range(TURNS):
        one = run("forks.py", seconds)
        loop.append(one["calls"] / one["seconds"])
        answered = load(WARM_S + seconds)
        errors += answered.errors
        ours.append(pace(answered.between(answered.began + WARM_S, answered.ended)))
        each = run("forks.py", seconds, cpus)
        loops.append(each["calls"] / each["seconds"])
    floor, rate = percentile(loop, 50), percentile(ours, 50)
    report.add("calls without an answer", errors, "calls", target=at_most(0, "none"))
    report.add(
        f"{CALLERS} callers of one replica with process, answers",
        rate,
        "per second",
        floor=floor,
        floor_is=LOOP_IS,
        target=at_least(OF_THE_LOOP * floor, f"{OF_THE_LOOP:g} of the loop"),
    )
    add_pace(report, rate, percentile(loops, 50), f"{LOOP_IS}, one for each CPU")
    return rate


def beside_containers(report: Report, ours: float, load: Load) -> None:
    name = f"{CALLERS} callers with container, calls without an answer"
    report.add(name, load.errors, "calls", target=at_most(0, "none"))
    rate = pace(load.between(load.began + RAMP_S, load.ended))
    add_pace(report, ours, rate, "the same callers with container")


def add_pace(report: Report, ours: float, theirs: float, who: str) -> None:
    name = f"{CALLERS} callers of one replica with process, answers"
    report.add(name, ours, "per second", floor=theirs, floor_is=who)


def warm(report: Report, times: Times) -> None:
    # The first of a turn comes after a silence: see warm_call.
    later = {name: [ms for turn in each for ms in turn[1:]] for name, each in times.items()}
    for share, name in ((50, "median"), (90, "90 %")):
        floor = percentile(later[CONTAINER], share)
        report.add(
            f"warm call with process, {name}",
            percentile(later[PROCESS], share),
            "ms",
            floor=floor,
            floor_is="warm call with container",
            target=at_most(WARM * floor, f"{WARM:g} of container's") if share == 50 else None,
        )


if __name__ == "__main__":
    main("one-shot", measure, backend=("swarm", "local"), seconds=TURN_S)
