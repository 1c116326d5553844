"""The control plane: `funker up`, `down` and `keys`, and the same by `docker stack deploy`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
import zmq

from funker.rpc.keys import Keys, client_keys, make_keys, secure
from funker.rpc.messages import Query, Reply, decode, encode

if TYPE_CHECKING:
    from tests.conftest import Funker
    from tests.swarm.conftest import Cluster

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("funker_router", "funker_reconciler", "funker_anchor")
#: Milliseconds in which a router on this machine answers, or never will.
PATIENCE = 3000
UNCHANGED = "The controller is up already; nothing was changed.\n"

Engine = docker.DockerClient


@pytest.fixture(autouse=True)
def _down(engine: Engine, funker: Funker) -> Iterator[None]:
    """Each test begins and ends without a controller."""
    funker.ok("down", "-y")
    yield
    funker.ok("down", "-y")


def tasks(engine: Engine) -> dict[str, str]:
    """ID and service of the tasks that shall run."""
    services = {service["ID"]: service["Spec"]["Name"] for service in engine.api.services()}
    running = engine.api.tasks(filters={"desired-state": "running"})
    found = {task["ID"]: services.get(task["ServiceID"], "") for task in running}
    return {task: service for task, service in found.items() if service in PARTS}


def specs(engine: Engine) -> dict[str, dict[str, Any]]:
    found = {service["Spec"]["Name"]: service["Spec"] for service in engine.api.services()}
    return {name: spec for name, spec in found.items() if name in PARTS}


def stack_deploy(engine: Engine, *files: str, **variables: str) -> None:
    """The same by Docker's own command, with the settings that `up` finds by itself."""
    reconciler = specs(engine)["funker_reconciler"]["TaskTemplate"]["ContainerSpec"]
    settings = {
        "FUNKER_IMAGE": reconciler["Image"],
        "FUNKER_DOCKER_SOCKET": reconciler["Mounts"][0]["Source"],
    }
    words = [word for file in files for word in ("-c", file)]
    subprocess.run(
        ["docker", "stack", "deploy", *words, "funker"],
        cwd=ROOT,
        env={**os.environ, **settings, **variables},
        capture_output=True,
        check=True,
    )


def ask(address: str, keys: Keys | None) -> Mapping[str, Any] | None:
    """The status that a router tells there, or None if it doesn't answer."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    secure(dealer, keys)
    dealer.connect(f"tcp://{address}")
    dealer.send_multipart(encode(Query(number=1, what="status")))
    answer = decode(dealer.recv_multipart()) if dealer.poll(PATIENCE) else None
    context.destroy()
    if answer is None:
        return None
    assert isinstance(answer, Reply)
    assert answer.body is not None
    status: Mapping[str, Any] = json.loads(answer.body)
    return status


def free_port(engine: Engine) -> int:
    """One that nobody listens on here, nor on the node."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port


def test_up_tells_what_it_made_and_the_second_time_that_nothing_was_to_do(
    engine: Engine, funker: Funker
) -> None:
    made = funker.ok("up").stdout.splitlines()
    if made[0] == "created the network funker":  # another test's function may have made it
        del made[0]
    assert made == [
        "created the secret funker-router-key",
        "created the secret funker-client-key",
        "created the service funker_router",
        "created the service funker_reconciler",
        "created the service funker_anchor",
    ]
    before = tasks(engine)
    assert set(before.values()) == set(PARTS)
    again = funker.ok("up")
    assert again.stdout == UNCHANGED
    assert funker.ok("up", "--json").json == {"changes": []}
    assert tasks(engine) == before


def test_nothing_is_published_and_the_router_has_no_docker_socket(
    engine: Engine, funker: Funker
) -> None:
    funker.ok("up")
    for container in engine.containers.list(filters={"label": "funker.control"}):
        part = container.labels["funker.control"]
        assert not any((container.ports or {}).values()), part
        mounts = [mount["Destination"] for mount in container.attrs["Mounts"]]
        assert ("/var/run/docker.sock" in mounts) == (part == "reconciler")
        assert container.attrs["HostConfig"]["CapDrop"] == ["ALL"]
        assert container.attrs["HostConfig"]["ReadonlyRootfs"]


