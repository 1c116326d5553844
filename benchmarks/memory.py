"""What a replica with `isolation: process` holds, with few slots and many, and after many calls.

slots       RSS and PSS of an idle replica with 1, 4 and 16 slots, all its processes together
calls       one replica before and after 100,000 calls: memory, descriptors, processes, directories

With --backend local the replicas are processes of this machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.report import Report, at_least, at_most, main
from benchmarks.rig import Rig
from benchmarks.rig.load import Load
from benchmarks.rig.local import LocalRig

SLOTS = (1, 4, 16)
#: Calls of one replica, those before the first look, and how many are open at a time.
CALLS, WARM_UP, CALLERS = 100_000, 2_000, 8
#: Seconds for all of them, at least 50 a second.
CALLS_S = CALLS / 50
#: Seconds for a replica to have all its processes parked.
SETTLE_S = 2.0
#: How much more memory there may be afterwards: the allocator's own slack.
GROWTH_MB = 2.0

#: name, slots -> what the function's only replica holds now.
Look = Callable[[str], dict[str, float]]


def measure(report: Report, *, backend: str, calls: int) -> None:
    if backend == "local":
        locally(report, calls)
    else:
        on_swarm(report, calls)


def on_swarm(report: Report, calls: int) -> None:
    with Rig() as rig:
        router = rig.router("router")

        def look(name: str) -> dict[str, float]:
            time.sleep(SETTLE_S)
            (replica,) = rig.containers(name)
            command = ["python3", "/app/usage.py", "1"]
            output: Any = replica.exec_run(command).output
            found: dict[str, float] = json.loads(output)
            return found

        def load(name: str, number: int) -> Load:
            arguments = (rig.full_name(name), CALLERS, CALLS_S, number)
            return Load(**rig.run("load.py", *arguments, router=router))

        def function(name: str, slots: int) -> None:
            rig.function(name, replicas=1, router=router, isolation="process", slots=slots)

        compare(report, function, load, look, rig.scale, calls)


def locally(report: Report, calls: int) -> None:
    with LocalRig() as rig:

        def look(name: str) -> dict[str, float]:
            time.sleep(SETTLE_S)
            found: dict[str, float] = rig.run("usage.py", rig.idle(name).pid)
            return found

        def load(name: str, number: int) -> Load:
            told = rig.run("load.py", name, CALLERS, CALLS_S, number, env=rig.environment)
            return Load(**told)

        def function(name: str, slots: int) -> None:
            rig.function(name, replicas=1, isolation="process", slots=slots)

        compare(report, function, load, look, rig.scale, calls)


def compare(
    report: Report,
    function: Callable[[str, int], None],
    load: Callable[[str, int], Load],
    look: Look,
    scale: Callable[[str, int], Any],
    calls: int,
) -> None:
    for slots in SLOTS:
        name = f"slots-{slots}"
        function(name, slots)
        load(name, 1)  # it is up when this is answered
        held = look(name)
        what = f"idle replica with {slots} slot{'s' * (slots > 1)}"
        report.add(f"{what}, PSS", held["pss"], "MB")
        report.add(f"{what}, RSS (shared pages once for each process)", held["rss"], "MB")
        report.add(f"{what}, processes", held["processes"], "processes")
        if slots != SLOTS[1]:
            scale(name, 0)
    after_many(report, f"slots-{SLOTS[1]}", load, look, calls)


def after_many(
    report: Report, name: str, load: Callable[[str, int], Load], look: Look, calls: int
) -> None:
    load(name, WARM_UP)
    before = look(name)
    done = load(name, calls)
    after = look(name)
    report.add(
        "right answers", len(done.answers), "calls", target=at_least(calls, "all of the calls")
    )
    report.add("answers", len(done.answers) / (max(done.answers) - done.began), "per second")
    units = {"pss": "MB", "rss": "MB"}
    for what, first in before.items():
        slack = GROWTH_MB if what in units else 0
        report.add(
            f"{what} after {calls} calls on one replica",
            after[what],
            units.get(what, what),
            floor=first,
            floor_is="before them",
            target=at_most(first + slack, f"what it was + {slack:g}"),
        )


if __name__ == "__main__":
    main("memory", measure, backend=("swarm", "local"), calls=CALLS)
