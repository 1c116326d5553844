"""The first call of a function that has no replica, beside the swarm's own way from 0 to 1.

The floor is a service of the same image and settings: from the request to run one replica until
its container has started. The call has to notice the demand, make that request, wait for as much,
and then load Python, ZeroMQ and the handler before it can be answered. Each is done with a service
of its own that was never up, turn by turn; the caller is connected to the router beforehand.
"""

from __future__ import annotations

import time

from benchmarks.report import Report, at_least, at_most, main, percentile
from benchmarks.rig import Rig
from benchmarks.rig.events import until
from funker.spec import ScalePolicy

TURNS = 9
#: Milliseconds that a call may take beyond the floor.
OURS_MS = 150
POLICY = ScalePolicy(min=0, max=4)


def measure(report: Report, *, turns: int) -> None:
    calls, starts = [], []
    with Rig(controlled=True) as rig:
        rig.function("warm", replicas=1, router=rig.controller)
        until(lambda: rig.known("warm").get("free") == 1, "a warm replica")
        for turn in range(turns + 1):
            calls.append(first_call(rig, f"add-{turn}"))
            starts.append(swarms_own(rig, f"idle-{turn}"))

    # The first turn fills the engine's caches.
    calls, starts = calls[1:], starts[1:]
    answered = [call for call in calls if call is not None]
    report.add("first calls answered", len(answered), "calls", target=at_least(turns, "all"))
    floor = percentile(starts, 50)
    report.add(
        "first call of a function without replicas, median",
        percentile(answered, 50),
        "ms",
        floor=floor,
        floor_is="the swarm's own start of a first replica, median",
        target=at_most(floor + OURS_MS, f"floor + {OURS_MS} ms"),
    )
    report.add(
        "first call, slowest", max(answered), "ms", floor=max(starts), floor_is="slowest start"
    )


def first_call(rig: Rig, name: str) -> float | None:
    """Milliseconds; None if there was no right answer."""
    rig.function(name, replicas=0, router=rig.controller, scale=POLICY)
    until(lambda: "scaling" in rig.known(name), f"the controller's knowledge of {name}")
    took: float | None = rig.run(
        "first.py", rig.full_name("warm"), rig.full_name(name), router=rig.controller
    )
    rig.remove(name)
    return took


def swarms_own(rig: Rig, name: str) -> float:
    """Milliseconds from the request for one replica to the start of its container."""
    rig.one_shot(name, ["sleep", "infinity"], router=rig.controller)
    began = time.time()
    rig.scale(name, 1)
    until(lambda: bool(rig.events.starts(name)), f"the start of {name}")
    rig.remove(name)
    return (rig.events.starts(name)[0] - began) * 1000


if __name__ == "__main__":
    main("cold", measure, turns=TURNS)
