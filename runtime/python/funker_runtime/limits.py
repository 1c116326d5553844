"""The limits that a function's spec sets for each call's process: FUNKER_ULIMITS.

as      bytes of address space: beyond it, MemoryError
cpu     seconds of CPU time: beyond it, SIGXCPU, then SIGKILL
fsize   bytes of one file: beyond it, OSError (EFBIG)
nofile  open descriptors
nproc   processes of the user, on the whole machine; doesn't bind root
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("as", "cpu", "fsize", "nofile", "nproc")


def parse(text: str) -> dict[str, int]:
    """The limits in "as=268435456,cpu=10". Raises `ValueError`, whose text says what is wrong."""
    limits = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if name not in NAMES or not equals:
            raise ValueError(
                f"expected NAME=NUMBER with a NAME of {', '.join(NAMES)}, got {part!r}"
            )
        # More doesn't fit into the kernel's number.
        if not (value.isascii() and value.isdecimal() and 0 < int(value) < 1 << 63):
            raise ValueError(f"{name}: expected a positive whole number, got {value!r}")
        limits[name] = int(value)
    return limits


def impose(limits: Mapping[str, int]) -> None:
    """Set them for this process and its children, for good.

    A limit above what the process may have is lowered to that; one that the system lacks is left
    out, as macOS does without a limit of the address space. Raises `OSError`.
    """
    if not limits:
        return
    import resource  # most functions have no limits

    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if which is None:
            continue
        _, hard = resource.getrlimit(which)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # A second more of CPU time: SIGXCPU tells the process first, SIGKILL isn't to be ignored.
        ceiling = most + 1 if name == "cpu" and (hard < 0 or most < hard) else most
        try:
            resource.setrlimit(which, (most, ceiling))
        except ValueError:
            if name != "as":
                raise
