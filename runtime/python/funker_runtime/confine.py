"""How a worker of `isolation: process` binds itself before its call, and what binds it.

`prepare` is for the process that workers descend from, once, when the handler is loaded. Who forks
a worker calls `take` before and `give_back` in the end, and the worker `enter`. What can be had
without privileges is had; `residue` says how much that is:

    enforced         tried in a process of its own: a call can write to its own directory only
    partial: WHY     this machine lacks something
    off: WHY         it lacks Landlock: a call can write wherever its user can

What stays open even so is listed in docs/guides/isolation.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

from funker_runtime import capabilities, kernel, landlock, limits, scratch, seccomp

# pathlib would cost 5 ms of the start.
# ruff: noqa: PTH110, PTH118

#: What programs write to that keeps nothing.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

#: Where memory runs out, a call goes before the process that owns the sockets does. Whoever starts
#: workers has it too, as it's inherited: of those the kernel takes the largest.
OOM_SCORE_ADJ = b"500"

#: Seconds for the trial.
_TRIAL_S = 5.0

_PR_SET_NO_NEW_PRIVS = 38

#: Modules with a generator of their own for the whole process, and what draws its seed again.
#: Python's own does it by itself at each fork.
_RANDOM = {"numpy.random": "seed", "torch": "seed"}


class Confinement:
    """What workers are bound by on this machine."""

    def __init__(
        self, residue: str, sandbox: landlock.Sandbox | None, ulimits: Mapping[str, int]
    ) -> None:
        #: "enforced", "partial: WHY" or "off: WHY".
        self.residue = residue
        self._sandbox = sandbox
        self._limits = ulimits
        # Here, before TMPDIR is a worker's own.
        self._directories = scratch.Directories(scratch.base(os.environ))
        # A descriptor for each directory that is there, and the one that was taken last.
        self._rules: dict[str, int] = {}
        self._directory = ""
        self._random = [
            (sys.modules[name], draw) for name, draw in _RANDOM.items() if name in sys.modules
        ]

    def take(self) -> str:
        """A directory for the worker that this process forks next. Sets what that one inherits from
        here: its working directory, its environment, its input. Raises `OSError`.

        All that can be done here is: in a process that was just forked, each page of memory that
        Python touches for the first time is copied.
        """
        self._directory = directory = self._directories.take()
        os.chdir(directory)
        for name in ("TMPDIR", "HOME", "PWD"):
            os.environ[name] = directory
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].__dict__["tempdir"] = None  # where it was found to be until now
        # One for each: whether a descriptor blocks is the same for all that have inherited it.
        _replace(0, os.devnull, os.O_RDONLY)
        if self._sandbox is not None and directory not in self._rules:
            self._rules[directory] = self._sandbox.rules(directory)
        return directory

    def enter(self) -> None:
        """Bind this process, which has one thread, for good: the directory taken last is all that
        it may write to from now on. Raises `OSError`.
        """
        if self._limits:
            limits.impose(self._limits)
        if self._rules:
            landlock.restrict(self._rules[self._directory])
            for rules in self._rules.values():
                os.close(rules)
        for module, draw in self._random:
            getattr(module, draw)()

    def give_back(self, directory: str, until: float) -> bool:
        """Let go of a directory whose worker has ended, as all that it has started; whether what
        was in it is gone. Tries until `until` (time.monotonic())."""
        gone = self._directories.give_back(directory, until)
        if directory not in self._directories and directory in self._rules:
            os.close(self._rules.pop(directory))
        return gone

    def renew(self, directory: str) -> bool:
        """Undo what the last call may have done to the directory of the next; whether it is."""
        return self._directories.renew(directory)

    def close(self, until: float) -> None:
        """Remove all directories, when no worker is left."""
        self._directories.close(until)


def prepare(ulimits: Mapping[str, int]) -> Confinement:
    """Find out what this machine has, and bind this process by what doesn't differ between calls.

    Call it with one thread, once all that needs more is done: there is no way back, for what this
    process starts either. Raises nothing that the machine lacks.
    """
    if not kernel.LINUX:
        return Confinement(f"off: {sys.platform} has no Landlock", None, ulimits)
    _no_core_dumps()
    _more_likely_out_of_memory()
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    gaps = []
    if os.geteuid() == 0:
        try:
            capabilities.give_up()
        except OSError as error:
            gaps.append(f"root's capabilities can't be given up ({error.strerror})")
    if why := _filter_system_calls():
        gaps.append(why)
    try:
        abi = landlock.abi()
    except OSError as error:
        return Confinement(f"off: {_WITHOUT_LANDLOCK.get(error.errno or 0, error)}", None, ulimits)
    if lacks := landlock.lacking(abi):
        gaps.insert(0, f"with this kernel (Landlock {abi}) {lacks}")
    sandbox = landlock.Sandbox(abi, [path for path in DEVICES if os.path.exists(path)])
    if why := _trial(sandbox):
        return Confinement(f"off: {why}", None, ulimits)
    return Confinement(f"partial: {'; '.join(gaps)}" if gaps else "enforced", sandbox, ulimits)


_WITHOUT_LANDLOCK = {
    errno.ENOSYS: "this kernel has no Landlock",
    errno.EOPNOTSUPP: "Landlock isn't enabled on this machine",
    errno.EPERM: "the container's seccomp profile doesn't allow Landlock",
}


def _filter_system_calls() -> str:
    """Why they aren't, or ""."""
    if not seccomp.supported():
        return f"system calls can't be filtered on {os.uname().machine}"
    try:
        seccomp.install()
    except OSError as error:
        return f"system calls can't be filtered ({error.strerror})"
    return ""


