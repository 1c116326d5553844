"""The reconciler's process on an engine that does what it likes: it converges, and says it once.

Functions here are services made by hand whose replicas answer nobody: what is tested is what
becomes of their number. A router of our own tells the reconciler that nobody calls; the controller
isn't up here, or its reconciler would be the faster one now and then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import pytest
import requests
from docker import DockerClient
from docker.types import EndpointSpec, RestartPolicy, SecretReference, ServiceMode

from funker.backends.swarm import overlay
from funker.backends.swarm.contexts import Endpoint
from funker.backends.swarm.engine import Engine
from funker.images.builder import DEFAULT_BASE
from tests.swarm.forwarder import forwarding

if TYPE_CHECKING:
    from tests.swarm.conftest import Cluster

Names = Callable[..., str]
Docker = Callable[..., None]

#: Seconds. Proves that something ends.
PATIENCE = 60.0
#: Seconds in which what would be said again is said again.
QUIET = 2.5


class Reconciler:
    """Its process, and what it says."""

    def __init__(self, **variables: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "funker.controller.reconciler"],
            env={**os.environ, "FUNKER_INSECURE": "1", **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def hears(self, words: str, *, times: int = 1) -> str:
        """Waits until it has said these words so many times; the last line with them."""
        until = time.monotonic() + PATIENCE
        while len(found := self.said(words)) < times:
            assert time.monotonic() < until, f"{words!r} is not in {self.lines}"
            with self._news:
                self._news.wait(0.5)
        assert len(found) == times, found
        return found[-1]

    def said(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]

    def close(self) -> None:
        self._process.terminate()
        assert self._process.wait(PATIENCE) == 0
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.strip())
            with self._news:
                self._news.notify_all()


@pytest.fixture(scope="module")
def control() -> Iterator[str]:
    """The control socket of a router that nobody calls."""
    control = f"tcp://127.0.0.1:{20000 + os.getpid() % 5000}"
    router = subprocess.Popen(
        [sys.executable, "-m", "funker.controller.router"],
        env={
            **os.environ,
            "FUNKER_INSECURE": "1",
            "FUNKER_LISTEN": f"tcp://127.0.0.1:{25000 + os.getpid() % 5000}",
            "FUNKER_CONTROL": control,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert router.stderr is not None
    assert "serving" in router.stderr.readline()
    yield control
    router.terminate()
    assert router.communicate(timeout=PATIENCE)[1] == ""


@contextmanager
def function(host: str, name: str, **labels: str) -> Iterator[DockerClient]:
    """A client of the engine on which there is a function with these labels and one replica."""
    connection = Engine(Endpoint("default", host))
    client = docker.DockerClient(base_url=host, timeout=120)
    try:
        network = overlay.ensure(connection, subnet=None, progress=lambda _: None)
        secret = client.secrets.create(name=name, data=b"ROUTER_PUBLIC=no\n")
        client.services.create(
            os.environ.get("FUNKER_BASE") or DEFAULT_BASE,
            command=["sleep", "infinity"],
            init=True,
            stop_grace_period=95_000_000_000,
            name=name,
            labels={"funker.function": "true", **labels},
            networks=[network],
            mode=ServiceMode("replicated", 1),
            endpoint_spec=EndpointSpec(mode="dnsrr"),
            restart_policy=RestartPolicy(condition="any", delay=0),
            secrets=[SecretReference(secret.id, name, filename="funker-client-key")],
        )
        yield client
        for left in client.services.list(filters={"name": name}):
            left.remove()
        _until(lambda: not client.api.tasks(filters={"name": name}))
        secret.remove()
    finally:
        client.close()
        connection.close()


def _until(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def _wanted(client: DockerClient, name: str) -> int:
    spec = client.api.inspect_service(name)["Spec"]
    return int(spec["Mode"]["Replicated"]["Replicas"])


def _running(client: DockerClient, name: str) -> set[str]:
    """The IDs of the tasks that run; none while the engine is away."""
    try:
        tasks = client.api.tasks(filters={"service": name, "desired-state": "running"})
    except (docker.errors.APIError, requests.exceptions.ConnectionError):
        return set()
    return {task["ID"] for task in tasks if task["Status"]["State"] == "running"}


def test_what_others_do_to_a_function_and_its_engine_is_put_right_and_said_once(
    engine: DockerClient, name: str, control: str, docker_command: Docker
) -> None:
    host = os.environ["DOCKER_HOST"]
    labels = {"funker.scale.min": "1", "funker.scale.max": "4"}
    with forwarding(host.removeprefix("unix://")) as socket, function(host, name, **labels):
        reconciler = Reconciler(FUNKER_CONTROL=control, DOCKER_HOST=f"unix://{socket.path}")
        try:
            reconciler.hears("sees ")
            _scale_by_hand(reconciler, engine, name, docker_command)
            _edit_labels(reconciler, engine, name, docker_command)
            _write_at_the_same_time(reconciler, engine, name)
            _take_the_socket_away(reconciler, engine, name, docker_command, socket)
            engine.services.get(name).remove()
            reconciler.hears(f"{name} is gone")
            time.sleep(QUIET)
        finally:
            reconciler.close()
        lines = [line for line in reconciler.lines if name in line or "engine" in line]
        assert len(lines) == len(set(lines)), lines
        assert not reconciler.said("Traceback"), reconciler.lines


def _scale_by_hand(
    reconciler: Reconciler, engine: DockerClient, name: str, docker_command: Docker
) -> None:
    """`docker service scale` on a function that is scaled by itself."""
    docker_command("service", "scale", "--detach", f"{name}=3")
    said = reconciler.hears(f"{name}: somebody has set its number of replicas to 3")
    assert f"back to 1. `funker scale {name}=3` pins a number" in said
    _until(lambda: _wanted(engine, name) == 1)


def _edit_labels(
    reconciler: Reconciler, engine: DockerClient, name: str, docker_command: Docker
) -> None:
    docker_command("service", "update", "--detach", "--label-add", "funker.scale.min=2", name)
    reconciler.hears(f"{name}: it is scaled by itself, from 2 to 4")
    reconciler.hears(f"{name}: 1 → 2 replicas: its minimum is 2")
    _until(lambda: _wanted(engine, name) == 2)


def _write_at_the_same_time(reconciler: Reconciler, engine: DockerClient, name: str) -> None:
    """Somebody else writes the service again and again, while its number is being set."""
    for number in range(20):
        newest = engine.api.inspect_service(name)
        spec = newest["Spec"]
        spec["Labels"] |= {"stir": str(number), "funker.scale.min": "3"}
        url = engine.api._url("/services/{0}/update", newest["ID"])
        version = {"version": newest["Version"]["Index"]}
        answer = engine.api._post_json(url, data=spec, params=version)
        assert answer.status_code == 200 or "out of sequence" in answer.text
    reconciler.hears(f"{name}: it is scaled by itself, from 3 to 4")
    _until(lambda: _wanted(engine, name) == 3)


def _take_the_socket_away(
    reconciler: Reconciler, engine: DockerClient, name: str, docker_command: Docker, socket: Any
) -> None:
    """The engine goes on, and so do its users; the reconciler can't see it."""
    socket.stop()
    reconciler.hears("can't reach")
    docker_command("service", "update", "--detach", "--label-add", "funker.scale.min=4", name)
    time.sleep(QUIET)
    assert _wanted(engine, name) == 3
    socket.start()
    reconciler.hears("the engine answers again")
    _until(lambda: _wanted(engine, name) == 4)


