"""A worker's stdout and stderr: passed on as they come, with the tail kept for error messages."""

from __future__ import annotations

import contextlib
import os
import select
import threading

#: Bytes of output that travel with an error.
TAIL = 8192
#: Bytes of one read: what a pipe holds.
CHUNK = 65536


class Output:
    """Pumps two pipes to this process's own stdout and stderr in a thread.

    A thread, since the engine's log driver may block, and signs of life must go on. `ended` is
    a descriptor that becomes readable when all that a dead worker wrote has been passed on.
    """

    def __init__(self, out: int, err: int) -> None:
        own, self._own = os.pipe()
        os.set_blocking(self._own, False)
        self._sources = {out, err}
        self._targets = {out: 1, err: 2, own: 2}
        self._tail = b""
        self.ended, self._end = os.pipe()
        self._closing, self._close = os.pipe()
        threading.Thread(target=self._pump, daemon=True).start()

    def tail(self) -> str:
        return self._tail.decode(errors="replace")

    def say(self, text: str) -> None:
        """Pass on a text of the front's own to stderr; it's no part of the tail. Never waits."""
        with contextlib.suppress(BlockingIOError):  # the log is blocked, and has been for long
            os.write(self._own, text.encode(errors="replace"))

    def finish(self) -> None:
        """The worker is dead: pass on what is in the pipes, then make `ended` readable.

        What the worker's own children write later isn't waited for.
        """
        os.write(self._close, b"x")

    def _pump(self) -> None:
        poller = select.poll()
        for fd in (*self._targets, self._closing):
            poller.register(fd, select.POLLIN)
        closing = False
        # Not until both pipes end: a handler may close them and work on.
        while ready := poller.poll(0 if closing else None):
            for fd, _ in ready:
                if fd == self._closing:
                    closing = True
                    poller.unregister(fd)
                elif not self._copy(fd):
                    poller.unregister(fd)
        os.write(self._end, b"x")

    def _copy(self, fd: int) -> bool:
        data = os.read(fd, CHUNK)
        if fd in self._sources:
            self._tail = (self._tail + data)[-TAIL:]
        view = memoryview(data)
        # A log that can't be written (a closed terminal, a full disk) must not fail a call.
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._targets[fd], view) :]
        return bool(data)
