"""Many callers, each calling again as soon as it has its answer.

    load.py FUNCTION CALLERS SECONDS [CALLS]

Which funker is imported decides who is measured: ours, or the original by way of PYTHONPATH. No
call starts after SECONDS, nor after CALLS of them; those under way then get GRACE seconds more and
count as failed if they haven't ended by then. Every call has numbers of its own to add, so that no
other call's answer passes for its own. Prints {"began", "ended": Unix times of the first call and
of SECONDS later, "answers": Unix times of the right ones, "failed": {reason: calls}, "stuck"}.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import sys
import threading
import time

import funker

GRACE = 20.0
#: Seconds that a caller waits after a failure: one that fails at once would else do nothing but
#: keep the machine from starting replicas.
PAUSE = 0.05


class Load:
    def __init__(self, function: str, seconds: float, calls: float) -> None:
        self._function = function
        self._calls = calls
        self._numbers = itertools.count(1)
        self.began = time.time()
        self.ended = self.began + seconds
        self.answers: list[float] = []
        self.failed: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()

    def call_on(self) -> None:
        """One caller's work."""
        while time.time() < self.ended and (number := next(self._numbers)) <= self._calls:
            try:
                answer = funker.call(self._function, x=number, y=number)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
                self._count(type(error).__name__)
                time.sleep(PAUSE)
            else:
                self._count("" if answer == 2 * number else "wrong answer")

    def _count(self, failure: str) -> None:
        with self._counting:
            if failure:
                self.failed[failure] += 1
            else:
                self.answers.append(time.time())


def main(function: str, callers: int, seconds: float, calls: float = float("inf")) -> None:
    load = Load(function, seconds, calls)
    threads = [threading.Thread(target=load.call_on, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, load.ended + GRACE - time.time()))
    result = {
        "began": load.began,
        "ended": load.ended,
        "answers": sorted(load.answers),
        "failed": dict(load.failed),
        "stuck": sum(thread.is_alive() for thread in threads),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # the original's callers may be stuck for ever


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
