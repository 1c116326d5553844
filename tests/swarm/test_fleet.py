"""What the reconciler sees of a real swarm, and what it can do there."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker import DockerClient
from docker.models.services import Service
from docker.types import EndpointSpec, RestartPolicy, SecretReference, ServiceMode

from funker.backends.base import BackendError, EngineUnavailable, NoNodeFits, Observed
from funker.backends.swarm import overlay
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.contexts import endpoint
from funker.backends.swarm.engine import Engine, connect
from funker.backends.swarm.fleet import SwarmFleet
from funker.images import builder
from funker.rpc.client import invoke
from funker.spec import ScalePolicy
from tests.swarm.forwarder import forwarding

Names = Callable[..., str]

PATIENCE = 30.0
#: In every stack file here.
STACK = """
services:
  price:
    image: {image}
    environment: {{FUNKER_ALIASES: "cost"}}
    networks: {{funker: {{aliases: [tag]}}}}
    deploy:
      replicas: 2
      endpoint_mode: dnsrr
      labels: {{funker.function: "true"}}
      restart_policy: {{condition: any, delay: 0s}}
networks:
  funker: {{external: true}}
"""


@pytest.fixture(scope="module")
def image(
    engine: DockerClient, tmp_path_factory: pytest.TempPathFactory, module_names: Names
) -> str:
    directory = tmp_path_factory.mktemp("source")
    (directory / "handler.py").write_text("def handle(value=None): return value\n")
    name = module_names("fleet")
    base = os.environ.get("FUNKER_BASE")
    return builder.build(directory, name=name, base=base, docker=engine, progress=lambda _: None).id


@pytest.fixture(scope="module")
def network(engine: DockerClient) -> str:
    """The ID of the network `funker`, which the first deploy would make."""
    connection = connect()
    try:
        return overlay.ensure(connection, subnet=None, progress=lambda _: None)
    finally:
        connection.close()


@pytest.fixture
def swarm(engine: DockerClient) -> Iterator[Swarm]:
    connection = connect()
    yield Swarm(connection)
    connection.close()


@pytest.fixture
def fleet(engine: DockerClient) -> Iterator[SwarmFleet]:
    fleet = SwarmFleet(connect())
    yield fleet
    fleet.close()


@pytest.fixture
def create(engine: DockerClient, image: str, network: str, name: str) -> Callable[..., Service]:
    """A function as `docker service create` makes it, up: create(condition="none")."""

    def make(
        *,
        condition: str = "any",
        replicas: int = 2,
        labels: dict[str, str] | None = None,
        **more: Any,
    ) -> Service:
        service = engine.services.create(
            image,
            name=name,
            labels={"funker.function": "true", **(labels or {})},
            networks=[network],
            env=["FUNKER_FUNCTION={{.Service.Name}}"],
            mode=ServiceMode("replicated", replicas),
            endpoint_spec=EndpointSpec(mode="dnsrr"),
            restart_policy=RestartPolicy(condition=condition, delay=0),
            stop_grace_period=105_000_000_000,
            **more,
        )
        if "constraints" not in more:
            _until(lambda: len(_containers(engine, name)) == replicas)
        return service

    return make


def _until(true: Callable[[], Any]) -> Any:
    """Waits for the swarm, which has no events of tasks."""
    give_up = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < give_up, "it doesn't come"
        time.sleep(0.1)
    return value


def _containers(engine: DockerClient, name: str) -> set[str]:
    found = engine.containers.list(filters={"name": f"{name}."}, ignore_removed=True)
    return {str(container.id) for container in found}


def _seen(fleet: SwarmFleet, name: str) -> Observed | None:
    return next((function for function in fleet.observe() if function.name == name), None)


def _complete(fleet: SwarmFleet, name: str, number: int) -> bool:
    seen = _seen(fleet, name)
    return seen is not None and seen.wanted == seen.running == number


def _spec(engine: DockerClient, name: str) -> dict[str, Any]:
    """The service's spec without its number of replicas."""
    spec: dict[str, Any] = engine.api.inspect_service(name)["Spec"]
    del spec["Mode"]["Replicated"]["Replicas"]
    return spec


