"""A replica's line to the process that started it, where FUNKER_LIFELINE names its descriptor.

It is one end of a stream socket. When the other end is closed, that process is gone: an idle
replica leaves, a busy one finishes and holds its answer first, as after SIGTERM. Over it the
replica says what it is, one line of JSON each time:

    {"worker": pid}   once, its worker's process, which leads a process group of its own
    {"state": "idle"}   it is ready
    {"state": "failed", "message": …, "traceback": …}   it can't load its handler

FUNKER_CANDIDATE=1 says that this replica is a new version's, whose function has an older one that
works: should it fail, then only the process that started it is told. To callers it would look as
if the function were broken.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping


class Lifeline:
    """`fd` becomes readable when the other side is gone."""

    def __init__(self, fd: int, *, candidate: bool) -> None:
        self.fd = fd
        self.candidate = candidate
        os.set_blocking(fd, False)  # whoever doesn't listen must not hold up a call

    def says(self, fields: dict[str, object]) -> None:
        line = json.dumps(fields).encode() + b"\n"
        with contextlib.suppress(OSError):  # nobody there: `fd` tells
            os.write(self.fd, line)


def lifeline(environ: Mapping[str, str]) -> Lifeline | None:
    """The line that the environment names, if any."""
    try:
        fd = int(environ["FUNKER_LIFELINE"])
        os.fstat(fd)
    except (KeyError, ValueError, OSError):
        return None
    return Lifeline(fd, candidate=environ.get("FUNKER_CANDIDATE") == "1")
