"""What callers and functions have written down of each call, one line of JSON for each event.

Both write to files of one directory, each line with one system call that appends: so a process
that is killed leaves whole lines, and all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: The two files: by callers, and by functions.
CALLS, RUNS = "calls.jsonl", "runs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A caller is about to make a call. `at`, here and below: Unix time in seconds."""

    key: str
    function: str
    idempotent: bool
    text: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A caller has an outcome: `ok` with a value, or an error's code."""

    key: str
    code: str
    at: float
    value: Any = None
    message: str = ""
    replica: str = ""
    retry_safe: bool = False


@dataclass(frozen=True, kw_only=True)
class Started:
    """A handler has begun with a call. Each run has a name of its own."""

    key: str
    run: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A handler is about to answer."""

    key: str
    run: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A fault that did happen."""

    kind: str
    target: str
    began: float
    ended: float
    #: The replica whose process was killed.
    replica: str = ""
    #: Calls that this one may have had.
    calls: int = 1
    #: What was said by a deploy or a scaling that failed.
    failed: str = ""


@dataclass(frozen=True)
class Ledger:
    made: list[Made] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)


def read(directory: Path) -> Ledger:
    """All that has been written so far."""
    ledger = Ledger()
    kinds: dict[str, tuple[type[Any], list[Any]]] = {
        "made": (Made, ledger.made),
        "ended": (Ended, ledger.ended),
        "started": (Started, ledger.started),
        "finished": (Finished, ledger.finished),
    }
    for name in (CALLS, RUNS):
        file = directory / name
        for line in file.read_text().splitlines() if file.exists() else []:
            event = json.loads(line)
            cls, events = kinds.get(event.pop("what"), (None, []))
            if cls is not None:
                events.append(cls(**event))
    return ledger


def answer(key: str, text: str) -> str:
    """What the function `program/handler.py` has to answer."""
    return f"{key} {text[::-1]}"
