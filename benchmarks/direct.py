"""What a caller on the function's own network gets, with no controller in between.

latency     a call of a warm replica beside a bare ZeroMQ connection and round trip to a
            process that is just as fresh, turn by turn at the same pace
load        16 callers on 4 replicas for a while: how many of the calls are answered, and how
            many in a second, beside the original funker 0.0.1 under the same load
"""

from __future__ import annotations

from benchmarks.report import Report, at_least, main, percentile
from benchmarks.rig import Rig
from benchmarks.rig.load import Load, offer, offer_to_original

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
    ours = offer(rig, POOL, callers=CALLERS, seconds=LOAD_S)
    rig.scale(POOL, 0)
    for delay in DELAYS:
        theirs = offer_to_original(
            rig, callers=CALLERS, replicas=REPLICAS, seconds=LOAD_S, delay=delay
        )
        compare(report, ours, theirs, f"original funker, restart delay {delay} s")


def compare(report: Report, ours: Load, theirs: Load, who: str) -> None:
    where = f"{CALLERS} callers on {REPLICAS} replicas"
    report.add(
        f"{where}, calls answered",
        ours.share,
        "%",
        floor=theirs.share,
        floor_is=who,
        target=at_least(100, "every call is answered"),
    )
    report.add(
        f"{where}, answers",
        ours.answers_per_second,
        "per second",
        floor=theirs.answers_per_second,
        floor_is=who,
    )


if __name__ == "__main__":
    main("direct", measure)
