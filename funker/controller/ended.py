"""Calls that are over, so that late duplicates start nothing. Pure, bounded in time and number."""

from __future__ import annotations

from collections import OrderedDict

from funker.rpc.messages import Error

#: Calls that are remembered after their end, and seconds.
REMEMBERED, REMEMBER_S = 100_000, 60.0


class Ended:
    """Ids with when they ended, and the error if the router had to say one."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[float, Error | None]] = OrderedDict()

    def __contains__(self, id: str) -> bool:
        return id in self._calls

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, id: str, error: Error | None, now: float) -> None:
        self._calls[id] = (now, error)
        if len(self._calls) > REMEMBERED:
            self._calls.popitem(last=False)

    def error(self, id: str) -> Error | None:
        """What its caller, who may have missed it, is to hear again."""
        return self._calls[id][1]

    def forget_old(self, now: float) -> None:
        while self._calls and next(iter(self._calls.values()))[0] < now - REMEMBER_S:
            self._calls.popitem(last=False)
