"""Calls that come at times of their own, whether or not those before are answered.

    arrivals.py FUNCTION SHAPE RATE SECONDS

SHAPE is how the rate goes: `ramp` from nothing to RATE a second and back, `on-off` RATE for a
quarter of SECONDS, nothing for as long, and both again. Arrivals are random (a Poisson process of
that rate, thinned after Lewis and Shedler 1979), the same in each run. Prints
{"began": Unix time, "arrivals": seconds after it, "answered": calls with the right answer}.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import funker

SEED = 20161125
PATIENCE_S = 120.0


def rate(shape: str, share: float) -> float:
    """The part of the highest rate at this share (0 to 1) of the time."""
    if shape == "ramp":
        return 1 - abs(2 * share - 1)
    return 1.0 if int(share * 4) % 2 == 0 else 0.0


def arrivals(shape: str, highest: float, seconds: float) -> list[float]:
    chance = random.Random(SEED)
    at, found = 0.0, []
    while (at := at + chance.expovariate(highest)) < seconds:
        if chance.random() < rate(shape, at / seconds):
            found.append(at)
    return found


def main(function: str, shape: str, highest: float, seconds: float) -> None:
    call = funker.function(function, deadline=PATIENCE_S)
    times = arrivals(shape, highest, seconds)
    answered: list[int] = []

    def one(number: int) -> None:
        if call(x=number, y=number) == 2 * number:
            answered.append(number)

    began = time.time()
    threads = []
    for number, at in enumerate(times):
        time.sleep(max(0.0, began + at - time.time()))
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    print(json.dumps({"began": began, "arrivals": times, "answered": len(answered)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
