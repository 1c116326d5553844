"""A filter for system calls that leave a trace outside of files, which Landlock can't keep.

What it refuses, it refuses as a kernel does that lacks it (ENOSYS, ENOTSUP, ENOTTY), which programs
are ready for, or as one does that isn't asked by the owner (EPERM):

    shmget semget msgget mq_open     shared memory, semaphores and queues that outlive processes
    add_key request_key keyctl       the user's keys in the kernel
    setxattr removexattr …           attributes of files that the user owns, wherever they are
    ioctl FS_IOC_SETFLAGS …          their flags, and input to terminals (TIOCSTI)
    io_uring_setup                   its operations go around any filter
    prlimit setpriority sched_set…   of another process than the one that asks (as 0, itself)
    programs of another architecture their numbers mean something else

It is a program of classic BPF, seccomp(2); the kernel has an answer for each number that it doesn't
look at the arguments of at hand, so that others cost nothing.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

# BPF: load a word of seccomp_data; jump if equal, if greater or equal; return.
_LD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

#: AUDIT_ARCH of each machine whose numbers are known.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    "x86_64": {
        errno.ENOSYS: (29, 64, 68, 240, 248, 249, 250, 425),
        errno.ENOTSUP: (188, 189, 190, 197, 198, 199, 463, 466, 469),
    },
    "aarch64": {
        errno.ENOSYS: (194, 190, 186, 180, 217, 218, 219, 425),
        errno.ENOTSUP: (5, 6, 7, 14, 15, 16, 463, 466, 469),
    },
}
#: Those whose first argument is a process, 0 for the caller: sched_setparam, _setscheduler,
#: _setaffinity, _setattr.
_SCHEDULING = {"x86_64": (142, 144, 203, 314), "aarch64": (118, 119, 122, 274)}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
#: setpriority and ioprio_set with their word for «a process» in the first argument.
_PRIORITIES = {"x86_64": ((141, 0), (251, 1)), "aarch64": ((140, 0), (30, 1))}
_IOCTL = {"x86_64": 16, "aarch64": 29}
#: FS_IOC_SETFLAGS, the same for 32 bits, FS_IOC_FSSETXATTR, TIOCSTI.
_REQUESTS = (0x40086602, 0x40046602, 0x401C5820, 0x5412)

_X32 = 0x40000000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in _ARCHITECTURES and struct.calcsize("P") == 8


def install() -> None:
    """Filter this process's system calls and those of all that it will start. Needs no_new_privs.

    Raises `OSError` where the kernel has no filters, `KeyError` for a machine that isn't supported.
    """
    code = program(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    filter = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "can't filter system calls")


def program(machine: str) -> bytes:
    """The filter for a machine: 8 bytes for each instruction."""
    code = [
        _load(_ARCHITECTURE),
        *_unless(_ARCHITECTURES[machine], _refuse(errno.ENOSYS)),
        _load(_NUMBER),
    ]
    if machine == "x86_64":
        code += [_step(_JGE, _X32, 0, 1), _refuse(errno.ENOSYS)]
    for error, numbers in _REFUSED[machine].items():
        for number in numbers:
            code += _when(number, [_refuse(error)])
    # Each of these blocks ends in an answer: the number isn't loaded any more after it.
    for number in _SCHEDULING[machine]:
        code += _when(number, [*_only(0, 0), _step(_RET, _ALLOW)])
    for number, process in _PRIORITIES[machine]:
        code += _when(number, [*_only(0, process), *_only(1, 0), _step(_RET, _ALLOW)])
    # With a null pointer for the new limits it only asks. Its value is two words.
    asks = [*_only(2, 0), _load(_ARGUMENTS + 2 * 8 + 4), *_unless(0, _refuse(errno.EPERM))]
    others = [*asks, _step(_RET, _ALLOW)]
    itself = [_load(_ARGUMENTS), _step(_JEQ, 0, 0, 1), _step(_RET, _ALLOW)]
    code += _when(_PRLIMIT[machine], [*itself, *others])
    requests = [_load(_ARGUMENTS + 8)]
    for request in _REQUESTS:
        requests += _when(request, [_refuse(errno.ENOTTY)])
    code += _when(_IOCTL[machine], [*requests, _step(_RET, _ALLOW)])
    return b"".join([*code, _step(_RET, _ALLOW)])


def _step(operation: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; `then` and `otherwise` are how many to skip."""
    return struct.pack("=HBBI", operation, then, otherwise, value)


def _load(offset: int) -> bytes:
    return _step(_LD, offset)


def _refuse(error: int) -> bytes:
    return _step(_RET, _ERRNO | error)


def _when(value: int, block: list[bytes]) -> list[bytes]:
    return [_step(_JEQ, value, 0, len(block)), *block]


def _unless(value: int, refusal: bytes) -> list[bytes]:
    return [_step(_JEQ, value, 1, 0), refusal]


def _only(argument: int, value: int) -> list[bytes]:
    """Refuse any other value of an argument's lower word."""
    return [_load(_ARGUMENTS + argument * 8), *_unless(value, _refuse(errno.EPERM))]
