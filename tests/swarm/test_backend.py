"""The swarm backend on a real engine: what deploys make, change, refuse and take away."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from docker import DockerClient
from docker.models.containers import Container
from docker.types import EndpointSpec, RestartPolicy

from funker.backends.base import (
    DeployFailed,
    ImageMissing,
    MissingResource,
    NameTaken,
    NetworkUnusable,
    NoNodeFits,
)
from funker.backends.swarm import entrance, trial
from funker.backends.swarm.attached import RelayContainer
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import connect
from funker.backends.swarm.store import Store
from funker.images import builder
from funker.rpc.client import invoke
from funker.rpc.errors import AmbiguousFunction, FunctionNotFound, ReplicaLost
from funker.rpc.messages import BYTES, MAX_BODY
from funker.spec import FunctionSpec, Network, Secret

Names = Callable[..., str]
Deploy = Callable[..., str]

HANDLER = """
import sys, time

def handle(value=None, *, seconds=0, say="", complain=""):
    if isinstance(value, bytes):
        return value
    if say:
        print(say, flush=True)
    if complain:
        print(complain, file=sys.stderr, flush=True)
    time.sleep(seconds)
    return value
"""


@pytest.fixture
def swarm(engine: DockerClient) -> Iterator[Swarm]:
    """The backend on the engine under test."""
    del engine  # asked for so that there is one
    connection = connect()
    yield Swarm(connection)
    connection.close()


@pytest.fixture(scope="module")
def image(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> builder.Image:
    return _built(engine, tmp_path_factory.mktemp("source"), HANDLER)


@pytest.fixture(scope="module")
def broken(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> builder.Image:
    """An image whose handler can't be loaded."""
    return _built(engine, tmp_path_factory.mktemp("source"), "import no_such_module\n")


def _built(engine: DockerClient, directory: Path, handler: str) -> builder.Image:
    (directory / "handler.py").write_text(handler)
    base = os.environ.get("FUNKER_BASE")
    return builder.build(
        directory, name="backend-test", base=base, docker=engine, progress=lambda _: None
    )


@pytest.fixture
def spec(names: Names, image: builder.Image) -> FunctionSpec:
    """A function that nobody has deployed yet."""
    return FunctionSpec(name=names("f"), image=image.id, image_name=image.tag)


def _service(engine: DockerClient, name: str) -> dict[str, Any]:
    return dict(engine.services.get(name).attrs)


def _running(engine: DockerClient, name: str) -> set[str]:
    """The IDs of the function's tasks that run."""
    tasks = engine.services.get(name).tasks(filters={"desired-state": "running"})
    return {task["ID"] for task in tasks if task["Status"]["State"] == "running"}


def _call(swarm: Swarm, name: str, body: str = "{}") -> bytes:
    with swarm.transport(name) as transport:
        return invoke(transport, swarm.find(name).name, body.encode(), deadline=60).body or b""


# --- deploying -----------------------------------------------------------------------------------


