"""A worker's stdout and stderr: on their way to the log, with the tail kept for error messages."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable

from funker_runtime.log import MAX_LINE, Log

#: Bytes of output that travel with an error.
TAIL = 8192


class Output:
    """The reading ends of the two pipes of one worker, or of one slot's workers, one after the
    other. They become this object's own.

    The log's thread reads them, from `watch` to its end; the front asks.
    """

    def __init__(self, out: int, err: int, log: Log) -> None:
        self._streams = {out: 1, err: 2}
        for fd in self._streams:
            os.set_blocking(fd, False)
        self._log = log
        self._call: str | None = None
        self._left = log.limit
        self._tail = b""
        self._rests = {out: b"", err: b""}
        # Bytes that are in no log: beyond the limit, and of a log that was blocked.
        self._beyond = self._lost = 0
        #: Set by the log's thread while it has something in its hands.
        self.in_hand = False
        self._full = select.poll()
        for fd in self._streams:
            self._full.register(fd, select.POLLIN)
        log.watch(self)

    @property
    def sources(self) -> Iterable[int]:
        """The descriptors to read from."""
        return self._streams

    def begin(self, call: str) -> None:
        """What comes from now on is the call's with this id, and its limit begins anew."""
        self._call, self._left = call, self._log.limit

    def tail(self) -> str:
        """The end of all that was printed, whatever came of it in the log."""
        return self._tail.decode(errors="replace")

    def say(self, text: str) -> None:
        """Log a text of the front's own about this worker; it's no part of the tail."""
        self._log.say(text, self._call, self)

    def is_quiet(self) -> bool:
        """Whether nothing was printed since `clear`. Asked when nobody is left who could."""
        # In this order: what has left the pipe is in the thread's hands, then in the tail.
        return not (self._full.poll(0) or self.in_hand or self._tail)

    def turn(self) -> None:
        """The worker is dead, and another one follows: pass on what is in the pipes, then be one of
        the log's `endings`."""
        self._log.turn(self)

    def clear(self) -> None:
        """What comes from now on is no call's yet."""
        self._call, self._tail = None, b""

    def finish(self) -> None:
        """The worker is dead: pass on what is in the pipes, then be one of the log's `endings`.

        What the worker's own children write later isn't waited for.
        """
        self._log.finish(self)

    # For the log's thread

    def came(self, fd: int, data: bytes) -> None:
        """Bytes from one of the descriptors; none: its end."""
        log = self._log
        self._tail = (self._tail + data)[-TAIL:]
        if log.blocked:
            self._lost += len(data)
            return
        allowed = data[: self._left]
        self._left -= len(allowed)
        self._beyond += len(data) - len(allowed)
        if not log.raw(allowed, self._streams[fd]):
            *lines, rest = (self._rests[fd] + allowed).split(b"\n")
            if len(rest) >= MAX_LINE:
                lines.append(rest)
                rest = b""
            self._rests[fd] = rest
            for line in lines:
                self._line(line, fd)

    def close(self) -> None:
        """The end of what is logged, and of the descriptors."""
        self.end()
        for fd in self._streams:
            os.close(fd)

    def end(self) -> None:
        """The end of what a worker has printed."""
        for fd, rest in self._rests.items():
            if rest:
                self._line(rest, fd)
            self._rests[fd] = b""
        for count, why in (
            (self._beyond, f"a call may log {self._log.limit} bytes (FUNKER_LOG_LIMIT)"),
            (self._lost, "it was blocked"),
        ):
            if count:
                told = f"funker: {count} bytes of output are not in the log: {why}"
                self._log.line(told, call=self._call, stream=2)
        self._beyond = self._lost = 0

    def _line(self, line: bytes, fd: int) -> None:
        self._log.line(line.decode(errors="replace"), call=self._call, stream=self._streams[fd])