@pytest.mark.skipif(
    not os.environ.get("FUNKER_LONG_TESTS"),
    reason="an engine of its own is started and killed, two minutes: FUNKER_LONG_TESTS=1",
)
def test_an_engine_that_restarts_has_its_functions_back(
    lone_node: Cluster, control: str, docker_command: Docker
) -> None:
    """It is killed with its containers; the swarm survives in its store."""
    name, host = "restarted", lone_node.hosts[0]
    with function(host, name, **{"funker.scale.min": "2"}) as client:
        reconciler = Reconciler(FUNKER_CONTROL=control, DOCKER_HOST=host)
        try:
            _until(lambda: len(_running(client, name)) == 2)
            before = _running(client, name)
            lone_node.lab("restart", "1")
            _until(lambda: len(_running(client, name) - before) == 2)
            docker_command("service", "scale", "--detach", f"{name}=5", DOCKER_HOST=host)
            reconciler.hears(f"{name}: somebody has set its number of replicas to 5")
            _until(lambda: _wanted(client, name) == 2)
        finally:
            reconciler.close()
        assert not reconciler.said("Traceback"), reconciler.lines
        # It may be back before it is missed, or be found without its swarm for a moment.
        assert len(reconciler.said("can't reach")) <= 1, reconciler.lines
        assert len(reconciler.lines) == len(set(reconciler.lines)), reconciler.lines
