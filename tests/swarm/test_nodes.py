"""Functions on several nodes: where images are, who may manage, and whose the network is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from funker.backends.base import ImageMissing, NotAManager, SubnetClash
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.contexts import Endpoint
from funker.backends.swarm.engine import Engine
from funker.images import builder, controller, registry
from funker.rpc.client import invoke
from funker.spec import FunctionSpec

ROOT = Path(__file__).resolve().parents[2]


def quiet(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def manager(cluster: Any) -> Iterator[docker.DockerClient]:
    """A client of the first node. After the test, no service is left."""
    client = docker.DockerClient(base_url=cluster.hosts[0])
    yield client
    for service in client.services.list():
        service.remove()
    client.close()


@pytest.fixture
def swarm(cluster: Any, manager: docker.DockerClient) -> Iterator[Swarm]:
    connection = Engine(Endpoint("default", cluster.hosts[0]))
    yield Swarm(connection)
    connection.close()


@pytest.fixture
def image(cluster: Any, manager: docker.DockerClient, tmp_path: Path) -> builder.Image:
    """A function's image on the first node alone."""
    (tmp_path / "handler.py").write_text("def handle(x):\n    return x + 1\n")
    base = cluster.env["FUNKER_BASE"]
    return builder.build(tmp_path, name="nodes", base=base, docker=manager, progress=quiet)


@pytest.fixture
def spec(image: builder.Image) -> FunctionSpec:
    return FunctionSpec(name="nodes", image=image.id, image_name=image.tag, replicas=4)


@pytest.fixture
def pushed(
    cluster: Any, image: builder.Image, manager: docker.DockerClient, spec: FunctionSpec
) -> FunctionSpec:
    """The same function from the registry."""
    reference = registry.push(image, cluster.registry, docker=manager, progress=quiet)
    return spec.changed(image=reference)


def _nodes(swarm: Swarm, name: str) -> set[str]:
    """The host names on which the function runs."""
    tasks: Any = swarm.inspect(name)["tasks"]
    return {task["node"] for task in tasks if task["wanted"] == "running"}


def _answer(swarm: Swarm, name: str) -> bytes | None:
    with swarm.transport(name) as transport:
        return invoke(transport, name, b'{"x": 1}', deadline=60).body


def test_an_image_of_one_node_binds_its_function_there_and_the_deploy_says_so(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    done = swarm.deploy(spec)
    assert "runs on node1 only" in done.warnings[0]
    assert _nodes(swarm, spec.name) == {"node1"}
    assert swarm.deploy(spec).outcome == "unchanged"
    assert _answer(swarm, spec.name) == b"2"


def test_a_pushed_image_runs_on_all_nodes(swarm: Swarm, pushed: FunctionSpec) -> None:
    done = swarm.deploy(pushed)
    assert done.warnings == ()
    assert _nodes(swarm, pushed.name) == {"node1", "node2"}
    assert _answer(swarm, pushed.name) == b"2"


def test_a_function_on_another_node_is_called_across(swarm: Swarm, pushed: FunctionSpec) -> None:
    swarm.deploy(pushed.changed(constraints=("node.hostname==node2",), replicas=1))
    assert _nodes(swarm, pushed.name) == {"node2"}
    assert _answer(swarm, pushed.name) == b"2"


def test_an_image_of_one_node_can_t_be_asked_to_run_on_another(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    with pytest.raises(ImageMissing, match=r"node1 alone.*only run on node2") as caught:
        swarm.deploy(spec.changed(constraints=("node.hostname==node2",)))
    assert "--registry" in caught.value.hint
    assert swarm.functions() == []


def test_a_node_that_can_t_get_the_image_is_told_by_the_swarm(
    swarm: Swarm, pushed: FunctionSpec
) -> None:
    gone = pushed.image.partition("@")[0] + "@sha256:" + "0" * 64
    wish = pushed.changed(image=gone, constraints=("node.hostname==node2",), replicas=1)
    with pytest.raises(ImageMissing, match="No such image") as caught:
        swarm.deploy(wish)
    assert "removed again" in caught.value.hint
    assert swarm.functions() == []


def test_a_worker_says_who_manages(cluster: Any) -> None:
    worker = Engine(Endpoint("default", cluster.hosts[1]))
    try:
        with pytest.raises(NotAManager, match="worker"):
            Swarm(worker).functions()
        with pytest.raises(NotAManager) as caught:
            worker.require_manager()
        assert "the managers are 10.77." in caught.value.hint
    finally:
        worker.close()


def test_a_subnet_that_is_taken_is_told_with_one_that_is_free(
    manager: docker.DockerClient, swarm: Swarm, cluster: Any, spec: FunctionSpec
) -> None:
    _remove_network(manager)
    other = manager.networks.create("other", driver="overlay", ipam=_subnet("10.213.7.0/24"))
    try:
        with pytest.raises(SubnetClash, match="the network other") as caught:
            swarm.deploy(spec)
        assert "--subnet 10.214.0.0/16" in caught.value.hint
        connection = Engine(Endpoint("default", cluster.hosts[0]))
        Swarm(connection, subnet="10.214.0.0/16").deploy(spec)
        connection.close()
        assert _answer(swarm, spec.name) == b"2"
    finally:
        other.remove()


@pytest.mark.parametrize("first", ["stack", "deploy"])
def test_the_network_may_be_made_by_the_stack_or_by_a_deploy(
    first: str, manager: docker.DockerClient, swarm: Swarm, cluster: Any, spec: FunctionSpec
) -> None:
    _remove_network(manager)
    swarm.keys()
    if first == "deploy":
        swarm.deploy(spec)
    image = controller.build(docker=manager, progress=quiet, base=cluster.env["FUNKER_BASE"])
    _docker(
        {**cluster.env, "FUNKER_IMAGE": image.id, "FUNKER_PLACEMENT": "node.hostname==node1"},
        *["stack", "deploy", "-c", "compose.yaml", "--resolve-image=never", "funker"],
    )
    done = swarm.deploy(spec)
    assert done.outcome == ("created" if first == "stack" else "unchanged")
    assert _answer(swarm, spec.name) == b"2"
    (network,) = manager.networks.list(names=["funker"])
    assert network.attrs["IPAM"]["Config"][0]["Subnet"] == "10.213.0.0/16"
    anchor = manager.services.get("funker_anchor").attrs["Spec"]
    assert anchor["TaskTemplate"]["RestartPolicy"] == {
        "Condition": "any",
        "Delay": 0,
        "MaxAttempts": 0,
    }
    assert anchor["EndpointSpec"] == {"Mode": "dnsrr"}


def _subnet(text: str) -> docker.types.IPAMConfig:
    return docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=text)])


def _remove_network(manager: docker.DockerClient) -> None:
    give_up = time.monotonic() + 60
    while manager.api.tasks():  # of services that are gone; the swarm has no events of tasks
        assert time.monotonic() < give_up
        time.sleep(0.1)
    for network in manager.networks.list(names=["funker"]):
        network.remove()


def _docker(variables: dict[str, str], *arguments: str) -> None:
    environment = {**os.environ, **variables}
    subprocess.run(
        ["docker", *arguments], cwd=ROOT, env=environment, check=True, capture_output=True
    )
