"""The backends under test. What holds on one holds on the other: no test here asks which it is.

The local one has a state directory of its own. The swarm's engine is the one in the environment
(scripts/test sets it); where there is none, its half is skipped, and with CI=true it fails.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from funker.backends.base import Backend, BackendError, ControlPlane, Deployment, Transport
from funker.backends.local.backend import Local
from funker.backends.local.process import remove_tree
from funker.images.source import read_source
from funker.rpc import errors
from funker.rpc.client import decode_value, encode_value, invoke
from funker.spec import FunctionSpec

ACTS = Path(__file__).parent / "acts"
#: Seconds. Proves that something ends; a lone replica takes about one to be replaced.
PATIENCE = 60.0
#: In every name that this run gives away.
RUN = secrets.token_hex(3)

#: The swarm last, so that whoever has no engine hears of it when all else is done.
BACKENDS = ["local", pytest.param("swarm", marks=pytest.mark.swarm)]


class Platform:
    """A backend with its controller up, and what a test does there."""

    def __init__(self, backend: Backend, transport: Transport) -> None:
        self.backend = backend
        self.transport = transport
        self._numbers = itertools.count(1)
        self._given: list[str] = []

    def name(self, stem: str = "acts") -> str:
        """A name that nobody else has. What is deployed under it is removed in the end."""
        self._given.append(f"{stem}-{RUN}-{next(self._numbers):02}")
        return self._given[-1]

    def deploy(self, name: str, **spec: Any) -> Deployment:
        """The function of the directory `acts`, with these fields of its spec."""
        base = os.environ.get("FUNKER_BASE")
        prepared = self.backend.prepare(read_source(ACTS, name=name), base=base)
        return self.backend.deploy(
            FunctionSpec(
                name=name,
                image=prepared.image,
                image_name=prepared.image_name,
                platform=prepared.platform,
                **spec,
            )
        )

    def function(self, name: str) -> Function:
        return Function(name, self)

    def deployed(self, stem: str = "acts", **spec: Any) -> Function:
        """A function of the test's own."""
        name = self.name(stem)
        self.deploy(name, **spec)
        return self.function(name)

    def clear(self) -> None:
        there = {function.name for function in self.backend.functions()}
        # At once: one after the other would take longer than the tests.
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.backend.remove, there.intersection(self._given)))


class Function:
    """A function, by its name, called over the platform's transport."""

    def __init__(self, name: str, platform: Platform) -> None:
        self.name = name
        self.platform = platform

    def __call__(self, value: Any = None, /, **given: Any) -> Any:
        """One call, with options of `invoke` among the handler's keywords."""
        names = ("timeout", "deadline", "idempotent", "cancel")
        options = {k: given.pop(k) for k in names if k in given}
        content_type, body = encode_value(given if value is None else value)
        return self.send(body, content_type, **options)

    def send(self, body: bytes, content_type: str, **options: Any) -> Any:
        """One call with exactly this body."""
        options.setdefault("deadline", PATIENCE)
        result = invoke(self.platform.transport, self.name, body, content_type, **options)
        return decode_value(result.content_type, result.body or b"")

    @contextlib.contextmanager
    def failing(self, expected: type[errors.CallError], *, within: float) -> Iterator[Any]:
        """The body's call raises this error within seconds, and the next call has its answer."""
        self.until_free()  # no start of a replica shall count
        started = time.monotonic()
        with pytest.raises(expected) as caught:
            yield caught
        assert time.monotonic() - started < within
        assert caught.value.function == self.name
        self.serves()

    def serves(self) -> None:
        """Answers a call."""
        number = secrets.randbelow(1000)
        assert self(number=number) == {"number": number}

    def until(self, **counts: int) -> None:
        """Waits until the controller counts so many of its calls or replicas: busy=1."""
        self._wait(lambda status: all(status.get(key) == counts[key] for key in counts), counts)

    def until_free(self) -> None:
        """Waits for a replica that a call would reach at once."""
        self._wait(lambda status: status.get("free", 0) > 0, "a free replica")

    def _wait(self, condition: Callable[[dict[str, Any]], bool], what: object) -> None:
        give_up = time.monotonic() + PATIENCE
        with self.platform.backend.controller() as controller:
            while True:
                status = controller.query("status")["functions"].get(self.name, {})
                if condition(status):
                    return
                assert time.monotonic() < give_up, f"never came to {what}: {status}"
                threading.Event().wait(0.02)


@pytest.fixture(scope="package", params=BACKENDS)
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """Each backend in turn; nothing of this run is left there."""
    opened = {"local": _local, "swarm": _swarm}[request.param]
    with opened() as backend, backend.transport() as transport:
        platform = Platform(backend, transport)
        try:
            yield platform
        finally:
            platform.clear()


@contextlib.contextmanager
def _local() -> Iterator[Backend]:
    # Not in pytest's own directories: their paths are too long for sockets.
    place = Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
    state = {"FUNKER_STATE_DIR": f"{place}/state", "XDG_CACHE_HOME": f"{place}/cache"}
    backend = Local({**kept, **state})
    try:
        backend.up(ControlPlane())
        yield backend
    finally:
        backend.down()
        remove_tree(place)


@contextlib.contextmanager
def _swarm() -> Iterator[Backend]:
    from funker.backends.swarm.backend import Swarm
    from funker.backends.swarm.engine import connect

    reason = os.environ.get("FUNKER_NO_ENGINE", "")
    with contextlib.closing(connect()) as engine:
        backend = Swarm(engine)
        try:
            backend.ready()
        except BackendError as error:
            reason = reason or f"{error.message}; {error.hint}"
        if reason and os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"no engine to test on: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"no engine to test on: {reason}")
        was_up = not backend.up(ControlPlane(base=os.environ.get("FUNKER_BASE", "")))
        yield backend
        if not was_up:
            backend.down()


@pytest.fixture(scope="package")
def function(platform: Platform) -> Function:
    """A function with three replicas, for the tests that change nothing of it."""
    return platform.deployed(replicas=3)


@pytest.fixture(scope="package")
def limited(platform: Platform) -> Function:
    """One with limits of its own, whose handler takes no arguments but those that it names."""
    return platform.deployed(timeout="1s", max_body="1k", handler="handler:strict")


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Start something in a thread; its outcome comes later."""
    with ThreadPoolExecutor(max_workers=32) as threads:
        yield threads.submit
