"""Which faults happen when: from a seed, and nothing else. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds of load before the first fault, and after the last one.
CALM_S = 2.0
#: Seconds between two faults: at least, and at most.
GAP_S = (1.0, 4.0)
#: Seconds that the engine, or the router, stays away.
AWAY_S = (1.0, 6.0)

#: kill -9 of one process.
KILLS = ("front", "worker", "router", "reconciler")
#: kill -9 of the router again and again, so that there is none for a while.
OUTAGE = "outage"
#: Whoever starts replicas and the controller does nothing for a while: the swarm's engine stands
#: still, the local agent is dead.
ENGINE = "engine"
#: The function is deployed again, with another setting.
REDEPLOY = "redeploy"
#: Its number of replicas is changed.
SCALE = "scale"

KINDS = (*KILLS, OUTAGE, ENGINE, REDEPLOY, SCALE)


@dataclass(frozen=True)
class Target:
    """A function under load."""

    name: str
    #: Whether its calls are tried again when a fault has hit them.
    idempotent: bool
    #: As many as it has at most.
    replicas: int
    #: Calls of one replica at once.
    slots: int = 1
    #: Whether the number of replicas is the autoscaler's.
    scaled: bool = False


@dataclass(frozen=True)
class Fault:
    """One fault, `at` so many seconds of load."""

    at: float
    kind: str
    #: The function, for those that hit one.
    target: str = ""
    #: Replicas of a `scale`; seconds of an `outage` or of the `engine`.
    amount: float = 0.0
    #: From 0 to 1: which of the processes that could be killed.
    pick: float = 0.0


def schedule(
    seed: int,
    seconds: float,
    targets: Sequence[Target],
    *,
    kinds: Sequence[str] = KINDS,
    harm: int,
) -> tuple[Fault, ...]:
    """The faults of so many seconds.

    Each kind comes before any comes again. At most `harm` of them may cost a call: kills of a
    front or worker of a function whose calls aren't idempotent.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    bag: list[str] = []
    now = CALM_S + chance.uniform(*GAP_S)
    while now < seconds - CALM_S:
        if not bag:
            bag = [*kinds]
            chance.shuffle(bag)
        fault = _fault(chance, now, bag.pop(), targets, harm=harm)
        if fault is not None:
            harm -= harm_of(fault, targets)
            faults.append(fault)
            now += fault.amount if fault.kind in (OUTAGE, ENGINE) else 0.0
        now += chance.uniform(*GAP_S)
    return tuple(faults)


def harm_of(fault: Fault, targets: Sequence[Target]) -> int:
    """How many calls it may cost."""
    slots = {target.name: target.slots for target in targets if not target.idempotent}
    return slots.get(fault.target, 0) if fault.kind in ("front", "worker") else 0


def _fault(
    chance: random.Random, now: float, kind: str, targets: Sequence[Target], *, harm: int
) -> Fault | None:
    """None: all that it could hit costs a call."""
    target = chance.choice(targets)
    pick = round(chance.random(), 3)
    away = round(chance.uniform(*AWAY_S), 1)
    now = round(now, 2)
    match kind:
        case "front" | "worker":
            made = [Fault(now, kind, each.name, pick=pick) for each in (target, *targets)]
            left = [each for each in made if harm_of(each, targets) <= harm]
            return left[0] if left else None
        case "redeploy":
            return Fault(now, kind, target.name)
        case "scale":
            fixed = chance.choice([each for each in targets if not each.scaled])
            return Fault(now, kind, fixed.name, amount=chance.randint(1, fixed.replicas))
        case "outage" | "engine":
            return Fault(now, kind, amount=away)
    return Fault(now, kind)
