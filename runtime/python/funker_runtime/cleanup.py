"""What a slot's keeper does after a call: nothing that the call has started or written stays.

The keeper adopts orphans (`kernel.adopt_orphans`), and one call at a time runs beneath it: so
whatever descends from it, other than the processes that it knows, is the last call's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from funker_runtime import kernel

if TYPE_CHECKING:
    from funker_runtime.confine import Confinement

#: Seconds until whoever doesn't die is looked at again: others may have been started meanwhile.
_ROUND_S = 0.02


def clean(
    confinement: Confinement, worker: int, directory: str, keep: Mapping[int, str], until: float
) -> str:
    """Kill and reap what a call's worker has left, give its directory back; what is left, or "".

    `worker` is the worker's process, dead but not yet waited for, so that the number is its own and
    its group's. It isn't waited for here. `keep` are other children, which stay with what descends
    from them, and their directories, which are as new afterwards. Never raises, and tries until
    `until` (time.monotonic()) at most.
    """
    # All at once: between two kills one by one, a process can start another.
    _kill_group(worker)
    left = []
    if alive := end({worker, *keep}, until):
        left.append(f"{alive} process{'es' * (alive > 1)}")
    if not confinement.give_back(directory, until):
        left.append(directory)
    left += [f"the mode of {kept}" for kept in keep.values() if not confinement.renew(kept)]
    return " and ".join(left)


def end(keep: Collection[int], until: float) -> int:
    """Kill and reap all children but `keep`, and with them all that descends from them; how many
    live on after `until`."""
    me = os.getpid()
    before: list[int] = []
    while strangers := [pid for pid in _own_children() if pid not in keep]:
        living = [pid for pid in strangers if not _is_dead(pid)]
        if not living and strangers == before:
            # Nobody was left to die between the two looks, so no orphan can have come meanwhile.
            # Reaped only now: the dead count for limits of processes, and so have kept the living
            # from starting more.
            for pid in strangers:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            before = []
            continue
        before = strangers
        for pid in living:
            _kill_group(pid)
            _kill(pid, me)
            for child, parent in _descendants(pid):
                _kill(child, parent)
        if living:
            if time.monotonic() > until:
                return len(living)
            _await(living[-1])
    return 0


def _kill_group(leader: int) -> None:
    # The number is no other group's as long as the leader hasn't been waited for.
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def _kill(pid: int, parent: int) -> None:
    """Kill a process if it is that one's child: its number may be another's by now."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if _parent(pid) == parent:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


def _is_dead(pid: int) -> bool:
    """Whether a child has ended. It isn't waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _await(pid: int) -> None:
    """Wait for the death of a child, a moment at most."""
    fd = kernel.death_watch(pid)
    try:
        select.select([fd], [], [], _ROUND_S)
    finally:
        os.close(fd)


def _descendants(pid: int) -> Iterator[tuple[int, int]]:
    """What a process has started, and what that has: each with its parent."""
    parents = [pid]
    while parents:
        parent = parents.pop()
        for child in _children(parent):
            yield child, parent
            parents.append(child)


def _own_children() -> list[int]:
    """All of them: of a process with one thread, whose children only it can wait for."""
    try:
        fd = os.open("/proc/thread-self/children", os.O_RDONLY)
    except OSError:
        return _children(os.getpid())
    try:
        read = b""
        while part := os.read(fd, 65536):
            read += part
    finally:
        os.close(fd)
    return [int(pid) for pid in read.split()]


def _children(pid: int) -> list[int]:
    """The children of a process. Some may be missed while others come and go."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib is left out here
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found += map(int, file.readall().split())
    return found


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        # The name, in parentheses, may hold anything.
        return int(file.readall().rpartition(b")")[2].split()[1])
