"""The engine under test, and names on it that are removed with all that bears them.

The engine is the one in the environment (scripts/test and `scripts/lab env` set it). Where there
is none, every test here is skipped with the reason; with CI=true it fails instead.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import pytest
from docker.models.containers import Container

if TYPE_CHECKING:
    from tests.conftest import Funker

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "scripts" / "lab"
#: In every name that this run gives away, so that it cleans up its own things only.
RUN = secrets.token_hex(3)
#: Seconds for an engine's answer; removals wait for containers' grace periods.
API_TIMEOUT = 120

Names = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.swarm)


@pytest.fixture(scope="session", autouse=True)
def _an_engine_with_a_swarm() -> None:
    reason = os.environ.get("FUNKER_NO_ENGINE") or _trouble()
    if not reason:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"no engine to test on: {reason}", pytrace=False)
    pytest.skip(f"no engine to test on: {reason}")


@pytest.fixture(scope="session")
def engine(_an_engine_with_a_swarm: None) -> Iterator[docker.DockerClient]:
    """A client of the engine under test, a manager of its swarm."""
    client = docker.from_env(timeout=API_TIMEOUT)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def names(engine: docker.DockerClient) -> Iterator[Names]:
    """Give away names that nobody else has: names("add") → "add-3f9c21-001".

    After the test, services, images, secrets, configs and networks with these names are gone.
    """
    yield from _giving_names(engine)


@pytest.fixture(scope="module")
def module_names(engine: docker.DockerClient) -> Iterator[Names]:
    """The same for what all tests of a module share: gone after the last of them."""
    yield from _giving_names(engine)


@pytest.fixture
def name(names: Names) -> str:
    """One such name, for the tests that need just one."""
    return names()


@pytest.fixture
def events(engine: docker.DockerClient) -> Iterator[Callable[..., Iterator[dict[str, Any]]]]:
    """Open a stream of the engine's events from now on: events(event=["die"], label="a=b")."""
    opened = []

    def watch(**filters: str | list[str]) -> Iterator[dict[str, Any]]:
        now = time.time()
        stream = engine.events(decode=True, filters=filters, since=now, until=now + API_TIMEOUT)
        opened.append(stream)
        return stream

    yield watch
    for stream in opened:
        stream.close()
        stream._response.close()  # its own close() leaves this half to the garbage collector


@dataclass(frozen=True)
class Caller:
    """A container that has Python, pyzmq and this package's client, on networks of functions."""

    container: Container

    def run(self, code: str, *arguments: object) -> Any:
        """Run a program in it to its end; the JSON that it prints. `arguments` are JSON in argv."""
        words = [json.dumps(argument) for argument in arguments]
        code_and_output = self.container.exec_run(["python3", "-c", code, *words], demux=True)
        stdout, stderr = (stream or b"" for stream in code_and_output.output)
        assert code_and_output.exit_code == 0, stderr.decode()
        return json.loads(stdout)


@pytest.fixture(scope="module")
def start_caller(
    engine: docker.DockerClient, funker: Funker, examples: Path, module_names: Names
) -> Callable[..., Caller]:
    """Start such a container: start_caller("funker", "another-network")."""
    built = funker.ok("build", examples / "add", "--name", module_names("caller"))
    image = built.stdout.strip()

    def start(*networks: str) -> Caller:
        first, *others = networks
        container = engine.containers.create(
            image,
            name=module_names("caller"),
            entrypoint=["sleep", "infinity"],
            network=first,
            init=True,
        )
        for network in others:
            engine.networks.get(network).connect(container)
        container.start()
        return Caller(container)

    return start


