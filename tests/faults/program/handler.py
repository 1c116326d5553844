"""The function under load: writes down each run, takes its time, and answers."""

from __future__ import annotations

import json
import os
import time

# Opened while the module is loaded: a worker may be forbidden to open it later.
_RUNS = os.open(os.environ["LEDGER"] + "/runs.jsonl", os.O_WRONLY | os.O_APPEND)


def handle(key: str, text: str, seconds: float) -> str:
    run = os.urandom(6).hex()
    _note("started", key, run)
    time.sleep(seconds)
    _note("finished", key, run)
    return f"{key} {text[::-1]}"


def _note(what: str, key: str, run: str) -> None:
    line = json.dumps({"what": what, "key": key, "run": run, "at": time.time()})
    os.write(_RUNS, line.encode() + b"\n")
