"""What only Linux has, each with a fallback: anonymous files, parent-death signals, pidfds.

Everything else in the runtime is plain POSIX.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable

_INT = struct.calcsize("i")

#: Tests switch this off to run the fallbacks.
LINUX = sys.platform == "linux"


def anonymous_file(data: bytes) -> int:
    """A descriptor of a nameless file in memory that holds `data`.

    Bodies cross between front and worker this way: 64 MiB through a pipe takes more than twice
    as long, since both sides must wake up for each 64 KiB.
    """
    if LINUX:
        fd = os.memfd_create("funker-body")
    else:
        import tempfile  # 4 ms of a replica's start

        fd, path = tempfile.mkstemp(prefix="funker-body-")
        os.unlink(path)  # noqa: PTH108 - pathlib costs 5 ms of a replica's start
    view = memoryview(data)
    while view:  # write() takes at most 2 GiB at once
        view = view[os.write(fd, view) :]
    return fd


def read_file(fd: int, limit: int | None = None) -> bytes:
    """All of an anonymous file, or its beginning of `limit` bytes; closes it."""
    try:
        size = os.fstat(fd).st_size
        if limit is not None:
            size = min(size, limit)
        parts = []
        offset = 0
        while offset < size and (part := os.pread(fd, size - offset, offset)):
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(fd)


def receive(link: socket.socket, size: int, *, fds: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """A message of at most `size` bytes, and at most `fds` descriptors that come with it.

    As `socket.recv_fds`, which in Python 3.11 doesn't heed `flags`.
    """
    data, ancillary, _, _ = link.recvmsg(size, socket.CMSG_LEN(fds * _INT), flags)
    for level, kind, packed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            count = len(packed) // _INT
            return data, list(struct.unpack(f"{count}i", packed[: count * _INT]))
    return data, []


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep message boundaries."""
    kind = socket.SOCK_SEQPACKET if LINUX else socket.SOCK_DGRAM
    return socket.socketpair(socket.AF_UNIX, kind)


def die_with_parent(parent: int, grandparent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    In a container whose init ends with the parent the kernel does that by itself, since a PID
    namespace ends with its first process: so the time for importing ctypes is saved.
    """
    if not LINUX or parent == 1 or (grandparent == 1 and _init_ends_with_its_child()):
        return
    hear_of_death(parent, signal.SIGKILL)


def hear_of_death(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent dies. Linux only."""
    pr_set_pdeathsig = 1
    _prctl(pr_set_pdeathsig, number)
    if os.getppid() != parent:  # it died just before
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of what descends from this process and whose own parent ends."""
    if LINUX:
        pr_set_child_subreaper = 36
        _prctl(pr_set_child_subreaper, 1)


def _prctl(option: int, value: int) -> None:
    global _prctl_of_libc
    if _prctl_of_libc is None:
        import ctypes  # most replicas never need it

        _prctl_of_libc = ctypes.CDLL(None).prctl
    _prctl_of_libc(option, value, 0, 0, 0)


#: Kept, since a process that was just forked pays for all that it makes anew.
_prctl_of_libc: Callable[..., object] | None = None


def _init_ends_with_its_child() -> bool:
    """Whether PID 1 is tini, under its own name or Docker's."""
    with contextlib.suppress(OSError), open("/proc/1/comm") as file:
        return file.read().strip() in ("tini", "docker-init")
    return False


def death_watch(pid: int) -> int:
    """A descriptor that becomes readable when child `pid` is dead.

    End of file on a pipe doesn't tell: the worker's own children hold it open.
    """
    if LINUX:
        return os.pidfd_open(pid)
    reader, writer = os.pipe()

    def wait() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.close(writer)

    threading.Thread(target=wait, daemon=True).start()
    return reader
