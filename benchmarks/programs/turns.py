"""Several callers that call by turns, at one pace.

    turns.py CALLERS TURNS CALLS GAP

CALLERS is JSON: {NAME: {"arguments": [...], "environment": {...}}}, for `caller.py`. In each of
the TURNS each of them makes CALLS calls, one every GAP seconds; a turn before them doesn't count.
Prints {NAME: [[milliseconds of each call] for each turn]}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Python's own, so that all callers find what this process finds.
CALLER = [sys.executable, str(Path(__file__).with_name("caller.py"))]


class Caller:
    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [*CALLER, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def calls(self, number: int, gap: float) -> list[float]:
        """Milliseconds of so many calls, one every `gap` seconds."""
        times = []
        for _ in range(number):
            began = time.monotonic()
            self._stdin.write("\n")
            self._stdin.flush()
            if not (answer := self._stdout.readline()):
                sys.exit(f"a caller ended with status {self._process.wait()}")
            times.append(float(answer))
            time.sleep(max(0.0, began + gap - time.monotonic()))
        return times

    def end(self) -> None:
        self._stdin.close()
        if status := self._process.wait():
            sys.exit(f"a caller ended with status {status}")


def main(callers: dict[str, Any], turns: int, calls: int, gap: float) -> None:
    made = {name: Caller(**about) for name, about in callers.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in made}
    for turn in range(turns + 1):
        # Each is first once: what a turn leaves behind burdens the next.
        first = turn % len(made)
        for name in [*made][first:] + [*made][:first]:
            times[name].append(made[name].calls(calls, gap))
    for caller in made.values():
        caller.end()
    print(json.dumps({name: each[1:] for name, each in times.items()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
