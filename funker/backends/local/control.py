"""How others ask the agent: JSON lines over a socket in its state directory.

    {"do": "status"}   what there is now
    {"do": "look", "retry": NAME}   the same, after reading the functions' files anew; if this
                       function has failed (a name, or empty), it is tried again at once
    {"do": "wait", "of": "generation", "since": n, "seconds": s}   the same, once that number of
                       the status is more than n, or the time is over

The answer has `pid`, `started` (Unix time), `version` (of the replicas' runtime), `functions` by
name (see `Agent`), `children` with the pids of router and reconciler; and two numbers that grow:
`generation` with whatever happens, `edition` only when functions or their health change, not with
each replica that has answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from funker.backends.base import NoController
from funker.backends.local.state import StateDirectory

#: Bytes of one request.
_MAX_REQUEST = 4096
#: Seconds that an agent may take to answer.
_PATIENCE_S = 10.0

#: What may be waited for. (A dictionary: whatever else is asked for is a `KeyError`.)
_NUMBERS = {"generation": "generation", "edition": "edition"}

Status = dict[str, Any]


def ask(state: StateDirectory, do: str, **fields: Any) -> Status:
    """One question to the agent. Raises `NoController`."""
    request = json.dumps({"do": do, **fields}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_PATIENCE_S + float(fields.get("seconds", 0.0)))
            sock.connect(state.agent_socket)
            sock.sendall(request)
            with sock.makefile("rb") as answers:
                line = answers.readline()
        answer: Status = json.loads(line)
    except (OSError, ValueError) as error:
        raise NoController(
            f"no local controller is up for {state.root}",
            hint="`funker up --backend local` starts one.",
        ) from error
    return answer


class Server:
    """The agent's end, in its loop."""

    def __init__(
        self,
        state: StateDirectory,
        selector: selectors.BaseSelector,
        *,
        look: Callable[[str], None],
        answer: Callable[[], Status],
    ) -> None:
        self._path = state.agent_socket
        self._selector = selector
        self._look = look
        self._answer = answer
        self._connections: dict[int, _Connection] = {}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108 - of an agent that was killed; we hold the lock
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self._path)
        self._socket.listen(128)
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def wakeup(self) -> float:
        """When a wait is over, on the monotonic clock."""
        return min((c.until for c in self._connections.values()), default=float("inf"))

    def changed(self, news: dict[str, int]) -> None:
        """Answers those who wait for something newer, or whose time is over."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            if connection.until <= now or connection.since < news[connection.number]:
                connection.rest()
                self._reply(connection)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._selector.unregister(self._socket)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _address = self._socket.accept()
            sock.setblocking(False)
            connection = _Connection(sock)
            self._connections[sock.fileno()] = connection
            self._selector.register(
                sock, selectors.EVENT_READ, lambda events: self._serve(connection, events)
            )

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ:
                self._hear(connection)
        except (BlockingIOError, InterruptedError):
            pass
        except (OSError, ValueError, KeyError, TypeError):
            self._drop(connection)  # gone, or it talks nonsense

    def _hear(self, connection: _Connection) -> None:
        data = connection.sock.recv(_MAX_REQUEST)
        connection.heard += data
        line, newline, connection.heard = connection.heard.partition(b"\n")
        if not data or len(line) > _MAX_REQUEST:
            self._drop(connection)
        elif not newline:
            connection.heard = line
        else:
            request = json.loads(line)
            if request["do"] == "wait":
                connection.number = _NUMBERS[request["of"]]
                connection.since = int(request["since"])
                connection.until = time.monotonic() + float(request["seconds"])
            else:
                if request["do"] == "look":
                    self._look(str(request["retry"]))
                self._reply(connection)

    def _reply(self, connection: _Connection) -> None:
        connection.unsent += json.dumps(self._answer()).encode() + b"\n"
        try:
            self._flush(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        finally:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
            key = self._selector.get_key(connection.sock)
            if key.events != wanted:
                self._selector.modify(connection.sock, wanted, key.data)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.sock.fileno(), None):
            self._selector.unregister(connection.sock)
            connection.sock.close()


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.unsent = b""
        self.number = "generation"
        self.rest()

    def rest(self) -> None:
        """It waits for nothing."""
        self.until = self.since = float("inf")
