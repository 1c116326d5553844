"""Processes in containers whose stdin and stdout are ours: what the relay runs in."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import docker.errors
from docker.types import LogConfig

from funker.backends.base import BackendError
from funker.backends.swarm.engine import Engine

#: Marks relays, so that a forgotten one can be told from other containers.
RELAY_LABEL = "funker.relay"

#: Seconds in which a start is tried again. Where nothing else keeps an overlay up on a node, the
#: engine takes it down when a replica leaves and up for the next one; a container that joins in
#: that moment is refused. After a call through a relay that is the rule, not the exception.
_PATIENCE = 15.0
#: Seconds between two tries: a fresh replica, which brings the network back, takes 0.5 s.
_PAUSE = 0.2

_COMMAND = ["/usr/bin/tini", "--", "python3", "-m", "funker.rpc.relay"]


class AttachedStream:
    """A process' stdin, stdout and stderr over a connection that Docker's API has handed over."""

    def __init__(self, attached: Any) -> None:
        """`attached` is what docker-py gives for `attach` or `exec`: it differs by transport."""
        self._attached = attached
        self._socket: Any = getattr(attached, "_sock", attached)
        self._socket.settimeout(None)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """What comes out, as (stream, bytes), until it ends."""
        while header := self._exactly(8):
            stream, size = struct.unpack(">BxxxL", header)
            if (data := self._exactly(size)) is None:
                return
            yield stream, data

    def end_input(self) -> None:
        # TLS can't close one direction alone; there closing the whole stream must do.
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the stream, which wakes and ends whoever reads it."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._attached.close()
        self._socket.close()

    def _exactly(self, size: int) -> bytes | None:
        parts = []
        while size:
            data = self._socket.recv(min(size, 1 << 20))
            if not data:
                return None
            parts.append(data)
            size -= len(data)
        return b"".join(parts)


class RelayContainer(AttachedStream):
    """The relay in a container of its own, and the attach stream to it."""

    def __init__(self, engine: Engine, *, image: str, network: str, env: Mapping[str, str]) -> None:
        self._engine = engine
        with engine.errors():
            give_up = time.monotonic() + _PATIENCE
            while True:
                try:
                    return self._start(image, network, env)
                except docker.errors.APIError as exc:
                    if not _is_network_away(exc) or time.monotonic() > give_up:
                        raise
                time.sleep(_PAUSE)

    def _start(self, image: str, network: str, env: Mapping[str, str]) -> None:
        api = self._engine.api
        self.id = _create(self._engine, image, network, env)
        try:
            # Attached before it is started, so that nothing that it writes is missed.
            super().__init__(
                api.attach_socket(
                    self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                )
            )
        except BaseException:
            self.remove()
            raise
        try:
            api.start(self.id)
        except BaseException:
            self.close()
            self.remove()
            raise

    def remove(self) -> None:
        """Removes it, running or not. One that ended by itself has also removed itself."""
        with contextlib.suppress(docker.errors.APIError, BackendError):
            self._engine.api.remove_container(self.id, force=True)


def _is_network_away(exc: docker.errors.APIError) -> bool:
    words = str(exc.explanation)
    return "network" in words and "not found" in words


def _create(engine: Engine, image: str, network: str, env: Mapping[str, str]) -> str:
    api = engine.api
    made = api.create_container(
        image,
        entrypoint=_COMMAND,
        command=[],
        name=f"funker-relay-{secrets.token_hex(6)}",
        environment=dict(env),
        labels={RELAY_LABEL: "true"},
        stdin_open=True,  # and closed with the attached stream: docker-py asks for StdinOnce too
        host_config=api.create_host_config(
            auto_remove=True,
            network_mode=network,
            dns_opt=["ndots:1"],
            # Bodies go over stdout: they must not land in the engine's log.
            log_config=LogConfig(type=LogConfig.types.NONE),
            read_only=True,
            tmpfs={"/tmp": "size=16m"},  # noqa: S108 - in the container
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=1024,
        ),
    )
    return str(made["Id"])
