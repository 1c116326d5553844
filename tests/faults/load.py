"""Callers, as a program of its own: `python load.py '{"directory": …, "seed": …, …}'`.

Needs nothing but `funker`, so it runs in any container that has that. Each caller makes one call
after the other, with arguments from the seed, and writes down what it does, see `ledger`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import funker

#: Letters of a call's text.
LENGTHS = (10, 100, 2000)


class Callers:
    """`order`: what they shall do, with these keys.

    - directory, seed
    - functions: [{name, idempotent}]
    - callers: how many at once; seconds: for how long they begin calls, at most: a file `enough`
      in the directory ends that
    - at_once: instead of both, one call for each of these numbers, which takes so many seconds
    - takes: [least, most] seconds of a call; one of four takes more than half of the range
    - pause: at most so many seconds between two calls of one caller
    - deadline: of each call, in seconds
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._calls = os.open(order["directory"] + "/calls.jsonl", os.O_WRONLY | os.O_APPEND)
        self._over = threading.Event()

    def run(self) -> None:
        at_once = self._order.get("at_once", [])
        number = len(at_once) or self._order["callers"]
        with ThreadPoolExecutor(number) as threads:
            if at_once:
                chance = random.Random(self._order["seed"])
                callers = [
                    threads.submit(self._call, str(key), chance, seconds)
                    for key, seconds in enumerate(at_once)
                ]
            else:
                callers = [threads.submit(self._call_on, caller) for caller in range(number)]
                self._wait()
                self._over.set()
        for caller in callers:
            caller.result()
        self._note(what="over")

    def _wait(self) -> None:
        """For as long as they shall call, or until they are dismissed."""
        until, enough = (
            time.monotonic() + self._order["seconds"],
            self._order["directory"] + "/enough",
        )
        while time.monotonic() < until and not Path(enough).exists():
            self._over.wait(0.2)

    def _call_on(self, caller: int) -> None:
        chance = random.Random(f"{self._order['seed']} {caller}")
        number = 0
        while not self._over.is_set():
            least, most = self._order["takes"]
            middle = least + (most - least) / 2
            seconds = chance.uniform(middle, most) if chance.random() < 0.25 else least
            self._call(f"{caller}-{number}", chance, seconds)
            number += 1
            self._over.wait(chance.uniform(0, self._order["pause"]))

    def _call(self, key: str, chance: random.Random, seconds: float) -> None:
        function = chance.choice(self._order["functions"])
        text = chance.choice("abcdef") * chance.choice(LENGTHS) + key
        # Whether it is idempotent is the function's own word, see its `CallPolicy`.
        called = funker.function(function["name"], deadline=self._order["deadline"])
        self._note(
            what="made",
            key=key,
            function=function["name"],
            idempotent=function["idempotent"],
            text=text,
        )
        try:
            value = called(key=key, text=text, seconds=round(seconds, 3))
        except funker.CallError as error:
            self._note(
                what="ended",
                key=key,
                code=error.code,
                message=error.message,
                replica=error.replica,
                retry_safe=error.retry_safe,
            )
        else:
            self._note(what="ended", key=key, code="ok", value=value)

    def _note(self, **event: Any) -> None:
        os.write(self._calls, json.dumps({**event, "at": time.time()}).encode() + b"\n")


if __name__ == "__main__":
    Callers(json.loads(sys.argv[1])).run()
