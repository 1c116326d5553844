"""The replica's log: what workers print, each line with the call that printed it, on stdout and
stderr, for the engine to keep.

    {"time":"2026-01-31T12:00:00.123456Z","function":"add","call":"…","stream":"stdout","text":"hi"}

On a terminal, or with FUNKER_LOG=plain, it is passed on as it comes. One thread reads all pipes and
writes; the front's own loop never waits for a log.

Bounded: a call may log so many bytes; one line then says how much there was more. A log that takes
nothing holds its writers up for `STALL_S`, and then loses what they write: no call waits for it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funker_runtime.output import Output

#: Bytes of a line with all that is around its text: what Docker's log drivers don't break up.
MAX_LINE = 16 * 1024
#: Bytes of one read: what a pipe holds.
CHUNK = 65536
#: Bytes of one write: so many never block where poll() says that a pipe can be written (PIPE_BUF).
WRITE = 4096
#: Bytes that wait to be written before their writers are held up, and for how many seconds.
BACKLOG, STALL_S = 256 * 1024, 0.1
#: Bytes read of a dead worker's pipe: the largest that a user may make it. Its children may go on.
REST = 1024 * 1024

STREAMS = {1: "stdout", 2: "stderr"}

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Log:
    """The thread that moves output, and what it writes to: this process's own stdout and stderr.

    `limit` is in bytes, for each call. `ended` is a descriptor that becomes readable when workers'
    outputs have come to their ends; `endings` gives them.
    """

    def __init__(self, function: str, *, plain: bool, limit: int) -> None:
        self.limit = limit
        self._function = _encode(function)
        self._plain = plain
        self._wake, self._waker = os.pipe()
        self.ended, self._end = os.pipe()
        for fd in (self._wake, self._waker, self.ended):
            os.set_blocking(fd, False)
        self._told: deque[Callable[[], None]] = deque()
        self._endings: deque[Output] = deque()
        self._sources: dict[int, Output] = {}
        self._waiting = {1: bytearray(), 2: bytearray()}
        self._written = threading.Event()
        self._written.set()
        self._full_since: float | None = None
        threading.Thread(target=self._run, name="log", daemon=True).start()

    # For the front

    def watch(self, output: Output) -> None:
        """Move this output from now on."""
        self._tell(lambda: self._sources.update(dict.fromkeys(output.sources, output)))

    def finish(self, output: Output) -> None:
        """Move it to its end: its worker is dead."""
        self._tell(lambda: self._finish(output))

    def turn(self, output: Output) -> None:
        """Move what is there of it now: its worker is dead, and another follows."""
        self._tell(lambda: self._turn(output))

    def say(self, text: str, call: str | None = None, after: Output | None = None) -> None:
        """Log a text of the front's own, about a call or none, after what an output has by now.

        Never waits.
        """
        if after is not None:
            self._tell(functools.partial(self._read_all, after))
        for line in text.splitlines():
            self._tell(functools.partial(self.line, line, call=call, stream=2))

    def endings(self) -> list[Output]:
        """The outputs that have come to their ends since the last question."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.ended, CHUNK)
        found = []
        while self._endings:
            found.append(self._endings.popleft())
        return found

    def flush(self, seconds: float) -> None:
        """Wait until all is written, but not for a log that is blocked."""
        self._written.wait(seconds)

    # The thread

    def _tell(self, task: Callable[[], None]) -> None:
        self._told.append(task)
        with contextlib.suppress(BlockingIOError):  # it has enough to wake up for
            os.write(self._waker, b"x")

    def _run(self) -> None:
        while True:
            for fd, event in self._ready():
                if fd == self._wake:
                    os.read(self._wake, CHUNK)
                    self._hear()
                elif fd in STREAMS:
                    self._write(fd)
                elif event and fd in self._sources:
                    self._read(fd)

    def _ready(self) -> list[tuple[int, int]]:
        """Waits for something to do. While too much waits to be written, nothing is read."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for fd, waiting in self._waiting.items():
            if waiting:
                poller.register(fd, select.POLLOUT)
        patience = self._patience()
        if patience <= 0:
            for fd in self._sources:
                poller.register(fd, select.POLLIN)
        return poller.poll(patience * 1000 if patience > 0 else None)

    def _patience(self) -> float:
        """Seconds for which writers are held up; 0: they aren't."""
        if self._full_since is None:
            return 0.0
        return self._full_since + STALL_S - time.monotonic()

    @property
    def blocked(self) -> bool:
        """Whether what comes now is lost."""
        return self._full_since is not None and self._patience() <= 0

    def _hear(self) -> None:
        while self._told:
            self._told.popleft()()

    def _read(self, fd: int) -> bytes:
        output = self._sources[fd]
        output.in_hand = True
        try:
            data = os.read(fd, CHUNK)
            if not data:
                del self._sources[fd]  # a handler may close its output and work on
            output.came(fd, data)
        except BlockingIOError:
            return b""
        finally:
            output.in_hand = False
        return data

    def _finish(self, output: Output) -> None:
        """The worker is dead: what is in its pipes is all."""
        self._read_all(output)
        for fd in output.sources:
            self._sources.pop(fd, None)
        output.close()
        self._end_of(output)

    def _turn(self, output: Output) -> None:
        self._read_all(output)
        output.end()
        self._end_of(output)

    def _read_all(self, output: Output) -> None:
        for fd in output.sources:
            rest = REST
            while rest > 0 and fd in self._sources and (data := self._read(fd)):
                rest -= len(data)

    def _end_of(self, output: Output) -> None:
        self._endings.append(output)
        os.write(self._end, b"x")

    def line(self, text: str, *, call: str | None, stream: int) -> None:
        """Log text without a line break at its end; a long one in several lines."""
        if self._plain:
            self.raw(f"{text}\n".encode(errors="replace"), stream)
            return
        head = f'{{"time":"{_now()}","function":{self._function},"call":{_encode(call)}'
        head += f',"stream":"{STREAMS[stream]}","text":'
        pieces = [text]
        while pieces:
            piece = pieces.pop()
            line = f"{head}{_encode(piece)}}}\n".encode(errors="replace")
            if len(line) > MAX_LINE:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
            else:
                self._put(line, stream)

    def raw(self, data: bytes, stream: int) -> bool:
        """Pass bytes on as they are, if lines have no form here; whether so."""
        if self._plain:
            self._put(data, stream)
        return self._plain

    def _put(self, data: bytes, stream: int) -> None:
        if self.blocked:
            return
        self._written.clear()
        self._waiting[stream] += data
        self._count()

    def _count(self) -> None:
        if sum(map(len, self._waiting.values())) < BACKLOG:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()

    def _write(self, stream: int) -> None:
        waiting = self._waiting[stream]
        try:
            del waiting[: os.write(stream, waiting[:WRITE])]
        except BlockingIOError:
            return
        except OSError:  # a closed terminal, a full disk: that must not fail a call
            waiting.clear()
        self._count()
        if not any(self._waiting.values()):
            self._written.set()


def _now() -> str:
    seconds, fraction = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"
