"""Many calls through the router, for minutes: every one is answered, at the engine's own pace.

answers     200 calls, 8 at a time, on 4 replicas
sustained   16 callers on 8 replicas for 5 minutes: errors, and answers per second beside starts
            per second of one-shots that sleep, or import zmq and json, and end; those are measured
            in the same run, before and after
original    the original funker 0.0.1 under the same load, for a while
"""

from __future__ import annotations

from statistics import mean

from benchmarks.report import Report, at_least, at_most, main
from benchmarks.rig import Rig, floors
from benchmarks.rig.controller import Router
from benchmarks.rig.events import pace
from benchmarks.rig.floors import IMPORTS, RAMP_S, SLEEP
from benchmarks.rig.load import Load, offer, offer_to_original

FUNCTION, FEW = "add", "few"
#: The calls of `answers`: so many, so many at a time, on so many replicas, within so many seconds.
CALLS, AT_A_TIME, FEW_REPLICAS, CALLS_S = 200, 8, 4, 300.0
CALLERS, REPLICAS, SUSTAINED_S = 16, 8, 300.0
#: At most so many seconds for each turn of a floor, and for the original.
FLOOR_S, ORIGINAL_S = 45.0, 30.0
#: Seconds from a replica's end to the next one's start, for the original: the engine's default,
#: and none.
DELAYS = (5, 0)


def measure(report: Report, *, calls: int, seconds: float) -> None:
    with Rig() as rig:
        router = rig.router("router")
        answers(report, rig, router, calls)
        load = sustained(report, rig, router, seconds)
        original(report, rig, load, min(ORIGINAL_S, seconds))


def answers(report: Report, rig: Rig, router: Router, calls: int) -> None:
    where = f"{calls} calls, {AT_A_TIME} at a time on {FEW_REPLICAS} replicas"
    rig.function(FEW, replicas=FEW_REPLICAS, router=router)
    load = offer(rig, FEW, callers=AT_A_TIME, calls=calls, seconds=CALLS_S, router=router)
    rig.scale(FEW, 0)
    right = len(load.answers)
    report.add(f"{where}, right answers", right, "calls", target=at_least(calls, "all of them"))
    errors(report, where, load)
    went_through(report, rig, router, FEW, where, load)


def sustained(report: Report, rig: Rig, router: Router, seconds: float) -> Load:
    where = f"{CALLERS} callers on {REPLICAS} replicas for {seconds:g} s"
    floors.create(rig, router=router)
    rig.function(FUNCTION, replicas=0, router=router)
    turn = min(FLOOR_S, seconds)
    rates = {
        name: [floors.starts_per_second(rig, name, replicas=REPLICAS, seconds=turn)]
        for name in (SLEEP, IMPORTS)
    }
    rig.scale(FUNCTION, REPLICAS)
    load = offer(rig, FUNCTION, callers=CALLERS, seconds=RAMP_S + seconds, router=router)
    rig.scale(FUNCTION, 0)
    for name in (IMPORTS, SLEEP):
        rates[name].append(floors.starts_per_second(rig, name, replicas=REPLICAS, seconds=turn))

    errors(report, where, load)
    went_through(report, rig, router, FUNCTION, where, load)
    ours = pace(load.between(load.began + RAMP_S, load.ended))
    for name, share in floors.SHARE.items():
        floor = mean(rates[name])
        report.add(
            f"{where}, answers beside {name}",
            ours,
            "per second",
            floor=floor,
            floor_is=floors.WHAT[name],
            target=at_least(share * floor, f"{share} of the floor"),
        )
    steadiness(report, rates, load, seconds)
    return load


def errors(report: Report, where: str, load: Load) -> None:
    reasons = ", ".join(f"{number} {reason}" for reason, number in load.failed.items())
    name = f"{where}, errors" + (f" ({reasons})" if reasons else "")
    report.add(name, load.errors, "calls", target=at_most(0, "none"))


def went_through(
    report: Report, rig: Rig, router: Router, name: str, where: str, load: Load
) -> None:
    """A caller that finds no router calls directly: that would be another measurement."""
    known = rig.run("ask.py", "status", router=router)["functions"]
    report.add(
        f"{where}, calls that the router knows of",
        known.get(rig.full_name(name), {}).get("calls", 0),
        "calls",
        target=at_least(len(load.answers), "every answer"),
    )


def steadiness(report: Report, rates: dict[str, list[float]], load: Load, seconds: float) -> None:
    """What of the ratios is the machine's doing: it has slow minutes and other work."""
    for name, (before, after) in rates.items():
        report.add(
            floors.WHAT[name] + ", after the load",
            after,
            "per second",
            floor=before,
            floor_is="before it",
        )
    first, fifth = load.began + RAMP_S, seconds / 5
    report.add(
        "answers in the last fifth of the time",
        len(load.between(load.ended - fifth, load.ended)) / fifth,
        "per second",
        floor=len(load.between(first, first + fifth)) / fifth,
        floor_is="in the first fifth",
    )


def original(report: Report, rig: Rig, ours: Load, seconds: float) -> None:
    where = f"{CALLERS} callers on {REPLICAS} replicas"
    for delay in DELAYS:
        theirs = offer_to_original(
            rig, callers=CALLERS, replicas=REPLICAS, seconds=seconds, delay=delay
        )
        who = f"original funker, restart delay {delay} s, for {seconds:g} s"
        report.add(f"{where}, calls answered", ours.share, "%", floor=theirs.share, floor_is=who)
        report.add(
            f"{where}, answers",
            ours.answers_per_second,
            "per second",
            floor=theirs.answers_per_second,
            floor_is=who,
        )


if __name__ == "__main__":
    main("sustained", measure, calls=CALLS, seconds=SUSTAINED_S)
