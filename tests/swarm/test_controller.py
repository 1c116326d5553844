"""Calls through the router on a real swarm: no call meets a dead replica, or a dead router."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.types import EndpointSpec, RestartPolicy, SecretReference, ServiceMode

PROGRAMS = Path(__file__).parent / "programs"
#: Seconds. Proves that something ends.
PATIENCE = 90.0

#: A stack file as a user writes it, with all that the router needs.
STACK = """
version: "3.8"
services:
  add:
    image: {image}
    networks: [funker]
    secrets: [funker-client-key]
    stop_grace_period: 105s
    deploy:
      endpoint_mode: dnsrr
      labels: {{funker.function: "true"}}
      restart_policy: {{condition: any, delay: 0s}}
networks:
  funker: {{external: true}}
secrets:
  funker-client-key: {{external: true}}
"""

#: Makes calls with the key in the variable KEY; prints what became of each.
CALLER = """
import json, os, sys, threading
from concurrent.futures import ThreadPoolExecutor

os.environ["FUNKER_KEY_FILE"] = "/tmp/client-key"
with open("/tmp/client-key", "w") as file:
    file.write(os.environ["KEY"])
import funker

name, calls = map(json.loads, sys.argv[1:])


def call(arguments):
    try:
        return funker.function(name, deadline=80)(**arguments)
    except funker.CallError as error:
        return {"error": error.code, "message": error.message}


with ThreadPoolExecutor(len(calls)) as threads:
    print(json.dumps(list(threads.map(call, calls))))
