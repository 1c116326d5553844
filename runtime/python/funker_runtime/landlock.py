"""Landlock, the kernel's sandbox for the unprivileged, by its system calls.

https://docs.kernel.org/userspace-api/landlock.html. What it handles is denied, except where a rule
allows it; a process that has restricted itself can't go back, and neither can its children. It
handles what writes, never reading or executing. Each ABI version of the kernel can more:

    1   5.13   writing, creating and removing files
    2   5.19   moving files between directories (in 1 always denied)
    3   6.2    truncating
    6   6.12   abstract Unix sockets and signals stay inside the sandbox

In all of them, processes outside of the sandbox can't be traced, nor their memory read.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE = 1 << 1
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_ANYTHING = 0b1111111 << 6  # character device … symbolic link
_REFER = 1 << 13
_TRUNCATE = 1 << 14

_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

#: The first ABI that lets nothing through that it could keep: what `lacking` is measured by.
WHOLE = 6

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def abi() -> int:
    """The kernel's ABI version. Raises `OSError`: ENOSYS (not built in), EOPNOTSUPP (not enabled),
    EPERM (a container's filter doesn't let it through)."""
    return _call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)


def lacking(abi: int) -> str:
    """What a kernel of this ABI lets happen that a later one doesn't, or ""."""
    gaps = []
    if abi < 3:
        gaps.append("files can be truncated")
    if abi < WHOLE:
        gaps.append("the replica's other processes can be signalled")
    return " and ".join(gaps)


class Sandbox:
    """Rules for processes that may write to what is in a directory, and to `devices`, files."""

    def __init__(self, abi: int, devices: Sequence[str] = ()) -> None:
        writes = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_ANYTHING
        if abi >= 2:
            writes |= _REFER
        if abi >= 3:
            writes |= _TRUNCATE
        scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS
        # struct landlock_ruleset_attr: files, network (not handled), scopes. An older kernel wants
        # the size that it knows.
        attributes = struct.pack("=QQQ", writes, 0, scopes)
        self._attributes = attributes if abi >= WHOLE else attributes[:8]
        self._writes = writes
        self._devices = tuple(devices)
        # Of a file that is no directory only these can be said.
        self._file_writes = writes & (_WRITE_FILE | _TRUNCATE)

    def rules(self, directory: str) -> int:
        """A descriptor that holds what may be written to, for `restrict`. Raises `OSError`."""
        size = len(self._attributes)
        ruleset = _call(_CREATE_RULESET, ctypes.c_char_p(self._attributes), size, 0)
        try:
            self._allow(ruleset, directory, self._writes)
            for device in self._devices:
                self._allow(ruleset, device, self._file_writes)
        except BaseException:
            os.close(ruleset)
            raise
        return ruleset

    def _allow(self, ruleset: int, path: str, access: int) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            # struct landlock_path_beneath_attr, which is packed.
            rule = struct.pack("=Qi", access, fd)
            _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
        finally:
            os.close(fd)


def restrict(rules: int) -> None:
    """Restrict this process and all that it will start. Needs no_new_privs. Raises `OSError`, and
    then nothing is restricted."""
    _call(_RESTRICT_SELF, rules, 0)


def _call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(ctypes.c_long(number), *wide)
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result
