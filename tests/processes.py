"""Processes that a test has started and that are nobody's children any more."""

from __future__ import annotations

import os
import select
from pathlib import Path

#: The variable that marks what a test starts, and all that this starts in turn.
TOKEN = "FUNKER_TEST_TOKEN"
#: Seconds. Proves that a process ends; none takes nearly as long.
PATIENCE = 30.0


def is_gone(pid: int, within: float = PATIENCE) -> bool:
    """Whether a process, not necessarily a child, has ended or is about to."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], within)[0])
    finally:
        os.close(fd)


def bearers(token: str) -> list[int]:
    """The processes that have the token in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:  # it has just ended, or is none of ours
                continue
            if f"{TOKEN}={token}".encode() in environ.split(b"\0"):
                found.append(int(entry.name))
    return found