@dataclass(frozen=True)
class Cluster:
    """Several engines in one swarm. `env` is for commands; `lab(...)` pulls cables and kills."""

    directory: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[str]:
        """DOCKER_HOST of each node, the manager first."""
        return self.env["FUNKER_LAB_NODES"].split()

    @property
    def registry(self) -> str:
        """HOST:PORT of a registry that all nodes reach."""
        return self.env["FUNKER_LAB_REGISTRY"]

    def lab(self, *arguments: str) -> str:
        """Run `scripts/lab ARGUMENTS` on this cluster; its standard output."""
        done = subprocess.run(
            [LAB, *arguments],
            env={**os.environ, "FUNKER_LAB_DIR": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"lab {shlex.join(arguments)}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def cluster(engine: docker.DockerClient) -> Iterator[Cluster]:
    """A swarm of two nodes with a registry, apart from the engine under test."""
    with _another_lab(engine, nodes=2) as cluster:
        cluster.lab("registry")
        _note_environment(cluster)
        yield cluster


@pytest.fixture
def lone_node(engine: docker.DockerClient) -> Iterator[Cluster]:
    """A swarm of one node, apart from the engine under test: it may be restarted."""
    with _another_lab(engine, nodes=1) as cluster:
        _note_environment(cluster)
        yield cluster


def _note_environment(cluster: Cluster) -> None:
    exports = shlex.split(cluster.lab("env").replace("export ", ""))
    for name, _, value in (pair.partition("=") for pair in exports):
        cluster.env[name] = value


@contextlib.contextmanager
def _another_lab(engine: docker.DockerClient, *, nodes: int) -> Iterator[Cluster]:
    """Only where the engine under test is a lab's: on a user's machine no second one is started."""
    labels = engine.info().get("Labels") or []
    if not any(label.startswith("funker.lab=") for label in labels):
        pytest.skip("needs another engine, and only a lab's may have others beside it")
    # A short path: the engines' sockets lie deep under it.
    with tempfile.TemporaryDirectory(prefix="funker-", dir="/tmp") as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.lab("up", "--nodes", str(nodes), "--private-engine")
            yield cluster
        finally:
            cluster.lab("down")


@pytest.fixture(scope="session")
def docker_command() -> Callable[..., None]:
    """Run docker's own command: docker_command("stack", "rm", name, stdin="", VARIABLE="value")."""
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")

    def run(*arguments: str | Path, stdin: str = "", **variables: str) -> None:
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            env={**os.environ, "DOCKER_BUILDKIT": "0", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="module")
def control_plane(engine: docker.DockerClient, funker: Funker) -> Iterator[None]:
    """The controller, up for the tests of this module: `funker up`, at last `funker down`.

    Functions that are deployed meanwhile have its key and are called through it. A module that
    uses it has no tests that expect direct calls.
    """
    funker.ok("up")
    yield
    funker.ok("down", "-y")


#: Padded where it is used: the engine's name filters match beginnings.
_numbers = itertools.count(1)


def _giving_names(engine: docker.DockerClient) -> Iterator[Names]:
    given: list[str] = []

    def give(stem: str = "function") -> str:
        name = f"{stem}-{RUN}-{next(_numbers):03}"
        given.append(name)
        return name

    yield give
    if given:
        _remove_all_of(engine, given)


def _trouble() -> str:
    """Why the engine of the environment won't do; nothing if it will."""
    hint = 'run scripts/test, or eval "$(scripts/lab env)" first'
    with warnings.catch_warnings():
        # Where nobody listens, docker's client leaves its socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=API_TIMEOUT)
        except docker.errors.DockerException as error:
            return f"{error}; {hint}"
        finally:
            gc.collect()
    try:
        swarm = client.info()["Swarm"]
    finally:
        client.close()
    if swarm["LocalNodeState"] == "active" and swarm["ControlAvailable"]:
        return ""
    return f"the engine doesn't manage a swarm; {hint}"


def _remove_all_of(engine: docker.DockerClient, names: list[str]) -> None:
    """Remove what bears these names: services first, since they use all the rest."""
    named = {"name": names}
    for service in engine.services.list(filters=named):
        service.remove()
    # A replica that has answered is being replaced, maybe by a container that isn't there yet; and
    # swarm has no events for tasks.
    while _end_containers(engine, named) or engine.api.tasks(filters=named):
        time.sleep(0.05)
    for collection in (engine.secrets, engine.configs):
        for resource in collection.list(filters=named):
            resource.remove()
    for network in engine.networks.list():  # the filter wants whole names: no `STACK_default`
        if any(network.name.startswith(name) for name in names):
            network.remove()
    repositories = tuple(f"/{name}:" for name in names)
    for image in engine.images.list(filters={"reference": [f"*{each}*" for each in repositories]}):
        for tag in image.tags:
            # The image may be another's too, under another name.
            if any(repository in tag for repository in repositories):
                engine.images.remove(tag)


def _end_containers(engine: docker.DockerClient, filters: dict[str, list[str]]) -> bool:
    """Remove the containers that are there; whether there were any."""
    containers = engine.containers.list(all=True, filters=filters, ignore_removed=True)
    for container in containers:
        _kill(container)
    for container in containers:
        if "com.docker.swarm.task" in container.labels:
            _await_removal(container)
        else:
            _remove(container)
    return bool(containers)


def _kill(container: Container) -> None:
    """Of a task too: its service is gone, so there is no need for its grace."""
    try:
        container.kill()
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):  # it is gone, or has ended by itself
            raise


def _await_removal(container: Container) -> None:
    """Wait for the swarm, which removes a task's container once it has ended."""
    try:
        container.wait(condition="removed", timeout=API_TIMEOUT)
    except docker.errors.NotFound:
        return  # it was faster than the question


def _remove(container: Container) -> None:
    try:
        container.remove(force=True)
    except docker.errors.NotFound:
        return  # a container that removes itself, like a relay, may have done so just now
