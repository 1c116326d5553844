"""The directory that a call may write to: made before it, removed after it, whatever is in it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

# This runs in processes that are to stay small: pathlib and shutil are left out.
# ruff: noqa: PTH101, PTH102, PTH106, PTH112, PTH117, PTH118

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


def renew(path: str) -> bool:
    """Give an empty directory back what its user can change from outside; whether that worked.

    Landlock has no say in modes and times.
    """
    try:
        os.chmod(path, _MODE)
        os.utime(path)
    except OSError:
        return False
    return True


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
