"""Keeps processes running, as a function's replicas are kept: each that ends is started again.

    keep.py NUMBER ARGUMENT...

They are NUMBER of this Python, with these arguments. One that fails isn't started again. When stdin
ends all are killed, and the Unix times of all starts are printed, as a JSON list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time


class Slot(threading.Thread):
    """One of them, and those that come after it."""

    def __init__(self, arguments: list[str]) -> None:
        super().__init__()
        self.starts: list[float] = []
        self._command = [sys.executable, *arguments]
        self._changing = threading.Lock()
        self._over = False
        self._process = self._next()

    def run(self) -> None:
        while self._process.wait() == 0:
            with self._changing:
                if self._over:
                    return
                self._process = self._next()

    def end(self) -> None:
        """Returns when the last one is gone."""
        with self._changing:
            self._over = True
            self._process.kill()
        self.join()

    def _next(self) -> subprocess.Popen[bytes]:
        self.starts.append(time.time())
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def main(number: int, arguments: list[str]) -> None:
    slots = [Slot(arguments) for _ in range(number)]
    for slot in slots:
        slot.start()
    sys.stdin.read()
    for slot in slots:
        slot.end()
    print(json.dumps(sorted(at for slot in slots for at in slot.starts)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
