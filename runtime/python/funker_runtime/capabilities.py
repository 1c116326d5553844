"""Root's powers over the machine, given up where the runtime runs as root.

Files and processes of others stay its own (that is what a program that runs as root is used to);
what would last beyond a call and is no file goes: the clock, the host's name, mounts, modules, the
network's setup, limits and flags that bind everyone else.
"""

from __future__ import annotations

import ctypes
import os
import struct

#: CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID,
#: NET_BIND_SERVICE, NET_RAW.
KEPT = (0, 1, 2, 3, 4, 5, 6, 7, 10, 13)

_VERSION_3 = 0x20080522


def give_up() -> None:
    """Keep what is in KEPT, of what this process has. Raises `OSError`.

    With no_new_privs no program that it starts gets more.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _VERSION_3, 0)
    # Twice effective, permitted, inheritable: the lower and the upper 32 of the numbers.
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mask = sum(1 << number for number in KEPT)
    lower = [word & mask for word in struct.unpack("=6I", data.raw)[:3]]
    if libc.capset(header, struct.pack("=6I", *lower, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
