"""What became of calls: the last ones of each function, with what they printed. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from funker.controller.tables import Record

#: Calls that are remembered of each function, and characters of output of each.
CALLS, OUTPUT = 200, 8192


class CallLog:
    """Records by function, newest last; bounded."""

    def __init__(self, calls: int = CALLS) -> None:
        self._limit = calls
        self._functions: dict[str, deque[dict[str, Any]]] = {}
        self._by_id: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.totals: dict[str, tuple[int, int]] = {}

    def add(self, record: Record, *, at: float) -> None:
        """Note the end of a call; `at` is the wall clock, in seconds since 1970."""
        entry = record._asdict() | {"at": round(at, 3), "output": record.output_tail[-OUTPUT:]}
        del entry["output_tail"]
        calls = self._functions.setdefault(record.function, deque())
        calls.append(entry)
        self._by_id[record.id] = entry
        if len(calls) > self._limit:
            oldest = calls.popleft()
            if self._by_id.get(oldest["id"]) is oldest:  # a call that came back has a newer one
                del self._by_id[oldest["id"]]
        done, failed = self.totals.get(record.function, (0, 0))
        self.totals[record.function] = (done + 1, failed + (record.outcome != "ok"))

    def printed(self, id: str, text: str) -> None:
        """The output of a call that has ended, arriving behind its outcome."""
        if (entry := self._by_id.get(id)) is not None:
            entry["output"] = text[-OUTPUT:]

    def find(self, id: str) -> dict[str, Any] | None:
        """The record of one call."""
        return self._by_id.get(id)

    def last(self, function: str = "", limit: int = 0) -> list[dict[str, Any]]:
        """The latest calls, newest first; of all functions if none is named."""
        chosen = (
            list(self._functions.get(function, ()))
            if function
            else sorted(
                (entry for calls in self._functions.values() for entry in calls),
                key=lambda entry: float(entry["at"]),
            )
        )
        chosen.reverse()
        return chosen[:limit] if limit else chosen
