"""Calls through an anchor's container, where there is one on the engine's node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker.errors
import pytest
from docker import DockerClient
from docker.models.containers import Container

from funker.backends.base import NoController
from funker.backends.swarm import attached
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import connect
from funker.backends.swarm.parts import ANCHOR_LABEL
from funker.images import builder
from funker.rpc.client import invoke
from funker.rpc.errors import PayloadTooLarge, ReplicaLost, RouterUnavailable
from funker.rpc.messages import BYTES, MAX_BODY
from funker.spec import FunctionSpec

Names = Callable[..., str]

HANDLER = """
import time

def handle(value=None, *, seconds=0, say=""):
    if say:
        print(say, flush=True)
    time.sleep(seconds)
    return value
"""


@pytest.fixture(scope="module")
def image(
    engine: DockerClient, tmp_path_factory: pytest.TempPathFactory, module_names: Names
) -> builder.Image:
    directory = tmp_path_factory.mktemp("source")
    (directory / "handler.py").write_text(HANDLER)
    name, base = module_names("anchored"), os.environ.get("FUNKER_BASE")
    return builder.build(directory, name=name, base=base, docker=engine, progress=lambda _: None)


@pytest.fixture
def swarm(anchor: Container, monkeypatch: pytest.MonkeyPatch) -> Iterator[Swarm]:
    """The backend, whose relays may not be containers of their own from now on."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a container was made")

    monkeypatch.setattr(attached, "_create", refused)
    connection = connect()
    yield Swarm(connection)
    connection.close()


@pytest.fixture
def anchor(engine: DockerClient, image: builder.Image, name: str, names: Names) -> Container:
    """A container like the control plane's anchor, but without the router's key.

    The newest one counts, so it is this one where the engine has a control plane too.
    """
    connection = connect()
    try:  # this makes the network, if need be
        Swarm(connection).deploy(FunctionSpec(name=name, image=image.id, replicas=1))
    finally:
        connection.close()
    label, _, value = ANCHOR_LABEL.partition("=")
    return engine.containers.run(
        image.id,
        entrypoint=["sleep", "infinity"],
        name=names("anchor"),
        labels={label: value},
        network="funker",
        init=True,
        detach=True,
    )


def test_calls_and_probes_go_through_the_anchor(swarm: Swarm, anchor: Container, name: str) -> None:
    with swarm.transport(name) as transport:
        assert transport.ping(name).state == "idle"
        body = os.urandom(MAX_BODY)
        assert invoke(transport, name, body, BYTES, deadline=60).body == body
        assert invoke(transport, name, b'{"value": 2}', deadline=60).body == b"2"
        processes = anchor.top()["Processes"]
        assert any("funker.rpc.relay" in " ".join(process) for process in processes)
    # It has ended with its stream.
    assert not any("relay" in " ".join(process) for process in anchor.top()["Processes"])


def test_the_limit_of_bodies_is_the_callers_there_too(
    swarm: Swarm, anchor: Container, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNKER_MAX_BODY", str(MAX_BODY + 1000))
    with (
        swarm.transport(name) as transport,
        pytest.raises(PayloadTooLarge, match=str(MAX_BODY)),  # says the replica
    ):
        invoke(transport, name, bytes(MAX_BODY + 500), BYTES, deadline=60)


def test_an_anchor_that_dies_in_a_call_never_says_that_it_is_safe_to_call_again(
    swarm: Swarm, anchor: Container, name: str
) -> None:
    with swarm.transport(name) as transport, ThreadPoolExecutor(1) as pool:
        body = b'{"say": "started", "seconds": 60}'
        call = pool.submit(invoke, transport, name, body, deadline=90)
        with contextlib.closing(swarm.logs(name, follow=True)) as lines:
            assert next(line.text for line in lines) == "started"
        anchor.kill()
        with pytest.raises(ReplicaLost) as caught:
            call.result(20)
        assert caught.value.retry_safe is False
        with pytest.raises(RouterUnavailable) as later:
            invoke(transport, name, b"{}", deadline=10)
        assert later.value.retry_safe


def test_who_asks_for_the_router_is_told_how_to_bring_it_up(
    swarm: Swarm, anchor: Container, engine: DockerClient
) -> None:
    with swarm.controller() as controller, pytest.raises(NoController) as caught:
        controller.query("status")
    assert "funker up" in caught.value.hint
    anchor.remove(force=True)
    if engine.containers.list(filters={"label": ANCHOR_LABEL}):
        return  # that of a control plane
    with pytest.raises(NoController, match="no anchor") as caught, swarm.controller():
        pass
    assert "funker up" in caught.value.hint


def test_an_anchor_on_another_network_is_none(
    swarm: Swarm, anchor: Container, engine: DockerClient, name: str
) -> None:
    for other in engine.containers.list(filters={"label": ANCHOR_LABEL}):
        if other != anchor:
            pytest.skip("the engine has a control plane")
    engine.networks.get("funker").disconnect(anchor)
    with (
        pytest.raises((AssertionError, docker.errors.DockerException), match="a container"),
        swarm.transport(name),
    ):
        pass
