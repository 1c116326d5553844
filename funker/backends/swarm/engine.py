"""The connection to one Docker engine, and the edge where Docker's errors become ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors
import requests.exceptions

from funker.backends.base import (
    BackendError,
    EngineUnavailable,
    NotAManager,
    NotASwarm,
)
from funker.backends.swarm.contexts import Endpoint, endpoint
from funker.backends.swarm.ssh import Tunnel

#: Seconds for an answer of the engine. Pulling and building stream, and so never wait as long.
TIMEOUT = 60


def connect(context: str | None = None) -> Engine:
    """The engine that the user means (`contexts.py` says which).

    Nothing is sent yet. Raises `UnknownContext`, or `EngineUnavailable` for a wrong address.
    """
    return Engine(endpoint(context))


class Engine:
    """One engine. Each thread that uses it has a client of its own."""

    def __init__(self, where: Endpoint) -> None:
        self.context = where.context
        #: As a person would name it.
        self.host = where.host or "the local Docker engine"
        self._where = where
        self._tunnel: Tunnel | None = None
        self._version: str | None = None
        self._own = threading.local()
        self._lock = threading.Lock()
        self._clients: list[docker.DockerClient] = []
        if where.host and where.host.startswith("ssh://"):
            self._tunnel = Tunnel(where.host)

    @property
    def client(self) -> docker.DockerClient:
        """This thread's client. Raises `EngineUnavailable`."""
        made: docker.DockerClient | None = getattr(self._own, "client", None)
        if made is None:
            with self.errors():
                made = self._make()
            with self._lock:
                self._clients.append(made)
            self._own.client = made
        return made

    @property
    def api(self) -> Any:
        """The low-level half of this thread's client. (Docker's type stubs know half of it.)"""
        return self.client.api

    def require_manager(self) -> dict[str, Any]:
        """The engine's `info`, if it can manage a swarm.

        Raises `NotASwarm`, `NotAManager` or `EngineUnavailable`.
        """
        with self.errors():
            info: dict[str, Any] = self.api.info()
        swarm = info.get("Swarm") or {}
        match swarm.get("LocalNodeState"):
            case "active" if swarm.get("ControlAvailable"):
                return info
            case "active":
                managers = [peer.get("Addr", "") for peer in swarm.get("RemoteManagers") or []]
                raise _not_a_manager(self.host, managers)
            case "locked":
                raise NotAManager(f"the swarm of {self.host} is locked", hint=_UNLOCK)
            case "pending" | "error" as state:
                raise NotAManager(
                    f"{self.host} hasn't joined its swarm ({state}): {swarm.get('Error') or ''}",
                    hint="See `docker info`; `docker swarm leave` and join again.",
                )
            case _:
                raise _not_a_swarm(self.host)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translates what docker-py raises in the block into `BackendError`."""
        try:
            yield
        except docker.errors.APIError as exc:
            raise self._refused(exc) from exc
        except (docker.errors.DockerException, requests.exceptions.RequestException) as exc:
            raise self._unreachable(exc) from exc
        except OSError as exc:  # of an attached stream, which is a bare socket
            raise self._unreachable(exc) from exc

    def close(self) -> None:
        """Closes every thread's client. May be called again."""
        with self._lock:
            for client in self._clients:
                client.close()
            self._clients.clear()
        self._own = threading.local()
        if self._tunnel is not None:
            self._tunnel.close()

    def _make(self) -> docker.DockerClient:
        base_url = self._tunnel.address if self._tunnel else self._where.host
        client = docker.DockerClient(
            base_url=base_url,
            version=self._version or "auto",
            timeout=TIMEOUT,
            tls=self._where.tls or False,
        )
        self._version = client.api.api_version
        return client

    def _refused(self, exc: docker.errors.APIError) -> BackendError:
        words = str(exc.explanation or exc).strip()
        if "not a swarm manager" in words:
            return _not_a_manager(self.host, []) if "Worker" in words else _not_a_swarm(self.host)
        if "needs to be unlocked" in words:
            return NotAManager(f"the swarm of {self.host} is locked", hint=_UNLOCK)
        if "does not have a leader" in words or "no leader" in words:
            return NotAManager(
                "the swarm has no leader: too few of its managers are up",
                hint="Bring managers back (`docker node ls` on one), or see Docker's guide on "
                "losing the quorum.",
            )
        return BackendError(f"{self.host}: {words}")

    def _unreachable(self, exc: Exception) -> EngineUnavailable:
        words = _innermost(exc)
        hint = _NO_ENGINE
        if self._tunnel is not None:
            words = self._tunnel.complaint() or words
            hint = f"Try `docker -H {self.host} info`; {_SSH_NEEDS}"
        elif "Permission denied" in words:
            hint = "Join the group `docker` (then log in again), or use sudo."
        elif "timed out" in words.lower():
            hint = "The engine is there but doesn't answer; see its log."
        return EngineUnavailable(f"can't reach {self.host}: {words}", hint=hint)


_NO_ENGINE = (
    "Start Docker, or say which engine with --context or DOCKER_HOST; without one: "
    "`funker up --backend local`."
)
_SSH_NEEDS = "the host needs the docker command, and ssh must log in without a password."
_UNLOCK = "Run `docker swarm unlock` on that node."


def _not_a_swarm(host: str) -> NotASwarm:
    return NotASwarm(f"{host} is in no swarm", hint="Run `docker swarm init`, once, on that node.")


def _not_a_manager(host: str, managers: list[str]) -> NotAManager:
    where = f" (the managers are {', '.join(managers)})" if managers else ""
    return NotAManager(
        f"{host} is a worker of its swarm, not a manager",
        hint=f"Use --context or DOCKER_HOST with a manager{where}.",
    )


def _innermost(exc: BaseException) -> str:
    """The words of the first cause: what wraps it repeats it in ever longer forms."""
    seen = exc
    while (cause := seen.__cause__ or seen.__context__) is not None:
        seen = cause
    return str(seen) or type(seen).__name__
