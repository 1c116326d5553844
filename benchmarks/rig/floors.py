"""The least that the engine can do: services of a function's image and settings that end by
themselves, and the pace at which it starts them."""

from __future__ import annotations

import time

from benchmarks.rig.controller import Router
from benchmarks.rig.events import pace
from benchmarks.rig.swarm import Rig

SLEEP, IMPORTS = "sleep", "imports"
#: Seconds that the sleeping one-shot lives.
LIFE = 0.2
ONE_SHOTS = {
    SLEEP: ["sleep", f"{LIFE}"],
    IMPORTS: ["python3", "/app/imports.py"],
}
WHAT = {
    SLEEP: "starts of a one-shot that sleeps",
    IMPORTS: "starts of a one-shot that imports zmq and json",
}
#: The targets: shares of the floor's pace.
SHARE = {SLEEP: 0.85, IMPORTS: 0.95}
#: Seconds at the beginning of a turn that don't count: the first replicas all start at once.
RAMP_S = 3.0


def create(rig: Rig, *, router: Router | None = None) -> None:
    """Make the services, with no replicas. They are told of the router as the function is: a
    secret costs the engine time at each start."""
    for name, command in ONE_SHOTS.items():
        rig.one_shot(name, command, router=router)


def starts_per_second(rig: Rig, name: str, *, replicas: int, seconds: float) -> float:
    """The pace of one of the services over so many seconds, after the ramp."""
    rig.scale(name, replicas)
    time.sleep(RAMP_S + seconds)
    ended = time.time()
    rig.scale(name, 0)
    return pace([at for at in rig.events.starts(name) if ended - seconds <= at < ended])
