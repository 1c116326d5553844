"""How long a call of a warm replica takes through the router, beside the least that it could.

Each call finds an idle replica: the pool is larger than what one caller uses up at this pace. The
floor is a message through a bare forwarder of two sockets, where the router stands, to a bare
process that answers it and ends, as fresh as a replica: same overlay and image, or same machine and
kind of socket, same pool and pace, and connections that are open beforehand. Both are measured with
CURVE and without; only the local router is never without.

The callers take turns of some calls each. The first call of a turn comes after a silence of the
others' turns, and is told apart: a router wants to hear again from such a caller before it hands
out its call, and no process is as quick after a sleep.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Report, at_most, main, percentile
from benchmarks.rig import Rig
from benchmarks.rig.controller import Router
from benchmarks.rig.local import LocalRig

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
WAITED_MS = {"swarm": 100, "local": 20}
#: Calls that the router remembers of each function.
REMEMBERED = 200

FLOOR_IS = "bare message through a forwarder to a fresh process and back"


#: What is measured, by service: functions and bare processes, with CURVE and without.
OURS, FLOOR, OURS_OPEN, FLOOR_OPEN = "add-curve", "peer-curve", "add-open", "peer-open"

#: Milliseconds of each call, by service and turn.
Times = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Way:
    """A service behind a router, and how it is called."""

    service: str
    router: Router
    calls_a_function: bool


def measure(report: Report, *, backend: str, turns: int, calls: int, gap: float) -> None:
    if backend == "local":
        locally(report, turns, calls, gap)
    else:
        on_swarm(report, turns, calls, gap)


def on_swarm(report: Report, turns: int, calls: int, gap: float) -> None:
    with Rig() as rig:
        ways = [*ours_and_floor(rig, "curve", secure=True)]
        ways += ours_and_floor(rig, "open", secure=False)
        compare(report, by_turns(rig, ways, turns, calls, gap))
        for way in ways:
            if way.calls_a_function:
                function = rig.full_name(way.service)
                known = rig.run("ask.py", "calls", function, REMEMBERED, router=way.router)
                found_idle(report, way.service, known[: turns * calls], WAITED_MS["swarm"])


def locally(report: Report, turns: int, calls: int, gap: float) -> None:
    with LocalRig() as rig:
        rig.function(OURS, replicas=POOL)
        bare = rig.forwarder("curve", peers=POOL, secure=True)
        bare_open = rig.forwarder("open", peers=POOL, secure=False)
        callers = {
            OURS: {"arguments": ["call", OURS], "environment": rig.environment},
            FLOOR: {"arguments": ["bare"], "environment": bare},
            FLOOR_OPEN: {"arguments": ["bare"], "environment": bare_open},
        }
        compare(report, rig.run("turns.py", json.dumps(callers), turns, calls, gap))
        known = rig.calls(OURS, REMEMBERED)
        found_idle(report, OURS, known[: turns * calls], WAITED_MS["local"])


def compare(report: Report, times: Times) -> None:
    """What is said of the calls of all turns."""
    later = {name: [ms for turn in each for ms in turn[1:]] for name, each in times.items()}
    first = {name: [turn[0] for turn in each] for name, each in times.items()}
    for share, name in ((50, "median"), (90, "90 %")):
        floor = percentile(later[FLOOR_OPEN], share)
        report.add(
            f"call of a warm replica through the router, {name}",
            percentile(later[OURS], share),
            "ms",
            floor=floor,
            floor_is=FLOOR_IS,
            target=at_most(FLOORS * floor, f"{FLOORS:g} floors") if share == 50 else None,
        )
        if OURS_OPEN in later:
            report.add(
                f"the same without CURVE, {name}",
                percentile(later[OURS_OPEN], share),
                "ms",
                floor=floor,
                floor_is=FLOOR_IS,
            )
        report.add(
            f"the bare message with CURVE, {name}",
            percentile(later[FLOOR], share),
            "ms",
            floor=floor,
            floor_is="without",
        )
    if OURS_OPEN in later:
        without = percentile(later[OURS_OPEN], 50)
        report.add(
            "what CURVE adds to a call, median",
            percentile(later[OURS], 50),
            "ms",
            floor=without,
            floor_is="the same call without",
            target=at_most(CURVE * without, "10 % more"),
        )
    report.add(
        "first call after a silence, median",
        percentile(first[OURS], 50),
        "ms",
        floor=percentile(first[FLOOR_OPEN], 50),
        floor_is=FLOOR_IS + ", after the same silence",
    )


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


def by_turns(rig: Rig, ways: list[Way], turns: int, calls: int, gap: float) -> Times:
    callers = {
        way.service: {
            "arguments": ["call", rig.full_name(way.service)] if way.calls_a_function else ["bare"],
            "environment": way.router.environment,
        }
        for way in ways
    }
    files = {path: key for way in ways for path, key in way.router.files.items()}
    times: Times = rig.run_with("turns.py", json.dumps(callers), turns, calls, gap, files=files)
    return times


def found_idle(report: Report, name: str, calls: list[dict[str, Any]], waited_ms: float) -> None:
    """What was measured has to be what it says: through the router, of idle replicas."""
    warm = [call for call in calls if call["queue_ms"] < waited_ms]
    report.add(
        f"calls of {name} that found an idle replica, of the last {len(calls)}",
        100 * len(warm) / max(1, len(calls)),
        "%",
    )


if __name__ == "__main__":
    backends = ("swarm", "local")
    main("warm-call", measure, backend=backends, turns=TURNS, calls=CALLS, gap=GAP_S)
