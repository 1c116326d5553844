"""Many callers, each calling again as soon as it has its answer.

    load.py FUNCTION CALLERS SECONDS

Which funker is imported decides who is measured: ours, or the original by way of PYTHONPATH. No
call starts after SECONDS; those under way then get GRACE seconds more and count as failed if
they haven't ended by then. Prints {"began", "ended": Unix times of the first call and of SECONDS
later, "answered", "answered_in_time": within SECONDS, "failed": {reason: calls}, "stuck"}.
"""

from __future__ import annotations

import collections
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
    def __init__(self, function: str, seconds: float) -> None:
        self._function = function
        self.began = time.time()
        self.ended = self.began + seconds
        self.answered = 0
        self.answered_in_time = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()

    def call_on(self) -> None:
        """One caller's work."""
        while time.time() < self.ended:
            try:
                answer = funker.call(self._function, x=1, y=2)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
                self._count(type(error).__name__)
                time.sleep(PAUSE)
            else:
                self._count("" if answer == 3 else "wrong answer")

    def _count(self, failure: str) -> None:
        with self._counting:
            if failure:
                self.failed[failure] += 1
            else:
                self.answered += 1
                self.answered_in_time += time.time() < self.ended


def main(function: str, callers: int, seconds: float) -> None:
    load = Load(function, seconds)
    threads = [threading.Thread(target=load.call_on, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, load.ended + GRACE - time.time()))
    result = {
        "began": load.began,
        "ended": load.ended,
        "answered": load.answered,
        "answered_in_time": load.answered_in_time,
        "failed": dict(load.failed),
        "stuck": sum(thread.is_alive() for thread in threads),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # the original's callers may be stuck for ever


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
