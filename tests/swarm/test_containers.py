"""One call, one container: what the engine says of it, and which containers can take part."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.types import RestartPolicy

#: Calls of which each has to be answered by a container of its own.
CALLS = 50
REPLICAS = 6
#: Seconds for all of these: containers start at about 3 a second.
PATIENCE = 100.0

#: Says where it runs: a container's host name is the beginning of its ID.
WHERE = """
import os, socket

def handle(number):
    with open("/tmp/calls", "a") as file:  # nobody else's: the container is new
        file.write(f"{number}\\n")
    with open("/tmp/calls") as file:
        return {"number": number, "container": socket.gethostname(), "calls": file.read()}
"""

#: Makes the calls whose arguments it is given, 8 at a time, and prints the answers.
CALL_ALL = """
import json, sys, funker

name, deadline, values = map(json.loads, sys.argv[1:])
print(json.dumps(list(funker.function(name, deadline=deadline).map(values, concurrency=8))))
"""

#: Tries what a read-only container allows and what not.
WRITE = """
def handle(paths):
    return {path: write(path) for path in paths}

def write(path):
    try:
        with open(path, "w") as file:
            return file.write("something")
    except OSError as error:
        return error.strerror
"""

Names = Callable[..., str]


class Lives:
    """The engine's own account of containers."""

    def __init__(self, events: Iterator[dict[str, Any]]) -> None:
        self._events = events
        self.seen: dict[str, list[str]] = defaultdict(list)
        #: By the beginnings of their IDs.
        self.exit_codes: dict[str, str] = {}

    def until_dead(self, containers: set[str]) -> None:
        """Read on until all these are dead."""
        missing = containers - self.exit_codes.keys()
        while missing:
            event = next(self._events)
            container = event["id"][:12]
            self.seen[container].append(event["Action"])
            if event["Action"] == "die":
                self.exit_codes[container] = event["Actor"]["Attributes"]["exitCode"]
                missing.discard(container)


@pytest.fixture(scope="module")
def caller(start_caller: Callable[..., Any], where: str) -> Any:
    """A container on the network `funker`, which the function's deploy has made."""
    return start_caller("funker")


@pytest.fixture(scope="module")
def where(funker: Any, module_names: Names, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A function that says in which container it runs."""
    name = module_names("where")
    directory = tmp_path_factory.mktemp("functions") / name
    directory.mkdir()
    (directory / "handler.py").write_text(WHERE)
    funker.ok("deploy", directory, "--replicas", str(REPLICAS))
    return name


def test_each_of_fifty_answers_comes_from_a_container_of_its_own(
    where: str, caller: Any, events: Callable[..., Iterator[dict[str, Any]]]
) -> None:
    label = f"com.docker.swarm.service.name={where}"
    lives = Lives(events(type="container", label=label, event=["create", "start", "die"]))
    values = [{"number": number} for number in range(CALLS)]

    answers = caller.run(CALL_ALL, where, PATIENCE, values)

    assert [answer["number"] for answer in answers] == list(range(CALLS))
    assert [answer["calls"] for answer in answers] == [f"{number}\n" for number in range(CALLS)]
    containers = {answer["container"] for answer in answers}
    assert len(containers) == CALLS
    lives.until_dead(containers)
    assert {lives.exit_codes[container] for container in containers} == {"0"}
    # Those that were waiting already were made before we listened.
    made = [container for container in containers if lives.seen[container] != ["die"]]
    assert len(made) >= CALLS - REPLICAS
    assert all(lives.seen[container] == ["create", "start", "die"] for container in made)


def test_a_program_serves_under_docker_run_with_restart_always(
    funker: Any, examples: Path, engine: DockerClient, names: Names
) -> None:
    network, add, caller = names("plain"), names("add"), names("caller")
    image = funker.ok("build", examples / "program", "--name", add).stdout.strip()
    engine.networks.create(network, driver="bridge")
    always = {"Name": "always"}
    served = engine.containers.run(
        image, name=add, network=network, restart_policy=always, detach=True
    )

    values = [{"x": number, "y": 2} for number in range(4)]
    answers = in_a_new_container(engine, caller, image, network, CALL_ALL, add, 60, values)

    assert answers == [2, 3, 4, 5]
    # The last of them may not have been started again yet.
    assert restarts(served) >= 3


def test_a_read_only_function_writes_to_its_tmpfs_alone(
    funker: Any, name: str, write_function: Callable[..., Path]
) -> None:
    directory = write_function(WRITE, name=name)
    mount = "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=1777"
    funker.ok("deploy", directory, "--read-only", "--mount", mount)

    answer = funker.ok("call", name, 'paths=["/tmp/file", "/scratch/file", "/app/file"]').json

    assert answer == {
        "/tmp/file": len("something"),
        "/scratch/file": len("something"),
        "/app/file": "Read-only file system",
    }


def test_a_service_that_is_no_function_calls_one_by_its_service_name(
    where: str,
    engine: DockerClient,
    name: str,
    funker: Any,
    examples: Path,
    events: Callable[..., Iterator[dict[str, Any]]],
) -> None:
    image = funker.ok("build", examples / "add", "--name", name).stdout.strip()
    ends = events(event="die", label=f"com.docker.swarm.service.name={name}")
    engine.services.create(
        engine.images.get(image).id,
        command=["python3", "-c", CALL_ALL],
        args=[json.dumps(argument) for argument in (where, PATIENCE, [{"number": 1}])],
        name=name,
        networks=["funker"],
        restart_policy=RestartPolicy(condition="none"),
    )

    container = engine.containers.get(next(ends)["id"])

    assert json.loads(container.logs())[0]["number"] == 1


def in_a_new_container(
    engine: DockerClient, name: str, image: str, network: str, code: str, *arguments: object
) -> Any:
    """What a program prints that runs in a container of its own."""
    output = engine.containers.run(
        image,
        ["-c", code, *map(json.dumps, arguments)],
        entrypoint=["python3"],
        name=name,
        network=network,
    )
    return json.loads(output)


def restarts(container: Container) -> int:
    container.reload()
    count: int = container.attrs["RestartCount"]
    return count