def test_stack_deploy_after_up_restarts_nothing_and_the_other_way_round(
    engine: Engine, funker: Funker
) -> None:
    funker.ok("up")
    before = tasks(engine)
    stack_deploy(engine, "compose.yaml")
    funker.ok("up")  # returns once the swarm has done what it was told
    assert tasks(engine) == before
    assert funker.ok("up").stdout == UNCHANGED


def test_what_stack_deploy_made_up_finds_as_it_should_be(engine: Engine, funker: Funker) -> None:
    funker.ok("up")
    made = specs(engine)
    settings = made["funker_reconciler"]["TaskTemplate"]["ContainerSpec"]
    funker.ok("down", "-y")
    assert funker.ok("keys").stdout.count("created the secret") == 2
    subprocess.run(
        ["docker", "stack", "deploy", "-c", "compose.yaml", "funker"],
        cwd=ROOT,
        env={
            **os.environ,
            "FUNKER_IMAGE": settings["Image"],
            "FUNKER_DOCKER_SOCKET": settings["Mounts"][0]["Source"],
        },
        capture_output=True,
        check=True,
    )
    assert funker.ok("up").stdout == UNCHANGED


def test_a_part_that_was_removed_comes_back_and_the_others_stay(
    engine: Engine, funker: Funker
) -> None:
    funker.ok("up")
    before = tasks(engine)
    engine.services.get("funker_anchor").remove()
    engine.services.get("funker_reconciler").update(labels={})  # its stack's label too
    failed = funker("up")
    assert failed.code == 2, failed
    assert "funker_reconciler" in failed.stderr
    engine.services.get("funker_reconciler").remove()
    assert funker.ok("up").stdout.splitlines() == [
        "created the service funker_reconciler",
        "created the service funker_anchor",
    ]
    (router,) = [task for task, service in before.items() if service == "funker_router"]
    assert router in tasks(engine)


def test_a_published_port_answers_those_who_have_the_key(
    engine: Engine, funker: Funker, tmp_path: Path
) -> None:
    port = free_port(engine)
    funker.ok("up", "--publish", str(port))
    shown = funker.ok("keys", "--show", "client").stdout
    (address,) = [
        line.partition("=")[2] for line in shown.splitlines() if line.startswith("ROUTER_ADDRESS=")
    ]
    assert address.endswith(f":{port}")
    keys = _keys(shown, tmp_path)
    status = ask(address, keys)
    assert status is not None
    assert "functions" in status

    assert ask(address, None) is None
    stranger = _keys(make_keys()[1], tmp_path)
    assert ask(address, stranger._replace(router=keys.router)) is None
    assert ask(address, stranger) is None

    before = tasks(engine)
    stack_deploy(engine, "compose.yaml", "compose.publish.yaml", FUNKER_PUBLISH=str(port))
    assert funker.ok("up", "--publish", str(port)).stdout == UNCHANGED
    assert tasks(engine) == before

    assert funker.ok("up").stdout == "updated the service funker_router (no longer published)\n"
    assert ask(address, keys) is None
    assert "ROUTER_ADDRESS" not in funker.ok("keys", "--show", "client").stdout


def test_a_router_that_crashes_is_told_with_its_last_words(funker: Funker) -> None:
    base = os.environ["FUNKER_BASE"]
    failed = funker("up", "--image", base)
    assert failed.code == 125, failed
    assert "ends again and again" in failed.stderr
    assert "No module named 'funker'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "`funker up` again goes on from here" in failed.stderr


def test_an_image_that_nobody_has_is_told_before_anything_is_made(
    engine: Engine, funker: Funker
) -> None:
    failed = funker("up", "--image", "no-such-image:1")
    assert failed.code == 125, failed
    assert "has no image no-such-image:1 and can't pull it" in failed.stderr
    assert specs(engine) == {}


def test_a_service_of_that_name_which_isn_t_the_controller_s_stays(
    engine: Engine, funker: Funker
) -> None:
    other = engine.services.create(
        os.environ["FUNKER_BASE"], ["sleep", "infinity"], name="funker_router"
    )
    try:
        failed = funker("up")
        assert failed.code == 2, failed
        assert "funker_router is a service already" in failed.stderr
        assert "docker service rm funker_router" in failed.stderr
        other.reload()
    finally:
        other.remove()


