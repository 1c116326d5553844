"""What became of calls, for backends whose calls don't go through a router. In its own words."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from funker.rpc.errors import CallError


class Ledger:
    """Records as the router gives them (`QUERY` in docs/protocol.md). Thread-safe, unbounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Those of calls that are over, oldest first. Tests may add to them.
        self.records: list[dict[str, Any]] = []
        self._open: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def writing(self, id: str, function: str, replica: str) -> Iterator[None]:
        """A call that runs as long as the block does, and ends with the error that it raises."""
        record: dict[str, Any] = {
            "id": id,
            "function": function,
            "outcome": "running",
            "replica": replica,
            "at": round(time.time(), 3),
            "queue_ms": 0,
            "start_ms": 0,
        }
        with self._lock:
            self._open[id] = record
        started = time.monotonic()
        outcome = message = output = ""
        try:
            yield
            outcome = "ok"
        except CallError as error:
            outcome, message, output = error.code, error.message, error.output_tail
            raise
        finally:
            ended: dict[str, Any] = {
                "outcome": outcome or "function_crashed",
                "message": message,
                "at": round(time.time(), 3),
                "run_ms": round((time.monotonic() - started) * 1000),
                "attempt": 1,
                "output": output,
            }
            with self._lock:
                del self._open[id]
                self.records.append(record | ended)

    def last(self, function: str = "", limit: int = 0) -> list[dict[str, Any]]:
        """The latest calls that are over, newest first; of all functions if none is named."""
        with self._lock:
            found = [each for each in self.records if function in ("", each["function"])]
        found.reverse()
        return found[:limit] if limit else found

    def find(self, id: str) -> dict[str, Any] | None:
        """The record of one call, which may still run."""
        with self._lock:
            if id in self._open:
                return dict(self._open[id])
            return next((each for each in reversed(self.records) if each["id"] == id), None)

    def running(self, function: str) -> list[str]:
        """The ids of calls that are not over."""
        with self._lock:
            return [id for id, each in self._open.items() if each["function"] == function]

    def totals(self, function: str) -> dict[str, int]:
        """How many calls are over, and how many of them failed."""
        with self._lock:
            outcomes = [each["outcome"] for each in self.records if each["function"] == function]
        return {"calls": len(outcomes), "errors": len(outcomes) - outcomes.count("ok")}