@pytest.fixture
def stack(engine: DockerClient, names: Names, image: str, network: str) -> str:
    """A stack's function, deployed by `docker stack deploy`."""
    name = names("shop")
    subprocess.run(
        ["docker", "stack", "deploy", "--resolve-image=never", "-c", "-", name],
        input=STACK.format(image=image),
        check=True,
        capture_output=True,
        text=True,
    )
    return name


def test_functions_made_by_hand_and_by_stack_files_are_seen_and_scaled_alike(
    engine: DockerClient,
    fleet: SwarmFleet,
    swarm: Swarm,
    create: Callable[..., Service],
    stack: str,
) -> None:
    by_hand, of_stack = create().name, f"{stack}_price"
    for name, other_names in ((by_hand, ()), (of_stack, ("cost", "price", "tag"))):
        _until(lambda name=name: _complete(fleet, name, 2))
        seen = _seen(fleet, name)
        assert seen is not None
        assert (seen.names, seen.routed) == (other_names, False)
        before, containers = _spec(engine, name), _containers(engine, name)
        swarm.scale(name, 3)
        assert _containers(engine, name) > containers
        assert _complete(fleet, name, 3)
        swarm.scale(name, 0)
        assert not _containers(engine, name)
        assert _spec(engine, name) == before


def test_the_autoscaler_s_number_yields_to_one_that_somebody_says(
    engine: DockerClient, fleet: SwarmFleet, swarm: Swarm, create: Callable[..., Service]
) -> None:
    labels = {"funker.scale.max": "5", "funker.retries": "2"}
    # No node fits, so that nothing is started: it is the numbers that count here.
    name = create(replicas=1, labels=labels, constraints=["node.labels.none==none"]).name
    seen = _seen(fleet, name)
    assert seen is not None
    assert (seen.scale, seen.calls.retries, seen.cores) == (ScalePolicy(max=5), 2, 1)
    fleet.scale(name, 2)
    assert _wanted(fleet, name) == (2, False)

    with pytest.raises(NoNodeFits):
        swarm.scale(name, 7)
    fleet.scale(name, 2)  # decided before it was pinned
    assert _wanted(fleet, name) == (7, True)

    swarm.unpin(name)
    assert _wanted(fleet, name) == (7, False)
    fleet.scale(name, 3)
    assert _wanted(fleet, name) == (3, False)


def _wanted(fleet: SwarmFleet, name: str) -> tuple[int, bool]:
    seen = _seen(fleet, name)
    assert seen is not None
    return seen.wanted, seen.pinned


def test_a_function_with_the_key_on_the_network_is_routed(
    engine: DockerClient, fleet: SwarmFleet, names: Names, create: Callable[..., Service]
) -> None:
    key = names("key")
    secret = engine.secrets.create(name=key, data=b"ROUTER_PUBLIC=no\n")
    create(secrets=[SecretReference(secret.id, key, filename="funker-client-key")])
    (seen,) = [each for each in fleet.observe() if each.name.startswith("function-")]
    assert seen.routed


def test_slots_that_the_restart_policy_leaves_dead_are_filled_and_nothing_else_is_touched(
    engine: DockerClient, fleet: SwarmFleet, create: Callable[..., Service]
) -> None:
    service = create(condition="none", replicas=3)
    name, before = service.name, _spec(engine, service.name)
    assert not fleet.revive(name)
    first, *others = _containers(engine, name)
    engine.containers.get(first).kill()
    _until(lambda: not _complete(fleet, name, 3))
    _until(lambda: fleet.revive(name))  # the swarm takes a moment to give the slot up
    _until(lambda: _complete(fleet, name, 3))
    assert _containers(engine, name) > set(others)
    assert _spec(engine, name) == before
    assert not fleet.revive(name)


def test_a_paused_update_is_left_to_its_user(
    engine: DockerClient, fleet: SwarmFleet, create: Callable[..., Service]
) -> None:
    # Such an update waits for the first replica to be up before it goes on, and it never is.
    service = create(
        condition="none", replicas=2, update_config={"Parallelism": 1, "FailureAction": "pause"}
    )
    service.update(command=["/bin/false"], fetch_current_spec=True)
    _until(lambda: _state_of_update(engine, service.name) == "paused")
    assert not fleet.revive(service.name)
    assert _state_of_update(engine, service.name) == "paused"


