"""The filter for system calls, run by a machine for its instructions that is written here."""

from __future__ import annotations

import errno
import struct

import pytest

from funker_runtime import seccomp

X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}
ALLOWED = 0x7FFF0000


def outcome(machine: str, number: int, *arguments: int, architecture: int = 0) -> int:
    """0 where the call is allowed, else its errno."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    architecture = architecture or ARCHITECTURES[machine]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *words)
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at, accumulator = 0, 0
    while True:
        operation, then, otherwise, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += then if accumulator == value else otherwise
            case 0x35:
                at += then if accumulator >= value else otherwise
            case 0x06:
                return 0 if value == ALLOWED else value & 0xFFFF
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize(
    ("machine", "number", "arguments", "expected"),
    [
        ("x86_64", 0, (), 0),  # read
        ("x86_64", 56, (), 0),  # clone
        ("x86_64", 29, (), errno.ENOSYS),  # shmget
        ("aarch64", 194, (), errno.ENOSYS),
        ("aarch64", 29, (0, 0x5412), errno.ENOTTY),  # ioctl TIOCSTI
        ("x86_64", 16, (0, 0x5413), 0),  # ioctl TIOCGWINSZ
        ("x86_64", 16, (0, 0x40086602), errno.ENOTTY),
        ("x86_64", 188, (), errno.ENOTSUP),  # setxattr
        ("x86_64", 141, (0, 0, 5), 0),  # setpriority: the process itself
        ("x86_64", 141, (0, 77, 5), errno.EPERM),
        ("x86_64", 141, (2, 0, 5), errno.EPERM),  # all of the user's
        ("x86_64", 251, (1, 0, 5), 0),  # ioprio_set
        ("x86_64", 251, (3, 0, 5), errno.EPERM),
        ("x86_64", 203, (0,), 0),  # sched_setaffinity
        ("x86_64", 203, (77,), errno.EPERM),
        ("x86_64", 302, (0, 7, 4096), 0),  # prlimit: the process itself
        ("x86_64", 302, (77, 7, 0), 0),  # only asks
        ("x86_64", 302, (77, 7, 4096), errno.EPERM),
        ("x86_64", 302, (77, 7, 4096 << 32), errno.EPERM),
        ("x86_64", 0x40000000 | 29, (), errno.ENOSYS),  # x32
    ],
)
def test_what_leaves_a_trace_is_refused(
    machine: str, number: int, arguments: tuple[int, ...], expected: int
) -> None:
    assert outcome(machine, number, *arguments) == expected


def test_programs_of_another_architecture_do_nothing() -> None:
    assert outcome("x86_64", 0, architecture=I386) == errno.ENOSYS
