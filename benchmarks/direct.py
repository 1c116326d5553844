"""What a caller on the function's own network gets, with no controller in between.

latency     a call of a warm replica beside a bare ZeroMQ connection and round trip to a
            process that is just as fresh, turn by turn at the same pace
load        16 callers on 4 replicas for a while: how many of the calls are answered, and how
            many in a second, beside the original funker 0.0.1 under the same load
"""

from __future__ import annotations

from typing import Any

from benchmarks.report import Report, at_least, main, percentile
from benchmarks.rig import Rig

FUNCTION, ECHO, POOL = "add", "echo", "adds"
#: Measurements of each kind, and the seconds before each in which the machine calms down.
SAMPLES, SETTLE_S = 40, 0.25
CALLERS, REPLICAS, LOAD_S = 16, 4, 15.0
#: Seconds from a replica's end to the next one's start, for the original: the engine's default,
#: and none.
DELAYS = (5, 0)


def measure(report: Report) -> None:
    with Rig() as rig:
        latency(report, rig)
        load(report, rig)


def latency(report: Report, rig: Rig) -> None:
    rig.function(FUNCTION, replicas=1)
    rig.one_shot(ECHO, ["python3", "/app/echo.py"], replicas=1)
    times = rig.run("pace.py", rig.full_name(FUNCTION), rig.full_name(ECHO), SAMPLES, SETTLE_S)
    for name in (FUNCTION, ECHO):
        rig.scale(name, 0)
    for share, name in ((50, "median"), (90, "90 %")):
        report.add(
            f"direct call of a warm replica, {name}",
            percentile(times["call_ms"], share),
            "ms",
            floor=percentile(times["round_trip_ms"], share),
            floor_is="bare ZeroMQ connection and round trip to a fresh process, same overlay",
        )


def load(report: Report, rig: Rig) -> None:
    rig.function(POOL, replicas=REPLICAS)
    ours = rig.run("load.py", rig.full_name(POOL), CALLERS, LOAD_S)
    rig.scale(POOL, 0)
    image = rig.original_image()
    for delay in DELAYS:
        name = f"original-{delay}"
        # The original as it was used: a program of a few lines, restarted by the swarm.
        rig.one_shot(
            name,
            ["python3", "/app/original.py"],
            replicas=REPLICAS,
            image=image,
            env=["PYTHONPATH=/original"],
            delay=delay,
        )
        theirs = rig.run("load.py", rig.full_name(name), CALLERS, LOAD_S, original=image)
        rig.scale(name, 0)
        compare(report, ours, theirs, f"original funker, restart delay {delay} s")


def compare(report: Report, ours: Any, theirs: Any, who: str) -> None:
    where = f"{CALLERS} callers on {REPLICAS} replicas"
    report.add(
        f"{where}, calls answered",
        answered(ours),
        "%",
        floor=answered(theirs),
        floor_is=who,
        target=at_least(100, "every call is answered"),
    )
    report.add(
        f"{where}, answers",
        ours["answered_in_time"] / LOAD_S,
        "per second",
        floor=theirs["answered_in_time"] / LOAD_S,
        floor_is=who,
    )


def answered(load: Any) -> float:
    """The share of the calls that were answered, in per cent."""
    calls = load["answered"] + sum(load["failed"].values()) + load["stuck"]
    return float(100 * load["answered"] / calls)


if __name__ == "__main__":
    main("direct", measure)
