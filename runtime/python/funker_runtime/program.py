"""Any executable as a handler: a call's body on its stdin, the answer on its stdout.

What its header says is in its environment:

FUNKER_CALL_ID            the call's id
FUNKER_CALL_FUNCTION      the name that the caller used
FUNKER_CALL_CONTENT_TYPE  of the body
FUNKER_CALL_TIMEOUT_MS    how long it may run, if the caller said so
FUNKER_CALL_DEADLINE_MS   the caller's patience, from its start on, if there is an end to it
FUNKER_CALL_ATTEMPT       1, and more for a call that is tried again
FUNKER_CALL_TRACEPARENT   the trace that it belongs to, if it does

An exit status other than 0 is the function's error, an end by a signal its crash, and what goes to
stderr is its output, as with any other handler.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from funker.rpc.messages import BYTES, JSON, TEXT
from funker_runtime import kernel
from funker_runtime.loader import HandlerError, Raw

#: Bytes of one read: what a pipe holds.
CHUNK = 65536


class ExitStatus(Exception):
    """Raised when the program ends with a status other than 0."""


class NotStarted(Exception):
    """Raised when the kernel won't run the program."""


def parse(text: str) -> list[str]:
    """A command as its words: a JSON array, or words as a shell has them (but there is none).

    Raises `HandlerError`.
    """
    words: list[str]
    try:
        if text.lstrip().startswith("["):
            words = json.loads(text)
        else:
            import shlex  # 2 ms, and most commands come as words

            words = shlex.split(text)
    except ValueError as error:
        raise HandlerError(f"FUNKER_COMMAND={text!r}: {error}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise HandlerError(f'FUNKER_COMMAND={text!r} is no command like ["./run.sh", "-v"]')
    return words


class Program(Raw):
    """A command that is run for each call. Raises `HandlerError` for one that can't be.

    A relative path starts where this is made: the program itself may be started elsewhere.
    `max_body` is in bytes; an answer that is larger isn't read to its end.
    """

    def __init__(self, command: Sequence[str], *, max_body: int, content_type: str = "") -> None:
        self._command = [*command]
        self._path = _found(command[0])
        self._max_body = max_body
        self._content_type = content_type

    def answer(self, call: Mapping[str, Any], body: bytes) -> tuple[str, bytes]:
        """Raises `ExitStatus` or `NotStarted`; doesn't return if the program dies of a signal."""
        out, pid = self._start(call, body)
        try:
            answer = self._read(out, pid)
        finally:
            os.close(out)
        if len(answer) > self._max_body:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return BYTES, answer  # the front says what is wrong with it
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            _die_of(os.WTERMSIG(status))
        if code := os.WEXITSTATUS(status):
            raise ExitStatus(f"{self._command[0]} exited with status {code}")
        return self._content_type or guessed(answer), answer

    def _start(self, call: Mapping[str, Any], body: bytes) -> tuple[int, int]:
        """The reading end of its stdout, and its pid."""
        given = kernel.anonymous_file(body)
        os.lseek(given, 0, os.SEEK_SET)
        out, theirs = os.pipe()
        try:
            pid = os.posix_spawn(
                self._path,
                self._command,
                {**os.environ, **_variables(call)},
                file_actions=[(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, theirs, 1)],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
            )
        except OSError as error:
            os.close(out)
            told = error.strerror
            if error.errno == errno.ENOEXEC:
                told = "it is no program of this machine, nor does it begin with #!"
            raise NotStarted(f"{self._path} can't be run: {told}") from None
        finally:
            os.close(given)
            os.close(theirs)
        return out, pid

    def _read(self, out: int, pid: int) -> bytes:
        """What the program writes until it is dead; a byte too much ends it as well.

        Its own children may hold the pipe open for longer.
        """
        watch = kernel.death_watch(pid)
        poller = select.poll()
        for fd in (out, watch):
            poller.register(fd, select.POLLIN)
        os.set_blocking(out, False)
        parts: list[bytes] = []
        size = 0
        ended = dead = False
        while size <= self._max_body and not (dead and ended):
            ready = {fd for fd, _ in poller.poll(None if not dead else 0)}
            dead = dead or watch in ready
            if out in ready and not ended:
                try:
                    data = os.read(out, CHUNK)
                except BlockingIOError:
                    data = b""
                parts.append(data)
                size += len(data)
                if not data:
                    ended = True
                    poller.unregister(out)
            elif dead:
                ended = True
        os.close(watch)
        return b"".join(parts)


def guessed(answer: bytes) -> str:
    """The content type of an answer whose program doesn't tell: JSON if it is some, else text."""
    if answer.lstrip()[:1] in b'{["-0123456789tfn':
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(answer)
            return JSON
    try:
        answer.decode()
    except UnicodeDecodeError:
        return BYTES
    return TEXT


def _variables(call: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"FUNKER_CALL_{name.upper()}": str(value).replace("\0", "")
        for name, value in call.items()
        if value not in (None, "")
    }


def _found(name: str) -> str:
    """The absolute path of a program. Raises `HandlerError`."""
    cwd = os.getcwd()  # noqa: PTH109 - pathlib costs 5 ms of the start
    if "/" not in name:
        for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(directory or cwd, name)  # noqa: PTH118
            if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
                return path
        beside = os.path.exists(os.path.join(cwd, name))  # noqa: PTH110, PTH118
        told = f" (the one in {cwd} is ./{name})" if beside else ""
        raise HandlerError(f"command {name!r}: there is no such program on PATH{told}")
    path = os.path.join(cwd, name)  # noqa: PTH118
    if not os.path.exists(path):  # noqa: PTH110
        raise HandlerError(f"command {name!r}: there is no file {os.path.normpath(path)}")
    if not os.path.isfile(path) or not os.access(path, os.X_OK):  # noqa: PTH113
        raise HandlerError(
            f"command {name!r}: {os.path.normpath(path)} is not executable (chmod +x)"
        )
    _check_interpreter(path)
    return path


def _check_interpreter(path: str) -> None:
    """Raises `HandlerError`: of the kernel one would only hear that there is no such file."""
    try:
        with open(path, "rb") as file:
            line = file.read(256).partition(b"\n")[0]
    except OSError:  # it may be executed and not read
        return
    wanted = line[2:].replace(b"\t", b" ").strip(b" ").partition(b" ")[0]
    if line[:2] == b"#!" and wanted and not os.path.exists(wanted):  # noqa: PTH110
        shown = wanted.decode(errors="replace").strip()
        more = " (its lines end in \\r\\n)" if line.endswith(b"\r") else ""
        raise HandlerError(f"{os.path.normpath(path)} is for {shown}, which isn't there{more}")


def _die_of(number: int) -> NoReturn:
    """End as the program did, so that it is told as its end; without a core of this process."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # SIGKILL has no other way anyway
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)
