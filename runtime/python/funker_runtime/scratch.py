"""The directories that calls may write to: one for each, removed after it, whatever is in it.

One that a call hasn't touched is as good as new, and is kept for another: on a disk, making and
removing a directory takes longer than all the rest that is done around a call.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

# This runs in processes that are to stay small: pathlib and shutil are left out.
# ruff: noqa: PTH101, PTH102, PTH106, PTH112, PTH116, PTH117, PTH118

#: What each directory's name begins with, after which come 16 hex digits.
PREFIX = "funker-call-"
_MODE = 0o700
#: Entries that are removed between two looks at the clock.
_BATCH = 256


def base(environ: Mapping[str, str]) -> str:
    """Where temporary files go: TMPDIR, where that is a directory, or /tmp."""
    told = environ.get("TMPDIR", "")
    return told if os.path.isabs(told) and os.path.isdir(told) else "/tmp"  # noqa: S108


def make(base: str) -> str:
    """A new, empty directory in `base` that only this user can enter; its absolute path.

    It stands by itself there. In a directory of ours, shared by calls, one could leave something:
    its mode, times and attributes. Raises `OSError`.
    """
    path = os.path.join(base, PREFIX + os.urandom(8).hex())
    os.mkdir(path, _MODE)
    return path


class Directories:
    """Those of the calls of one slot, in `base`."""

    def __init__(self, base: str) -> None:
        self._base = base
        #: How those that are there were when they were new; None for one that isn't any more.
        self._new: dict[str, _State | None] = {}
        self._untouched: list[str] = []

    def take(self) -> str:
        """One that is empty and has no past. Raises `OSError`."""
        if self._untouched:
            return self._untouched.pop()
        path = make(self._base)
        self._new[path] = _state(path)
        return path

    def give_back(self, path: str, until: float) -> bool:
        """Keep or remove one whose call has ended; whether that worked. See `remove`."""
        if self._is_new(path):
            self._untouched.append(path)
            return True
        if not remove(path, until):
            return False
        self._new.pop(path, None)
        return True

    def renew(self, path: str) -> bool:
        """Give one whose call hasn't begun back what others can change of it from outside; whether
        that worked. Landlock has no say in modes and times.
        """
        try:
            if self._new[path] == _state(path):
                return True
            self._new[path] = None
            os.chmod(path, _MODE)
            os.utime(path)
        except OSError:
            return False
        return True

    def close(self, until: float) -> None:
        """Remove all that are there."""
        for path in self._new:
            remove(path, until)
        self._new.clear()

    def __contains__(self, path: str) -> bool:
        return path in self._new

    def _is_new(self, path: str) -> bool:
        # The time of the last change, which nobody can set, stays only if nothing was changed. It
        # goes in steps of milliseconds: whatever was changed within the first one, and changed
        # back, has left nothing that could be found.
        try:
            return self._new[path] == _state(path) and _is_empty(path)
        except OSError:
            return False


#: Mode, owner, group, links; nanoseconds of the last access and the last changes.
_State = tuple[int, ...]


def _state(path: str) -> _State:
    found = os.stat(path)
    times = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    return (found.st_mode, found.st_uid, found.st_gid, found.st_nlink, *times)


def _is_empty(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOATIME)
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is None
    finally:
        os.close(fd)


def remove(path: str, until: float) -> bool:
    """Remove a directory that nobody uses any more and all in it; whether it is gone.

    Never raises, and tries until `until` (time.monotonic()) at most. Names of any bytes, files and
    directories of any mode, and any depth are all the same to it: what is deeper than the first
    level is moved there, so that no path is ever long and no more than three descriptors are open.
    """
    try:
        os.rmdir(path)  # nearly all are empty
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass
    try:
        os.chmod(path, _MODE)
        top = _open(path, None)
        try:
            while _sweep(top, top, until):
                pass
        finally:
            os.close(top)
        os.rmdir(path)
    except OSError:
        return False
    return True


def _sweep(directory: int, top: int, until: float) -> bool:
    """Remove the entries of a directory, or move them to the top; whether there were any.

    Raises `OSError` for one that stays, and `TimeoutError`.
    """
    found = 0
    with os.scandir(directory) as entries:
        for found, entry in enumerate(entries, 1):
            if found % _BATCH == 0 and time.monotonic() > until:
                raise TimeoutError
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=directory)
                continue
            with contextlib.suppress(OSError):
                os.rmdir(entry.name, dir_fd=directory)
                continue
            # To move or open it takes leave to write in it.
            os.chmod(entry.name, _MODE, dir_fd=directory)
            if directory != top:
                fresh = os.urandom(16).hex()
                os.rename(entry.name, fresh, src_dir_fd=directory, dst_dir_fd=top)
                continue
            inner = _open(entry.name, directory)
            try:
                while _sweep(inner, top, until):
                    pass
            finally:
                os.close(inner)
            os.rmdir(entry.name, dir_fd=directory)
    if found and time.monotonic() > until:
        raise TimeoutError
    return found > 0


def _open(name: str, directory: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=directory)