def test_a_deploy_makes_a_service_on_the_network_that_answers(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    said: list[str] = []
    done = swarm.deploy(spec, progress=said.append)
    assert (done.outcome, done.replicas, done.network) == ("created", 1, "funker")
    assert any("1 of 1 replicas up" in line for line in said)
    stored = _service(engine, spec.name)["Spec"]
    template = stored["TaskTemplate"]
    assert template["ContainerSpec"]["Image"] == spec.image
    assert template["RestartPolicy"] == {"Condition": "any", "Delay": 0, "MaxAttempts": 0}
    assert template["ContainerSpec"]["StopGracePeriod"] == 105 * 10**9
    assert template["ContainerSpec"]["DNSConfig"] == {"Options": ["ndots:1"]}
    assert stored["EndpointSpec"] == {"Mode": "dnsrr"}
    assert template["Placement"]["Platforms"]
    (attachment,) = template["Networks"]
    network = engine.networks.get(attachment["Target"])
    assert network.name == "funker"
    assert network.attrs["Attachable"]
    assert _call(swarm, spec.name, '{"value": 3}') == b"3"
    assert swarm.inspect(spec.name)["advice"] == []


def test_the_same_deploy_again_changes_nothing(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    before = _service(engine, spec.name)["Version"], _running(engine, spec.name)
    again = swarm.deploy(spec)
    assert (again.outcome, again.restarted) == ("unchanged", False)
    assert (_service(engine, spec.name)["Version"], _running(engine, spec.name)) == before


def test_labels_and_replicas_change_without_a_restart(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    before = _running(engine, spec.name)
    done = swarm.deploy(spec.changed(labels={"team": "a"}, replicas=2))
    assert (done.outcome, done.restarted) == ("updated", False)
    after = _running(engine, spec.name)
    assert before < after
    assert len(after) == 2
    assert _service(engine, spec.name)["Spec"]["Labels"]["team"] == "a"


def test_a_restart_that_somebody_forced_is_not_undone(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    engine.services.get(spec.name).force_update()
    done = swarm.deploy(spec.changed(labels={"team": "a"}))
    assert not done.restarted
    assert _service(engine, spec.name)["Spec"]["TaskTemplate"]["ForceUpdate"] == 1


def test_another_template_replaces_every_replica(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    before = _running(engine, spec.name)
    done = swarm.deploy(spec.changed(env={"COLOUR": "red"}))
    assert (done.outcome, done.restarted) == ("updated", True)
    assert not _running(engine, spec.name) <= before


def test_deploys_at_the_same_time_all_succeed(swarm: Swarm, spec: FunctionSpec) -> None:
    swarm.deploy(spec)
    wishes = [spec.changed(labels={f"n{number}": "1"}) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = [done.outcome for done in pool.map(swarm.deploy, wishes)]
    assert set(outcomes) <= {"updated", "unchanged"}


def test_a_function_with_no_replicas_is_deployed_with_a_warning(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    done = swarm.deploy(spec.changed(replicas=0))
    assert "nobody answers" in done.warnings[0]
    assert swarm.find(spec.name).wanted == 0


def test_a_read_only_function_still_has_its_scratch_directory(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    swarm.deploy(spec.changed(read_only=True))
    assert _call(swarm, spec.name, '{"value": "up"}') == b"up"


def test_a_new_function_whose_handler_can_t_be_loaded_says_why_and_stays(
    swarm: Swarm, spec: FunctionSpec, broken: builder.Image
) -> None:
    with pytest.raises(DeployFailed, match="no_such_module") as caught:
        swarm.deploy(spec.changed(image=broken.id))
    assert "import no_such_module" in caught.value.traceback
    assert "funker rm" in caught.value.hint
    assert swarm.find(spec.name).wanted == 1
    assert swarm.deploy(spec).outcome == "updated"  # and is repaired by the next deploy


def test_an_update_that_doesn_t_come_up_doesn_t_touch_the_old_version(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec, broken: builder.Image
) -> None:
    swarm.deploy(spec)
    before = _service(engine, spec.name)
    missing = "127.0.0.1:9/none@sha256:" + "0" * 64
    for image, error, why in (
        (broken.id, DeployFailed, "no_such_module"),
        (missing, ImageMissing, "No such image"),
    ):
        with pytest.raises(error, match=why) as caught:
            swarm.deploy(spec.changed(image=image))
        assert caught.value.hint.endswith("that was deployed before still serves.")
        assert _service(engine, spec.name) == before
        assert engine.services.list(filters={"label": f"{trial.LABEL}={spec.name}"}) == []
    assert swarm.deploy(spec).outcome == "unchanged"
    assert _call(swarm, spec.name, '{"value": 1}') == b"1"


def test_a_version_for_which_there_is_no_room_is_rolled_back(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    half = engine.info()["MemTotal"] // 2 - (64 << 20)  # one replica of it fits, three don't
    with pytest.raises(NoNodeFits, match="insufficient resources") as caught:
        swarm.deploy(spec.changed(reserve_memory=half, replicas=3))
    assert caught.value.hint.endswith("that was deployed before is back.")
    assert swarm.deploy(spec).outcome == "unchanged"
    assert _call(swarm, spec.name, '{"value": 1}') == b"1"


def test_trials_of_deploys_that_were_killed_are_removed(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left() -> list[str]:
        filters = {"label": f"{trial.LABEL}={spec.name}"}
        return [str(service.name) for service in engine.services.list(filters=filters)]

    def leave() -> None:
        stored = _service(engine, spec.name)["Spec"]
        none = {"Mode": {"Replicated": {"Replicas": 0}}}  # they would only take time
        store.create(trial.trial_spec(stored, secrets.token_hex(2)) | none)
        assert len(left()) == 1

    swarm.deploy(spec)
    with contextlib.closing(connect()) as connection:
        store = Store(connection)
        leave()
        assert [function.name for function in swarm.functions()].count(left()[0]) == 0
        swarm.deploy(spec.changed(env={"A": "1"}))
        assert left() == []
        leave()
        trial.clear_old(connection)
        assert len(left()) == 1  # its deploy may be under way
        monkeypatch.setattr(trial, "OLD", 0.0)
        trial.clear_old(connection)
        assert left() == []
        leave()
    swarm.remove(spec.name)
    assert left() == []


# --- refusing ------------------------------------------------------------------------------------


def test_a_service_that_is_no_function_keeps_its_name(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    _foreign(engine, spec.name, spec.image, labels={})
    with pytest.raises(NameTaken, match="no function"):
        swarm.deploy(spec)


def test_a_stack_s_function_is_changed_and_removed_through_its_stack_only(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    labels = {"funker.function": "true", "com.docker.stack.namespace": "shop"}
    _foreign(engine, spec.name, spec.image, labels=labels)
    with pytest.raises(NameTaken, match="stack shop") as caught:
        swarm.deploy(spec)
    assert "docker stack deploy" in caught.value.hint
    with pytest.raises(NameTaken, match="stack shop"):
        swarm.remove(spec.name)


def test_a_missing_secret_gets_the_nearest_one(
    swarm: Swarm, engine: DockerClient, names: Names, spec: FunctionSpec
) -> None:
    secret = names("password")
    engine.secrets.create(name=secret, data=b"x")
    wrong = secret.replace("password", "pasword")
    with pytest.raises(MissingResource, match=f"no secret {wrong}") as caught:
        swarm.deploy(spec.changed(secrets=(Secret.parse(wrong),)))
    assert secret in caught.value.hint
    with pytest.raises(FunctionNotFound):
        swarm.find(spec.name)


def test_networks_must_be_there_and_be_the_swarm_s(
    swarm: Swarm, engine: DockerClient, names: Names, spec: FunctionSpec
) -> None:
    bridge = names("bridge")
    with pytest.raises(MissingResource, match=f"no network {bridge}"):
        swarm.deploy(spec.changed(networks=(Network(name=bridge),)))
    engine.networks.create(bridge, driver="bridge")
    with pytest.raises(NetworkUnusable, match="of a single node"):
        swarm.deploy(spec.changed(networks=(Network(name=bridge),)))


def test_an_image_that_the_engine_lacks_is_told_before_anything_is_made(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    with pytest.raises(ImageMissing, match="no image"):
        swarm.deploy(spec.changed(image="sha256:" + "0" * 64, image_name=""))
    with pytest.raises(FunctionNotFound):
        swarm.find(spec.name)


def test_a_wish_for_a_node_that_isn_t_there_is_told_before_anything_is_made(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    with pytest.raises(NoNodeFits, match=r"node\.labels\.disk==ssd"):
        swarm.deploy(spec.changed(constraints=("node.labels.disk==ssd",)))


def test_the_scheduler_s_refusal_is_told_and_what_was_new_is_removed(
    swarm: Swarm, spec: FunctionSpec
) -> None:
    with pytest.raises(NoNodeFits, match="insufficient resources") as caught:
        swarm.deploy(spec.changed(reserve_memory="900g"))
    assert "--reserve-memory" in caught.value.hint
    with pytest.raises(FunctionNotFound):
        swarm.find(spec.name)


# --- finding -------------------------------------------------------------------------------------


def test_short_names_mean_stacks_functions_where_they_are_unique(
    swarm: Swarm, engine: DockerClient, names: Names, image: builder.Image
) -> None:
    stacks = [names("shop"), names("desk")]
    only = names("only")
    price = names("price")
    for stack, short in [(stacks[0], price), (stacks[1], price), (stacks[0], only)]:
        labels = {"funker.function": "true", "com.docker.stack.namespace": stack}
        _foreign(engine, f"{stack}_{short}", image.id, labels=labels)
    assert swarm.find(only).name == f"{stacks[0]}_{only}"
    assert swarm.find(only).stack == stacks[0]
    with pytest.raises(AmbiguousFunction, match=f"{stacks[1]}_{price}, {stacks[0]}_{price}"):
        swarm.find(price)
    with pytest.raises(FunctionNotFound) as caught:
        swarm.find(only[:-1])
    assert only in caught.value.hint


def test_a_service_by_hand_is_a_function_with_advice(
    swarm: Swarm, engine: DockerClient, names: Names, image: builder.Image
) -> None:
    name = names("hand")
    engine.services.create(image.id, name=name, labels={"funker.function": "true"})
    assert name in [status.name for status in swarm.functions()]
    told = swarm.inspect(name)
    lines = [item["lines"] for item in told["advice"]]  # type: ignore[attr-defined]
    assert "stop_grace_period: 105s" in lines
    assert "deploy:\n  restart_policy:\n    condition: any\n    delay: 0s" in lines
    assert "no attachable network" in str(told["warnings"])
    assert swarm.find(name).warnings
    with (
        pytest.raises(NetworkUnusable, match="no network that can be reached") as caught,
        swarm.transport(name),
    ):
        pytest.fail("it can't be reached")
    assert "attachable: true" in caught.value.hint


def test_a_function_on_a_network_of_its_own_is_reached_there(
    swarm: Swarm, engine: DockerClient, names: Names, image: builder.Image
) -> None:
    network = names("own")
    engine.networks.create(network, driver="overlay", attachable=True)
    name = names("f")
    _foreign(
        engine, name, image.id, labels={"funker.function": "true"}, command=None, networks=[network]
    )
    assert _call(swarm, name, '{"value": 7}') == b"7"


# --- logs and removal ----------------------------------------------------------------------------


def test_logs_are_in_order_and_say_who_wrote_them(swarm: Swarm, spec: FunctionSpec) -> None:
    swarm.deploy(spec)
    _call(swarm, spec.name, '{"say": "one"}')
    _call(swarm, spec.name, '{"complain": "two"}')
    _call(swarm, spec.name, '{"say": "three"}')
    lines = list(swarm.logs(spec.name))
    assert [(line.text, line.stream) for line in lines] == [
        ("one", "stdout"),
        ("two", "stderr"),
        ("three", "stdout"),
    ]
    assert len({line.task for line in lines}) == 3
    assert all(line.node and line.replica.startswith(spec.name) for line in lines)
    assert [line.text for line in swarm.logs(spec.name, tail=2)] == ["two", "three"]
    stamped = list(swarm.logs(spec.name, timestamps=True))
    assert [line.time for line in stamped] == sorted(line.time for line in stamped)
    assert all(line.time.endswith("Z") for line in stamped)


def test_logs_can_be_followed(swarm: Swarm, spec: FunctionSpec) -> None:
    swarm.deploy(spec)
    heard = threading.Event()

    def listen() -> None:
        with contextlib.closing(swarm.logs(spec.name, follow=True)) as lines:
            if any(line.text == "now" for line in lines):
                heard.set()

    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(listen)
        _call(swarm, spec.name, '{"say": "now"}')
        listening.result(30)
    assert heard.is_set()


def test_removing_waits_for_the_call_that_runs(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec
) -> None:
    swarm.deploy(spec)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(_call, swarm, spec.name, '{"say": "started", "seconds": 3, "value": 5}')
        with contextlib.closing(swarm.logs(spec.name, follow=True)) as lines:
            assert next(line.text for line in lines) == "started"
        swarm.remove(spec.name)
        assert call.result(30) == b"5"
    filters = {"label": f"com.docker.swarm.service.name={spec.name}", "status": "running"}
    assert engine.containers.list(filters=filters) == []
    with pytest.raises(FunctionNotFound):
        swarm.find(spec.name)


# --- the relay -----------------------------------------------------------------------------------


def test_many_threads_share_one_relay_and_nothing_of_it_remains(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm.deploy(spec.changed(replicas=3))
    made = _relays(monkeypatch)
    with ThreadPoolExecutor(7) as pool, swarm.transport(spec.name) as transport:
        container = engine.containers.get(made[0])
        settings = container.attrs["HostConfig"]
        bodies = [str(number).encode() for number in range(12)]
        answers = pool.map(
            lambda body: invoke(transport, spec.name, body, BYTES, deadline=90).body, bodies
        )
        assert list(answers) == bodies
        gone = pool.submit(_await_removal, container)
    gone.result(30)
    assert settings["LogConfig"]["Type"] == "none"
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["AutoRemove"]


def test_the_largest_body_goes_through_the_relay_and_back(swarm: Swarm, spec: FunctionSpec) -> None:
    swarm.deploy(spec)
    body = os.urandom(MAX_BODY)
    with swarm.transport(spec.name) as transport:
        assert invoke(transport, spec.name, body, BYTES, deadline=60).body == body


def test_a_relay_that_is_killed_in_a_call_never_says_that_it_is_safe_to_call_again(
    swarm: Swarm, engine: DockerClient, spec: FunctionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm.deploy(spec)
    made = _relays(monkeypatch)
    with swarm.transport(spec.name) as transport, ThreadPoolExecutor(1) as pool:
        body = b'{"say": "started", "seconds": 60}'
        call = pool.submit(invoke, transport, spec.name, body, deadline=90)
        with contextlib.closing(swarm.logs(spec.name, follow=True)) as lines:
            assert next(line.text for line in lines) == "started"
        engine.containers.get(made[0]).kill()
        with pytest.raises(ReplicaLost) as caught:
            call.result(20)
    assert caught.value.retry_safe is False


def test_everything_works_through_an_ssh_context(
    engine: DockerClient,
    spec: FunctionSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del engine
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "ssh"
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    # What follows `--` and the host is the command for the far side, which is this one.
    program.write_text(
        '#!/bin/sh\nwhile [ "$1" != "--" ]; do shift; done\nshift 2\n'
        f"export DOCKER_HOST='{host}'\nexec sh -c \"$*\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("DOCKER_HOST")
    subprocess.run(
        ["docker", "context", "create", "far", "--docker", "host=ssh://me@far.example"],
        check=True,
        capture_output=True,
    )
    connection = connect("far")
    try:
        swarm = Swarm(connection)
        assert swarm.deploy(spec).outcome == "created"
        assert _call(swarm, spec.name, '{"value": 3, "say": "far"}') == b"3"
        assert "far" in [line.text for line in swarm.logs(spec.name)]
        swarm.remove(spec.name)
    finally:
        connection.close()


def _await_removal(container: Container) -> None:
    with contextlib.suppress(docker.errors.NotFound):  # it was faster than the question
        container.wait(condition="removed")


def _relays(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills up with the IDs of the relays that are made from now on, anchor or not."""
    made: list[str] = []
    monkeypatch.setattr(entrance, "open_anchored", lambda *_, **__: None)
    start = RelayContainer.__init__

    def remembered(self: RelayContainer, *given: Any, **more: Any) -> None:
        start(self, *given, **more)
        made.append(self.id)

    monkeypatch.setattr(RelayContainer, "__init__", remembered)
    return made


def _foreign(
    engine: DockerClient,
    name: str,
    image: str,
    *,
    labels: dict[str, str],
    command: list[str] | None = None,
    networks: list[str] | None = None,
) -> None:
    """A service that `deploy` didn't make."""
    engine.services.create(
        image,
        command=command,
        name=name,
        labels=labels,
        networks=networks or [],
        endpoint_spec=EndpointSpec(mode="dnsrr"),
        restart_policy=RestartPolicy(condition="any", delay=0),
    )
