"""How long a call of a warm replica takes through the router, beside the least that it could.

Each call finds an idle replica: the pool is larger than what one caller uses up at this pace. The
floor is a message through a bare forwarder of two sockets, where the router stands, to a bare
process that answers it and ends, as fresh as a replica: same overlay, image, pool and pace, and
connections that are open beforehand. Both are measured with CURVE and without.

The callers take turns of some calls each. The first call of a turn comes after a silence of the
others' turns, and is told apart: a router wants to hear again from such a caller before it hands
out its call, and no process is as quick after a sleep.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.report import Report, at_most, main, percentile
from benchmarks.rig import Rig
from benchmarks.rig.controller import Router

#: Seconds between calls: the engine has replaced the replica of the call before by then, and the
#: caller isn't silent for so long (1 s) that the router wants to hear from it first.
GAP_S = 0.8
#: Replicas of each kind. One is used up at a time; another may take a second to come back.
POOL = 4
#: Turns of each caller, and its calls in each.
TURNS, CALLS = 15, 11
#: The targets: in floors, and what CURVE may add.
FLOORS, CURVE = 2.0, 1.1
#: Milliseconds in the queue above which no replica can have been idle: a start takes longer.
WAITED_MS = 100
#: Calls that the router remembers of each function.
REMEMBERED = 200

FLOOR_IS = "bare message through a forwarder to a fresh process and back"


@dataclass(frozen=True)
class Way:
    """One thing that is measured: the service behind a router, and how it is called."""

    service: str
    router: Router
    calls_a_function: bool


def measure(report: Report, *, turns: int, calls: int, gap: float) -> None:
    with Rig() as rig:
        ours, floor = ours_and_floor(rig, "curve", secure=True)
        ours_open, floor_open = ours_and_floor(rig, "open", secure=False)
        ways = [ours, floor, ours_open, floor_open]
        times = by_turns(rig, ways, turns, calls, gap)

        later = {name: [ms for turn in each for ms in turn[1:]] for name, each in times.items()}
        first = {name: [turn[0] for turn in each] for name, each in times.items()}
        base = later[floor_open.service]
        for share, name in ((50, "median"), (90, "90 %")):
            beside = percentile(base, share)
            report.add(
                f"call of a warm replica through the router, {name}",
                percentile(later[ours.service], share),
                "ms",
                floor=beside,
                floor_is=FLOOR_IS,
                target=at_most(FLOORS * beside, f"{FLOORS:g} floors") if share == 50 else None,
            )
            report.add(
                f"the same without CURVE, {name}",
                percentile(later[ours_open.service], share),
                "ms",
                floor=beside,
                floor_is=FLOOR_IS,
            )
            report.add(
                f"the bare message with CURVE, {name}",
                percentile(later[floor.service], share),
                "ms",
                floor=beside,
                floor_is="without",
            )
        without = percentile(later[ours_open.service], 50)
        report.add(
            "what CURVE adds to a call, median",
            percentile(later[ours.service], 50),
            "ms",
            floor=without,
            floor_is="the same call without",
            target=at_most(CURVE * without, "10 % more"),
        )
        report.add(
            "first call after a silence, median",
            percentile(first[ours.service], 50),
            "ms",
            floor=percentile(first[floor_open.service], 50),
            floor_is=FLOOR_IS + ", after the same silence",
        )
        for way in (ours, ours_open):
            found_idle(report, rig, way, turns * calls)


def ours_and_floor(rig: Rig, kind: str, *, secure: bool) -> tuple[Way, Way]:
    """A function behind a router, and bare processes behind a forwarder."""
    router = rig.router(f"router-{kind}", secure=secure)
    ours = Way(f"add-{kind}", router, calls_a_function=True)
    rig.function(ours.service, replicas=POOL, router=router)

    forwarder = rig.forwarder(f"forwarder-{kind}", secure=secure)
    floor = Way(f"peer-{kind}", forwarder, calls_a_function=False)
    command = ["python3", "/app/peer.py"]
    rig.one_shot(floor.service, command, replicas=POOL, router=forwarder)
    return ours, floor


def by_turns(
    rig: Rig, ways: list[Way], turns: int, calls: int, gap: float
) -> dict[str, list[list[float]]]:
    """Milliseconds of each call, by service and turn."""
    callers = {
        way.service: {
            "arguments": ["call", rig.full_name(way.service)] if way.calls_a_function else ["bare"],
            "environment": way.router.environment,
        }
        for way in ways
    }
    files = {path: key for way in ways for path, key in way.router.files.items()}
    times: dict[str, list[list[float]]] = rig.run_with(
        "turns.py", json.dumps(callers), turns, calls, gap, files=files
    )
    return times


def found_idle(report: Report, rig: Rig, way: Way, calls: int) -> None:
    """What was measured has to be what it says: through the router, of idle replicas."""
    function = rig.full_name(way.service)
    known = rig.run("ask.py", "calls", function, REMEMBERED, router=way.router)
    warm = [call for call in known[:calls] if call["queue_ms"] < WAITED_MS]
    report.add(
        f"calls of {way.service} that found an idle replica, of the last {len(known[:calls])}",
        100 * len(warm) / max(1, len(known[:calls])),
        "%",
    )


if __name__ == "__main__":
    main("warm-call", measure, turns=TURNS, calls=CALLS, gap=GAP_S)
