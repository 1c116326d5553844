"""The one worker of a replica whose calls have a container each, as the front sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import zmq

from funker_runtime import kernel, worker
from funker_runtime.events import Answered, Died, Event, Loaded, LoadFailed, Raised
from funker_runtime.output import Output

if TYPE_CHECKING:
    from funker.rpc.messages import Call
    from funker_runtime.log import Log

#: Seconds that a dead worker's last output is waited for: the log may be blocked.
OUTPUT_S = 0.2
#: Rounds of dummy traffic before READY: the first round trip through fresh code paths, page
#: faults and sockets takes about twice as long as the next.
WARM_ROUNDS = 3


class Solo:
    """A worker that was forked, the link to it, and the pipes of its stdout and stderr."""

    def __init__(self, pid: int, link: socket.socket, out: int, err: int, log: Log) -> None:
        #: Leads a process group: all that is to be killed should this process be.
        self.leader = pid
        self._pid = pid
        self._link = link
        self._log = log
        self._output = Output(out, err, log)
        self._death_watch = kernel.death_watch(pid)
        self._how: str | None = None  # how the worker died, once it did
        self._output_by = float("inf")
        self._warm_rounds = 0
        self._poller: zmq.Poller | None = None

    def watch(self, poller: zmq.Poller) -> None:
        self._poller = poller
        for fd in (self._link.fileno(), self._death_watch, self._log.ended):
            poller.register(fd, zmq.POLLIN)

    def wakeup(self) -> float:
        return self._output_by

    def events(self, ready: dict[Any, int]) -> list[Event]:
        """What happened, by a poll's result."""
        happened: list[Event] = []
        # The worker's last words come before the news of its death.
        if self._link.fileno() in ready:
            happened += self._hear()
        if self._death_watch in ready:
            happened += self._bury()
        if self._log.ended in ready and self._log.endings():
            self._output_by = min(self._output_by, time.monotonic())
        if time.monotonic() >= self._output_by:
            self._output_by = float("inf")
            happened.append(Died(self._how or "died", self._output.tail()))
        return happened

    def start(self, call: Call, _: int) -> None:
        self._output.begin(call.id)
        self._tell({"call": worker.header(call)}, call.body or b"")

    def release(self, _: int) -> None:
        self._tell({"end": True})

    def kill(self, _: int = 0) -> None:
        # The group's number is the worker's own until the worker has been waited for. There is
        # no such group before the worker has made it, its first act.
        if self._how is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """It isn't needed any more."""
        self.kill()

    def _tell(self, message: dict[str, Any], body: bytes | None = None) -> None:
        # A worker that has just died hears nothing; the news of its death answers the caller.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.send(self._link, message, body)

    def _hear(self) -> list[Event]:
        received = worker.receive(self._link)
        if received is None:
            assert self._poller is not None
            self._poller.unregister(self._link.fileno())
            return []
        message, body = received
        match message:
            case {"loaded": _}:
                self._tell({"warm": True}, b'{"x":1}')
            case {"warm": _} if self._warm_rounds < WARM_ROUNDS:
                self._warm_rounds += 1
                self._tell({"warm": True}, b'{"x":1}')
            case {"warm": _}:
                return [Loaded()]
            case {"failed": failure}:
                self._output.say(failure["traceback"] or f"{failure['message']}\n")
                return [LoadFailed(failure["message"], failure["traceback"])]
            case _:
                return [word(message, body, 0, self._output)]
        return []

    def _bury(self) -> list[Event]:
        assert self._poller is not None
        self._poller.unregister(self._death_watch)
        happened: list[Event] = []
        while self._link.fileno() in dict(self._poller.poll(0)):
            happened += self._hear()
        self.kill()  # what it left running
        _, status = os.waitpid(self._pid, 0)
        self._how = how_it_died(status)
        self._output.finish()
        self._output_by = time.monotonic() + OUTPUT_S
        return happened


def word(message: dict[str, Any], body: bytes | None, slot: int, output: Output) -> Event:
    """What a worker has said. Raises `ValueError` for what none says."""
    match message:
        case {"answer": {"content_type": str(content_type)}} if len(content_type) < 1024:
            return Answered(content_type, body or b"", slot)
        case {"oversized": int(size)}:
            return Answered("", b"", slot, size)
        case {"error": {"message": str(m), "exception_type": str(e), "traceback": str(t)}}:
            output.say(t)
            return Raised(m, e, t, slot)
    raise ValueError(f"a worker said {message!r:.200}")


def how_it_died(status: int) -> str:
    """The words for what `waitpid` said."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"exited with status {os.WEXITSTATUS(status)}"
