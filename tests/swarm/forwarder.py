"""An engine's socket that can go away and come back, while the engine goes on."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

#: Seconds for its threads to end.
PATIENCE = 30.0


class Forwarder:
    """A unix socket that is another one, and can go away."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._requests = b""

    def start(self) -> None:
        self._requests = b""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._sockets.append(listener)
        self._run(self._accept, listener)

    def stop(self) -> None:
        self.path.unlink(missing_ok=True)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in self._sockets:
            each.close()
        self._sockets, self._threads = [], []

    def carried(self, words: bytes) -> bool:
        return words in self._requests

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was shut
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._sockets += [near, far]
                self._run(self._copy, near, far)
                self._run(self._copy, far, near)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._requests += data[:200]
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forwarding(target: str) -> Iterator[Forwarder]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        forwarder = Forwarder(Path(directory) / "docker.sock", target)
        forwarder.start()
        try:
            yield forwarder
        finally:
            forwarder.stop()