def test_one_key_without_the_other_is_an_error_with_a_remedy(
    engine: Engine, funker: Funker
) -> None:
    secret = engine.secrets.create(name="funker-client-key", data=b"ROUTER_PUBLIC=x\n")
    try:
        for command in ("up", "keys"):
            failed = funker(command)
            assert failed.code == 125, failed
            assert "funker-client-key, but not funker-router-key" in failed.stderr
            assert "docker secret rm funker-client-key" in failed.stderr
        assert specs(engine) == {}
    finally:
        secret.remove()


def test_keys_that_don_t_belong_together_are_an_error(engine: Engine, funker: Funker) -> None:
    funker.ok("keys")
    (client,) = engine.secrets.list(filters={"name": "funker-client-key"})
    client.remove()
    other = engine.secrets.create(name="funker-client-key", data=make_keys()[1].encode())
    try:
        failed = funker("up")
        assert failed.code == 125, failed
        assert "don't belong together" in failed.stderr
    finally:
        other.remove()
        for secret in engine.secrets.list(filters={"name": "funker-router-key"}):
            secret.remove()


def test_down_leaves_what_functions_use(engine: Engine, funker: Funker, name: str) -> None:
    funker.ok("up")
    (secret,) = engine.api.secrets(filters={"name": "funker-client-key"})
    function = engine.services.create(
        os.environ["FUNKER_BASE"],
        ["sleep", "infinity"],
        name=name,
        networks=["funker"],
        secrets=[docker.types.SecretReference(secret["ID"], "funker-client-key")],
    )
    lines = funker.ok("down", "-y").stdout.splitlines()
    assert lines[:3] == [
        "removed the service funker_reconciler",
        "removed the service funker_router",
        "removed the service funker_anchor",
    ]
    assert lines[3].startswith("the network funker stays: ")
    assert name in lines[3]
    assert lines[4] == f"the keys stay: {name} may be using them"
    made = funker.ok("up").stdout.splitlines()
    assert made == [f"created the service {part}" for part in PARTS]
    function.remove()


def test_down_asks_where_somebody_can_answer_and_needs_a_yes_elsewhere(funker: Funker) -> None:
    refused = funker("down")
    assert refused.code == 2, refused
    assert "Confirm with -y" in refused.stderr
    assert funker.ok("down", "-y").stdout == "The controller isn't up; nothing was changed.\n"


def test_on_several_nodes_an_image_that_only_one_has_binds_the_controller_there(
    cluster: Cluster, funker: Funker
) -> None:
    manager = docker.DockerClient(base_url=cluster.hosts[0])
    try:
        made = funker.ok("up", env=cluster.env)
        assert "controller runs on node1 only" in made.stdout
        assert "--registry" in made.stdout
        assert _nodes(manager) == {part: {"node1"} for part in PARTS}
        assert funker.ok("up", env=cluster.env).stdout == UNCHANGED

        pushed = funker.ok("up", "--registry", cluster.registry, env=cluster.env)
        assert "runs on node1 only" not in pushed.stdout
        assert _nodes(manager)["funker_anchor"] == {"node1", "node2"}
        image = specs(manager)["funker_router"]["TaskTemplate"]["ContainerSpec"]["Image"]
        assert image.startswith(f"{cluster.registry}/funker-controller@sha256:")
        assert funker.ok("up", env=cluster.env).stdout == UNCHANGED

        other = funker("up", "--subnet", "10.99.0.0/16", env=cluster.env)
        assert other.code == 125, other
        assert "the network funker has 10.213.0.0/16" in other.stderr
        worker = funker("up", env={**cluster.env, "DOCKER_HOST": cluster.hosts[1]})
        assert worker.code == 125, worker
        assert "is a worker of its swarm" in worker.stderr
    finally:
        funker.ok("down", "-y", env=cluster.env)
        manager.close()


def _nodes(engine: Engine) -> dict[str, set[str]]:
    """The host names on which each part runs."""
    hosts = {node["ID"]: node["Description"]["Hostname"] for node in engine.api.nodes()}
    found: dict[str, set[str]] = {part: set() for part in PARTS}
    for task, service in tasks(engine).items():
        found[service].add(hosts.get(engine.api.inspect_task(task).get("NodeID", ""), ""))
    return found


def _keys(text: str, directory: Path) -> Keys:
    file = directory / "key"
    file.write_text(text)
    keys = client_keys({"FUNKER_KEY_FILE": str(file)})
    assert keys is not None
    return keys
