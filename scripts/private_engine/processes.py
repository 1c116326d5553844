"""The lab's processes: found by what only they have, ended by their numbers.

An engine's own processes (dockerd, containerd, shims) carry FUNKER_LAB_NODE in their environment.
Containers' processes don't, but their cgroup lies under the node's. Both hold after a parent died.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from private_engine.errors import LabError
from private_engine.state import Node, Process

MARK = "FUNKER_LAB_NODE"
CGROUPS = Path("/sys/fs/cgroup")
#: Seconds. A killed process that writes back to disk may take a while to go.
PATIENCE = 30


def identify(pid: int) -> Process | None:
    """The process that has this number now; None if there is none or it is a zombie."""
    try:
        # The command's name comes in parentheses and may hold anything; the rest has no ")".
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, started = fields[0], int(fields[19])
    return None if state in "ZX" else Process(pid, started)


def alive(process: Process | None) -> bool:
    return process is not None and identify(process.pid) == process


def of_node(node: Node) -> list[Process]:
    """Every process of this node's engine and of its containers."""
    mark = f"{MARK}={node.directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            contained = f":/{node.cgroup}/" in (entry / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            continue  # hidden even from root, as a machine's first process may be: not ours
        process = identify(int(entry.name)) if marked or contained else None
        if process:
            found.append(process)
    return found


def kill_node(node: Node) -> None:
    """Kill the engine first, or it would restart what is killed beside it; then the rest."""
    if node.engine is not None:
        kill([node.engine])
    until = time.monotonic() + PATIENCE
    while left := of_node(node):
        if time.monotonic() > until:
            raise LabError(f"processes of {node.name} don't die: {[p.pid for p in left]}")
        kill(left)
    _remove_cgroups(node)


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL, then wait until each is gone."""
    for process in processes:
        if not alive(process):
            continue
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            # The handle names one process for good: after this check no number can be reused.
            if alive(process):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], PATIENCE)
        except ProcessLookupError:
            pass  # gone between the check and the signal, which is what was wanted
        finally:
            os.close(handle)


def _remove_cgroups(node: Node) -> None:
    """With version 1 the directory exists once in each hierarchy, with version 2 once."""
    for parent in (*CGROUPS.glob(f"*/{node.cgroup}"), CGROUPS / node.cgroup):
        for directory, _, _ in os.walk(parent, topdown=False):
            Path(directory).rmdir()
