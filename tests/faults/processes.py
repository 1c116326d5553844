"""The processes to kill, found in /proc: those of containers are there as well, if we are root."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds for a killed process to be gone.
GONE_S = 10


@dataclass(frozen=True, order=True)
class Process:
    pid: int
    parent: int
    words: tuple[str, ...]
    variables: dict[str, str] = field(hash=False)


def everything() -> dict[int, Process]:
    """All processes by number, but for those that may not be looked at and zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has just ended
                process = _look(int(entry.name))
                if process.words:
                    found[process.pid] = process
    return found


def under(processes: dict[int, Process], roots: set[int]) -> dict[int, Process]:
    """Those of them whose ancestors include one of these, and these."""
    return {pid: each for pid, each in processes.items() if roots & set(_line(processes, pid))}


def _line(processes: dict[int, Process], pid: int) -> Iterator[int]:
    while pid in processes:
        yield pid
        pid = processes[pid].parent


def fronts(processes: dict[int, Process], function: str) -> list[Process]:
    """The first process of each replica of a function that isn't its `tini`."""
    own = {
        pid: process
        for pid, process in processes.items()
        if process.variables.get("FUNKER_FUNCTION") == function
        and not process.words[0].endswith("tini")
    }
    return sorted(process for process in own.values() if process.parent not in own)


def workers(processes: dict[int, Process], fronts: list[Process]) -> list[Process]:
    """What these fronts have under them: with `isolation: process`, what forks workers as well."""
    roots = {front.pid for front in fronts}
    return sorted(set(under(processes, roots).values()) - set(fronts))


def running(processes: dict[int, Process], module: str) -> list[Process]:
    """Those that run a module of this name: `funker.controller.router`."""
    return sorted(process for process in processes.values() if module in process.words)


def kill(process: Process) -> bool:
    """SIGKILL; whether it was still there to be killed. Returns when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle names one process for good; the number may have become another's before.
        if _look(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], GONE_S)[0])
    except (OSError, ProcessLookupError):
        return False
    finally:
        os.close(handle)


def _look(pid: int) -> Process:
    place = Path(f"/proc/{pid}")
    # The name, in parentheses, may hold anything.
    parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    words = [word for word in (place / "cmdline").read_bytes().split(b"\0") if word]
    pairs = (pair.partition(b"=") for pair in (place / "environ").read_bytes().split(b"\0"))
    variables = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}
    return Process(pid, parent, tuple(map(os.fsdecode, words)), variables)
