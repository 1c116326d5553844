"""What became of calls: the last ones of each function, with what they printed. Pure.

Noting a call is on its way, looking one up isn't: so entries are kept raw and rendered when
somebody asks. Bounded in calls of each function, in functions, and in bytes in all; what is
dropped first is the oldest of the function, the function that was quiet longest, the oldest of
all.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from funker.controller.tables import Record

#: Calls that are remembered of each function, and functions.
CALLS, FUNCTIONS = 200, 1000
#: Characters of output that are kept of a call, and bytes, roughly, of all calls together.
OUTPUT, BYTES = 8192, 64 << 20
#: Bytes that an entry has beside its texts.
_ENTRY = 700


class _Entry:
    __slots__ = ("at", "output", "record")

    def __init__(self, record: Record, at: float) -> None:
        self.record = record
        self.at = at
        self.output = record.output_tail[-OUTPUT:]

    @property
    def size(self) -> int:
        return _ENTRY + len(self.output) + len(self.record.message)

    def render(self) -> dict[str, Any]:
        entry = self.record._asdict() | {"at": round(self.at, 3), "output": self.output}
        del entry["output_tail"]
        return entry


class CallLog:
    """Records by function, newest last."""

    def __init__(self, calls: int = CALLS, functions: int = FUNCTIONS, size: int = BYTES) -> None:
        self._calls, self._most_functions, self._most_bytes = calls, functions, size
        # The one that was quiet longest comes first.
        self._functions: OrderedDict[str, deque[_Entry]] = OrderedDict()
        # The oldest comes first. A call that came back has its newer entry here.
        self._by_id: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0
        #: Calls and errors of each function that is remembered.
        self.totals: dict[str, tuple[int, int]] = {}

    def add(self, record: Record, *, at: float) -> None:
        """Note the end of a call; `at` is the wall clock, in seconds since 1970."""
        entry = _Entry(record, at)
        calls = self._functions.get(record.function)
        if calls is None:
            calls = self._functions[record.function] = deque()
        else:
            self._functions.move_to_end(record.function)
        if record.id in self._by_id:
            self._drop(self._by_id[record.id])
        calls.append(entry)
        self._by_id[record.id] = entry
        self._size += entry.size
        done, failed = self.totals.get(record.function, (0, 0))
        self.totals[record.function] = (done + 1, failed + (record.outcome != "ok"))
        self._hold_bounds(calls)

    def _hold_bounds(self, calls: deque[_Entry]) -> None:
        if len(calls) > self._calls:
            self._drop(calls[0])
        if len(self._functions) > self._most_functions:
            function, dropped = next(iter(self._functions.items()))
            for entry in list(dropped):
                self._drop(entry)
            del self._functions[function], self.totals[function]
        while self._size > self._most_bytes:
            self._drop(next(iter(self._by_id.values())))

    def _drop(self, entry: _Entry) -> None:
        self._functions[entry.record.function].remove(entry)
        del self._by_id[entry.record.id]
        self._size -= entry.size

    def printed(self, id: str, text: str) -> None:
        """The output of a call that has ended, arriving behind its outcome."""
        if (entry := self._by_id.get(id)) is not None:
            self._size -= entry.size
            entry.output = text[-OUTPUT:]
            self._size += entry.size

    def find(self, id: str) -> dict[str, Any] | None:
        """The record of one call."""
        entry = self._by_id.get(id)
        return entry.render() if entry else None

    def last(self, function: str = "", limit: int = 0) -> list[dict[str, Any]]:
        """The latest calls, newest first; of all functions if none is named. 0: no limit."""
        chosen = list(self._newest_first(function))
        return [entry.render() for entry in (chosen[:limit] if limit else chosen)]

    def _newest_first(self, function: str) -> Iterator[_Entry]:
        entries = self._functions.get(function, ()) if function else self._by_id.values()
        return reversed(entries)
