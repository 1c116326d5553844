"""A function that does to itself what its argument `act` says."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEN: list[str] = []


def handle(act: Any = "echo", **given: Any) -> Any:
    if isinstance(act, bytes):
        return act
    print(given.get("mark", act), flush=True)
    match act:
        case "answer":
            return given["value"]
        case "abort":
            os.abort()
        case "exit":
            sys.exit(3)
        case "raise":
            raise LookupError("nothing is there")
        case "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        case "loop":
            while True:
                pass
        case "sleep":
            time.sleep(given["seconds"])
        case "object":
            return object()
        case "bytes":
            return b"x" * given["count"]
        case "print":
            print("é" * given["count"], flush=True)
        case "variables":
            return {name: os.environ.get(name) for name in given["names"]}
        case "remember":
            SEEN.append(given["word"])
            notes = Path(tempfile.gettempdir(), "contract-notes")
            with notes.open("a") as file:
                file.write(given["word"])
            os.environ["CONTRACT_WORD"] = given["word"]
            return [SEEN, notes.read_text()]
    return given


def strict(act: Any = "echo", *, count: int = 0) -> Any:
    """The same, with no other arguments than these."""
    return handle(act, count=count)


def other(value: Any = None) -> Any:
    """Another callable of the same file."""
    return {"other": value}