"""

Names = Callable[..., str]

pytestmark = pytest.mark.usefixtures("control_plane")


@pytest.fixture(scope="module")
def acts(control_plane: None, funker: Any, module_names: Names) -> str:
    """A function that does what it is told, with the key."""
    name = module_names("acts")
    funker.ok("deploy", PROGRAMS / "faults", name, "--replicas", "4")
    return name


@pytest.fixture(scope="module")
def caller(
    control_plane: None, funker: Any, start_caller: Callable[..., Any]
) -> Callable[..., Any]:
    """Make calls from a container on the network that has the key: caller(name, [arguments])."""
    key = funker.ok("keys", "--show", "client").stdout
    container = start_caller("funker").container

    def make(name: str, calls: list[dict[str, Any]]) -> list[Any]:
        words = [json.dumps(word) for word in (name, calls)]
        code, (stdout, stderr) = container.exec_run(
            ["python3", "-c", CALLER, *words], environment={"KEY": key}, demux=True
        )
        assert code == 0, (stderr or b"").decode()
        answers: list[Any] = json.loads(stdout)
        return answers

    return make


def part(engine: DockerClient, name: str) -> Container:
    """The container of a part of the controller that runs; waits for it."""
    give_up = time.monotonic() + PATIENCE
    while True:
        found = engine.containers.list(
            filters={"label": f"funker.control={name}"}, ignore_removed=True
        )
        if found:
            return found[0]
        assert time.monotonic() < give_up, f"no {name} runs"
        time.sleep(0.05)


def until_seen(text: str, name: str, engine: DockerClient) -> None:
    """Wait until a replica has printed this."""
    give_up = time.monotonic() + PATIENCE
    label = f"com.docker.swarm.service.name={name}"
    while time.monotonic() < give_up:
        for container in engine.containers.list(filters={"label": label}, ignore_removed=True):
            if text.encode() in container.logs():
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody prints {text!r}")


def test_many_callers_on_few_replicas_get_each_their_own_answer(acts: str, caller: Any) -> None:
    calls = [{"act": "echo", "number": number} for number in range(40)]

    answers = caller(acts, calls)

    assert [answer.get("number") for answer in answers] == [*range(40)], answers
    assert len({answer["where"] for answer in answers}) == 40, "a container served two calls"


def test_the_routers_end_costs_no_call(acts: str, caller: Any, engine: DockerClient) -> None:
    """Killed with calls waiting, running and just answered: each has its answer, and ran once."""
    calls = [
        {"act": "sleep", "seconds": 0.5 + 0.3 * number, "mark": f"outlives-{number}"}
        for number in range(8)
    ]
    with ThreadPoolExecutor() as threads:
        answers = threads.submit(caller, acts, calls)
        until_seen("outlives-0 in", acts, engine)
        part(engine, "router").kill()
        got = answers.result(timeout=PATIENCE)

    assert [answer.get("mark") for answer in got] == [call["mark"] for call in calls], got
    output = "".join(line for line in _log(engine, acts) if "outlives-" in line)
    for call in calls:
        assert output.count(f"{call['mark']} in ") == 1, "it ran twice"


def test_the_reconcilers_end_is_noticed_by_nobody(
    acts: str, caller: Any, engine: DockerClient
) -> None:
    part(engine, "reconciler").kill()

    answers = caller(acts, [{"act": "echo", "number": number} for number in range(4)])

    assert [answer.get("number") for answer in answers] == [*range(4)], answers
    part(engine, "reconciler")


def test_what_became_of_a_call_is_known_when_its_container_is_gone(
    acts: str, funker: Any, engine: DockerClient
) -> None:
    failed = funker("call", acts, "act=abort", "mark=the-last-words", "-v")
    assert failed.code == 1

    (newest, *_) = funker.ok("calls", acts, "-n", "1", "--json").json
    assert newest["outcome"] == "function_crashed"
    shown = funker.ok("logs", acts, "--call", newest["id"][:12])
    assert "the-last-words in" in shown.stdout + shown.stderr
    table = funker.ok("calls", acts, "-n", "1").stdout
    assert re.search(rf"^{newest['id'][:12]} +{acts} +function_crashed ", table, re.MULTILINE)


def test_live_state_is_shown_while_calls_wait(
    acts: str, caller: Any, funker: Any, engine: DockerClient
) -> None:
    calls = [{"act": "sleep", "seconds": 6, "mark": f"shown-{number}"} for number in range(6)]
    with ThreadPoolExecutor() as threads:
        answers = threads.submit(caller, acts, calls)
        until_seen("shown-", acts, engine)
        give_up = time.monotonic() + PATIENCE
        while True:
            (row,) = [row for row in funker.ok("ls", "--json").json if row["name"] == acts]
            if (row["busy"], row["queued"]) == (4, 2) or time.monotonic() > give_up:
                break
        live = funker.ok("inspect", acts).json[0]["live"]
        assert answers.result(timeout=PATIENCE)

    assert (row["busy"], row["queued"]) == (4, 2)
    assert {len(replica["calls"]) for replica in live["replicas"]} <= {0, 1}


def test_a_caller_that_dies_takes_its_calls_along(
    acts: str, funker: Any, start_caller: Callable[..., Any], engine: DockerClient
) -> None:
    """Its running call is stopped, and what it had waiting is never started."""
    key = funker.ok("keys", "--show", "client").stdout
    container = start_caller("funker").container
    calls = [{"act": "sleep", "seconds": 60, "mark": f"abandoned-{n}"} for n in range(6)]
    words = [json.dumps(word) for word in (acts, calls)]
    container.exec_run(["python3", "-c", CALLER, *words], environment={"KEY": key}, detach=True)
    until_seen("abandoned-", acts, engine)

    container.kill()

    give_up = time.monotonic() + PATIENCE
    while True:
        (row,) = [row for row in funker.ok("ls", "--json").json if row["name"] == acts]
        if (row["busy"], row["queued"]) == (0, 0):
            break
        assert time.monotonic() < give_up, row
    assert sum("abandoned-" in line for line in _log(engine, acts)) <= 4


def test_a_function_of_a_stack_file_is_found_called_scaled_and_shown(
    funker: Any, examples: Path, names: Names, caller: Any, docker_command: Callable[..., None]
) -> None:
    image = f"test/{names('add')}:1"
    funker.ok("build", examples / "add", "--name", names("add"), "-t", image)
    stack = names("shop")
    docker_command("stack", "deploy", "-c", "-", stack, stdin=STACK.format(image=image))

    assert caller(f"{stack}_add", [{"x": 1, "y": 2}]) == [3]
    assert funker.ok("call", f"{stack}_add", "x=2", "y=3").stdout == "5\n"
    funker.ok("scale", f"{stack}_add=2")

    (row,) = [row for row in funker.ok("ls", "--json").json if row["name"] == f"{stack}_add"]
    assert (row["wanted"], row["routed"], row["outdated"]) == (2, True, False)
    outcomes = [call["outcome"] for call in funker.ok("calls", f"{stack}_add", "--json").json]
    assert outcomes == ["ok", "ok"]
    docker_command("stack", "rm", stack)


@pytest.mark.parametrize("with_key", [True, False], ids=["with the key", "without it"])
def test_a_function_made_by_service_create_is_called_at_once(
    funker: Any,
    examples: Path,
    engine: DockerClient,
    names: Names,
    name: str,
    caller: Any,
    docker_command: Callable[..., None],
    with_key: bool,
) -> None:
    image = funker.ok("build", examples / "add", "--name", names("add")).stdout.strip()
    words = ["service", "create", "--detach", "--no-resolve-image", "--name", name]
    words += ["--label", "funker.function=true", "--network", "funker"]
    words += ["--endpoint-mode", "dnsrr", "--restart-delay", "0s", "--stop-grace-period", "105s"]
    words += ["--secret", "funker-client-key"] if with_key else []
    docker_command(*words, image)

    assert caller(name, [{"x": 1, "y": 2}]) == [3]

    (row,) = [row for row in funker.ok("ls", "--json").json if row["name"] == name]
    assert row["routed"] == with_key
    assert len(funker.ok("calls", name, "--json").json) == int(with_key)


def test_a_slot_that_nobody_restarts_is_filled_again(
    funker: Any, examples: Path, engine: DockerClient, names: Names, name: str, caller: Any
) -> None:
    """docker-py's default is to restart nothing: after one call such a function would be dead."""
    image = funker.ok("build", examples / "add", "--name", names("add")).stdout.strip()
    key = engine.secrets.list(filters={"name": "funker-client-key"})[0]
    engine.services.create(
        image,
        name=name,
        labels={"funker.function": "true"},
        networks=["funker"],
        secrets=[SecretReference(key.id, key.name)],
        mode=ServiceMode("replicated", 1),
        endpoint_spec=EndpointSpec(mode="dnsrr"),
        restart_policy=RestartPolicy(condition="none"),
    )

    for number in range(3):
        assert caller(name, [{"x": number, "y": 1}]) == [number + 1]


def _log(engine: DockerClient, name: str) -> list[str]:
    (service,) = engine.services.list(filters={"name": name})
    lines = b"".join(service.logs(stdout=True)).decode().splitlines()
    return [f"{json.loads(line)['text']}\n" for line in lines]
