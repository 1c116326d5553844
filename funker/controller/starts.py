"""Which functions may start how many replicas now, since an engine starts only so many. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from funker.controller.autoscaler import STARTS_PER_CORE, Stats


@dataclass(frozen=True, slots=True)
class Growth:
    """A function that shall get more replicas, and how many of it are starting already."""

    more: int
    starting: int
    #: Whether it has none at all: its first one is never made to wait for other functions.
    is_first: bool = False


def room(functions: Mapping[str, Stats]) -> dict[str, int]:
    """How many more replicas of each function may be started now.

    Those that can't serve aren't counted: they may be starting for ever.
    """
    busy = sum(stats.starting for stats in functions.values() if not stats.failing)
    cores = max((stats.cores for stats in functions.values()), default=1)
    left = STARTS_PER_CORE * cores - busy
    return {
        name: max(0, min(left, STARTS_PER_CORE * stats.cores - stats.starting))
        for name, stats in functions.items()
    }


def share(growths: Mapping[str, Growth], room: int) -> dict[str, int]:
    """How many replicas to start of each of these functions: no more than `room` in all.

    One after another goes to whoever has the fewest starting, so that a function that needs a
    hundred doesn't keep out the one that needs two.
    """
    given = {name: int(growth.is_first and growth.more > 0) for name, growth in growths.items()}
    left = room - sum(given.values())
    level = 0
    hungry = {name for name, growth in growths.items() if growth.more > given[name]}
    while left > 0 and hungry:
        level = min(growths[name].starting + given[name] for name in hungry)
        for name in sorted(hungry):
            if left and growths[name].starting + given[name] == level:
                given[name] += 1
                left -= 1
                if given[name] == growths[name].more:
                    hungry.discard(name)
    return given
