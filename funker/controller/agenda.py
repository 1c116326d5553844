"""When to look at which call again. Pure; as good as O(1), since most calls end before."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping

from funker.controller.tables import OpenCall

#: Moments of calls that are over, or have another one meanwhile, that are kept at most, beside
#: one for each call.
STALE = 1024


class Agenda:
    """Moments of open calls, soonest first.

    Of calls that are due at the same moment the last one comes first: those that go back to
    wait each go to the head of their queue.
    """

    def __init__(self, open: Mapping[str, OpenCall]) -> None:
        self._open = open
        self._dues: list[tuple[float, int, str]] = []
        self._order = itertools.count(0, -1)

    def __len__(self) -> int:
        return len(self._dues)

    def note(self, call: OpenCall, at: float) -> None:
        """Look at this call then, and not before."""
        call.due = at
        heapq.heappush(self._dues, (at, next(self._order), call.id))
        if len(self._dues) > 2 * len(self._open) + STALE:
            self._dues = [(c.due, n, c.id) for n, c in enumerate(self._open.values())]
            heapq.heapify(self._dues)

    def soonest(self) -> float:
        """When something may be due at the earliest."""
        return self._dues[0][0] if self._dues else float("inf")

    def due(self, now: float) -> Iterator[OpenCall]:
        """The calls whose moment has come."""
        while self._dues and self._dues[0][0] <= now:
            at, _, id = heapq.heappop(self._dues)
            if (call := self._open.get(id)) is not None and call.due == at:
                yield call
