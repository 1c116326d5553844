"""Removes directories beside the agent's loop: a function may leave gigabytes in its scratch."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable


class Broom:
    """One thread that does what it is told, in order."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="funker-broom", daemon=True)
        self._thread.start()

    def sweep(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)

    def finish(self) -> None:
        """Returns when all is done."""
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except OSError as error:  # what can't be removed stays, and the next one goes
                print(f"funker-local: {error}", file=sys.stderr, flush=True)
