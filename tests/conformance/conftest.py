"""Replicas of the runtime under test, callers and routers to talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from funker.rpc.keys import make_keys, parse
from tests.conformance.replica import Replica
from tests.conformance.runtimes import RUNTIMES, Runtime
from tests.conformance.wire import Caller, Router

Start = Callable[..., Replica]
Dial = Callable[[Replica], Caller]
Routed = Callable[..., tuple[Replica, Router]]


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


@pytest.fixture(scope="session", params=RUNTIMES, ids=lambda runtime: runtime.id)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each of the table in turn."""
    runtime: Runtime = request.param
    if missing := runtime.missing():
        pytest.skip(missing)
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


class Peers:
    """The callers and routers of one test."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[Caller | Router] = []

    def caller(self, replica: Replica) -> Caller:
        caller = Caller(self._context, replica)
        self._made.append(caller)
        return caller

    def router(self, *, keys: tuple[bytes, bytes] | None = None, port: int = 0) -> Router:
        router = Router(self._context, keys=keys, port=port)
        self._made.append(router)
        return router

    def close(self) -> None:
        for one in self._made:
            one.close()
        self._context.term()


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