def _trial(sandbox: landlock.Sandbox) -> str:
    """Why the sandbox doesn't hold, or "": another process enters one and tries."""
    base = scratch.base(os.environ)
    inside, outside = scratch.make(base), scratch.make(base)
    try:
        if (pid := os.fork()) == 0:
            _try_to_write(sandbox, inside, outside)
        _, status = os.waitpid(pid, 0)
        return _OUTCOMES.get(os.waitstatus_to_exitcode(status), "the trial of Landlock failed")
    finally:
        until = time.monotonic() + _TRIAL_S
        scratch.remove(inside, until)
        scratch.remove(outside, until)


_HELD, _REFUSED, _WROTE_OUTSIDE, _NOT_INSIDE = range(4)
_OUTCOMES = {
    _HELD: "",
    _REFUSED: "the kernel refuses to use Landlock here",
    _WROTE_OUTSIDE: "Landlock doesn't hold for the directory of temporary files",
    _NOT_INSIDE: "Landlock allows no writing in the directory of temporary files",
}


def _try_to_write(sandbox: landlock.Sandbox, inside: str, outside: str) -> NoReturn:
    outcome = _REFUSED
    try:
        landlock.restrict(sandbox.rules(inside))
        outcome = _NOT_INSIDE
        os.close(os.open(os.path.join(inside, "file"), os.O_CREAT | os.O_WRONLY))
        outcome = _WROTE_OUTSIDE
        os.close(os.open(os.path.join(outside, "file"), os.O_CREAT | os.O_WRONLY))
    except PermissionError:
        outcome = _HELD if outcome == _WROTE_OUTSIDE else outcome
    finally:
        os._exit(outcome)


def _replace(fd: int, path: str, flags: int) -> None:
    new = os.open(path, flags)
    os.dup2(new, fd)
    os.close(new)


def _more_likely_out_of_memory() -> None:
    # Refused where it is higher already, and some containers have no /proc to write to.
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(fd, OOM_SCORE_ADJ)
        finally:
            os.close(fd)


def _no_core_dumps() -> None:
    # 1 and not 0: what the kernel pipes to a program isn't limited by 0, but left out with 1.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    one = 1 if hard != 0 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (one, one))
