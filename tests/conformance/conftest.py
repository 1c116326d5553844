"""Replicas of the runtime under test, callers and routers to talk to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from funker.rpc.keys import make_keys, parse
from tests.conformance.peers import Dial, Peers, Routed, Start
from tests.conformance.replica import Replica
from tests.conformance.runtimes import RUNTIMES, Runtime
from tests.conformance.wire import Caller, Router


class Nursery:
    """Keeps one plain replica ahead, which starts while another test runs: most want no more."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ahead: Replica | None = None

    def take(self) -> Replica:
        taken = self._ahead or Replica(self._runtime, {})
        self._ahead = Replica(self._runtime, {})
        return taken

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs with each runtime of the table, unless its file says which.

    ISOLATION = "process" in a file: with those of this isolation only. OF_THE_FRONT = True: once
    for each front.
    """
    if "runtime" in metafunc.fixturenames:
        wanted = getattr(metafunc.module, "ISOLATION", None)
        of_the_front = getattr(metafunc.module, "OF_THE_FRONT", False)
        runtimes = [one for one in RUNTIMES if wanted in (None, one.isolation)]
        runtimes = [one for one in runtimes if not (of_the_front and one.borrows_front)]
        ids = [one.id for one in runtimes]
        metafunc.parametrize("runtime", runtimes, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest) -> Runtime:
    runtime: Runtime = request.param
    if missing := runtime.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return runtime


@pytest.fixture(scope="session")
def nursery(runtime: Runtime) -> Iterator[Nursery]:
    nursery = Nursery(runtime)
    yield nursery
    nursery.close()


@pytest.fixture
def start(runtime: Runtime, nursery: Nursery) -> Iterator[Start]:
    """Start a replica: start(FUNKER_TIMEOUT="1s", …). Its environment's variables are given."""
    started: list[Replica] = []

    def begin(*, pass_fds: tuple[int, ...] = (), **variables: str) -> Replica:
        plain = not variables and not pass_fds
        replica = nursery.take() if plain else Replica(runtime, variables, pass_fds)
        started.append(replica)
        return replica

    yield begin
    for replica in started:
        replica.stop()


@pytest.fixture
def replica(start: Start) -> Replica:
    """A plain one."""
    return start()


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.close()


@pytest.fixture
def dial(peers: Peers) -> Dial:
    """Connect another caller: dial(replica)."""
    return peers.caller


@pytest.fixture
def caller(replica: Replica, dial: Dial) -> Caller:
    """A caller of the plain replica."""
    return dial(replica)


@pytest.fixture
def routed(peers: Peers, start: Start, tmp_path: Path) -> Routed:
    """A replica and its router, with keys: routed(FUNKER_TIMEOUT="1s", …)."""

    def begin(*, secure: bool = True, **variables: str) -> tuple[Replica, Router]:
        if not secure:
            router = peers.router()
            return start(FUNKER_ROUTER=router.address, **variables), router
        own, given = make_keys()
        fields = parse(own)
        keys = fields["ROUTER_PUBLIC"].encode(), fields["ROUTER_SECRET"].encode()
        router = peers.router(keys=keys)
        file = tmp_path / "client-key"
        file.write_text(given)
        told = {"FUNKER_ROUTER": router.address, "FUNKER_KEY_FILE": str(file), **variables}
        return start(**told), router

    return begin
