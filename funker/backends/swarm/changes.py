"""Knowing at once that a service of the swarm was created, changed or removed."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import docker.errors

from funker.backends.base import BackendError
from funker.backends.swarm.engine import Engine

#: Seconds before a stream of events that broke, or that nobody offered, is opened again.
_PAUSE = 1.0


class Changes:
    """Follows the engine's events of services in a thread of its own, until `close`.

    The swarm has no events of tasks: what becomes of replicas has to be asked for.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()  # of the stream and of closing
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, name="funker-changes", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Returns after the next change, at the latest after so many seconds."""
        self._changed.wait(seconds)
        self._changed.clear()

    def close(self) -> None:
        """Ends the thread. May be called again."""
        with self._lock:
            self._closing.set()
            stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError, AttributeError):  # it has just ended by itself
                stream.close()
        self._thread.join()

    def _follow(self) -> None:
        while not self._closing.is_set():
            # Whether the engine answers is told by those who ask it something.
            with contextlib.suppress(BackendError):
                self._read()
            self._closing.wait(_PAUSE)

    def _read(self) -> None:
        with self._engine.errors():
            stream = self._engine.api.events(decode=True, filters={"type": ["service"]})
            try:
                with self._lock:
                    if self._closing.is_set():
                        return
                    self._stream = stream
                self._changed.set()  # before this stream nobody has listened
                for _ in stream:
                    self._changed.set()
            except ValueError as error:
                if not self._closing.is_set():  # else it is our own `close`, halfway in a line
                    raise docker.errors.DockerException(f"events: {error}") from error
            finally:
                with self._lock:
                    self._stream = None
                stream._response.close()