def _state_of_update(engine: DockerClient, name: str) -> str:
    return str((engine.api.inspect_service(name).get("UpdateStatus") or {}).get("State"))


def test_the_scheduler_is_quoted_when_it_finds_no_node(
    engine: DockerClient, fleet: SwarmFleet, swarm: Swarm, create: Callable[..., Service]
) -> None:
    name = create(constraints=["node.labels.nowhere==true"], replicas=0).name
    with pytest.raises(NoNodeFits, match="constraints"):
        swarm.scale(name, 1)
    assert "no suitable node" in _until(lambda: (_seen(fleet, name) or _NOTHING).problem)
    swarm.scale(name, 0)


_NOTHING = Observed(name="", wanted=0, running=0)


def test_a_service_that_runs_on_each_node_has_no_number_to_change(
    engine: DockerClient, swarm: Swarm, image: str, name: str
) -> None:
    engine.services.create(
        image, name=name, labels={"funker.function": ""}, mode=ServiceMode("global")
    )
    with pytest.raises(BackendError, match="global"):
        swarm.scale(name, 2)


def test_a_change_of_a_service_ends_the_wait(
    engine: DockerClient, fleet: SwarmFleet, create: Callable[..., Service]
) -> None:
    service = create(replicas=1)
    fleet.wait(1)  # whatever has happened before
    assert _waited(fleet, lambda: engine.api.remove_service(service.id)) < PATIENCE / 2


def _waited(fleet: SwarmFleet, change: Callable[[], object]) -> float:
    """Seconds that the fleet waits for a change that comes soon."""
    changing = threading.Timer(0.3, change)
    changing.start()
    started = time.monotonic()
    fleet.wait(PATIENCE)
    waited = time.monotonic() - started
    changing.join()
    return waited


@pytest.fixture
def _no_fault_of_ours() -> Iterator[None]:
    """Where nobody listens, docker's client leaves its socket to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.mark.usefixtures("_no_fault_of_ours")
def test_an_engine_that_was_away_is_found_again(
    engine: DockerClient, create: Callable[..., Service]
) -> None:
    service = create(replicas=1, labels={"funker.scale.min": "0"})
    with forwarding(os.environ["DOCKER_HOST"].removeprefix("unix://")) as forwarder:
        fleet = SwarmFleet(Engine(endpoint(None, {"DOCKER_HOST": f"unix://{forwarder.path}"})))
        try:
            assert _seen(fleet, service.name)
            forwarder.stop()
            for _ in range(2):
                with pytest.raises(EngineUnavailable, match="can't reach"):
                    fleet.observe()
            fleet.wait(0.1)
            forwarder.start()
            assert _seen(fleet, service.name)
            _until(lambda: forwarder.carried(b"/events"))  # they are followed again
            fleet.wait(1)
            assert _waited(fleet, lambda: fleet.scale(service.name, 0)) < PATIENCE / 2
        finally:
            fleet.close()


def test_a_replica_with_docker_py_s_restart_policy_answers_call_after_call(
    swarm: Swarm, create: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = create(condition="none", replicas=1).name
    monkeypatch.setenv("FUNKER_ROUTER", "direct")  # whether the engine has a router or not
    environment = {**os.environ, "FUNKER_INSECURE": "1", "FUNKER_CONTROL": "127.0.0.1:9"}
    reconciler = subprocess.Popen(
        [sys.executable, "-m", "funker.controller.reconciler"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with swarm.transport(name) as transport:
            for number in (b"1", b"2", b"3"):
                body = b'{"value": %s}' % number
                assert invoke(transport, name, body, deadline=PATIENCE).body == number
    finally:
        reconciler.terminate()
        said = reconciler.communicate(timeout=PATIENCE)[1]
    assert reconciler.returncode == 0
    # Where the engine has a control plane too, its reconciler may have been the faster one.
    assert said.count("started replicas that had ended for good") <= 1, said
    assert said.count("no router answers") == 1, said
