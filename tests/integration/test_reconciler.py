"""The reconciler between a router's process and a fleet: a made-up one, or an engine that isn't."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from funker.backends.base import BackendError, EngineUnavailable, Observed
from funker.controller.link import Link
from funker.controller.reconciler import Reconciler
from funker.rpc.keys import Keys, make_keys, parse, secure
from funker.rpc.messages import Call, Ping, Query, decode, encode
from funker.spec import ScalePolicy
from tests.ports import free_port

PATIENCE = 30.0


class Router:
    """A router's process with its keys, and a client's connection to it."""

    def __init__(self, place, environment):
        self.address, self.control = (f"127.0.0.1:{free_port()}" for _ in range(2))
        router, client = make_keys()
        self.key_file = place / "router-key"
        self.key_file.write_text(router)
        self._own, self._client = parse(router), parse(client)
        self._environment = {
            **environment,
            "FUNKER_LISTEN": f"tcp://{self.address}",
            "FUNKER_CONTROL": f"tcp://{self.control}",
            "FUNKER_ROUTER_KEY_FILE": str(self.key_file),
        }
        self._numbers = itertools.count(1)
        self._context = zmq.asyncio.Context()
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "funker.controller.router"],
            env=self._environment,
            stderr=subprocess.PIPE,
        )
        first = self._process.stderr.readline().decode()
        assert "serving" in first, first + self._process.stderr.read().decode()

    def kill(self):
        self._process.kill()
        self._process.communicate()

    def keys(self):
        """Those of the reconciler: the router's own pair."""
        public, secret = (self._own[f"ROUTER_{which}"].encode() for which in ("PUBLIC", "SECRET"))
        return Keys(router=public, public=public, secret=secret)

    async def status(self):
        """Asked as a client does, until it answers."""
        names = ("ROUTER_PUBLIC", "CLIENT_PUBLIC", "CLIENT_SECRET")
        dealer = self._context.socket(zmq.DEALER)
        try:
            secure(dealer, Keys(*(self._client[name].encode() for name in names)))
            dealer.setsockopt(zmq.RECONNECT_IVL, 10)
            dealer.connect(f"tcp://{self.address}")
            async with asyncio.timeout(PATIENCE):
                await dealer.send_multipart(encode(Query(number=1, what="status")))
                return json.loads(decode(await dealer.recv_multipart()).body)
        finally:
            dealer.close(linger=0)

    @contextlib.asynccontextmanager
    async def caller(self):
        """A client's connection, over which calls are made: await make(function)."""
        names = ("ROUTER_PUBLIC", "CLIENT_PUBLIC", "CLIENT_SECRET")
        dealer = self._context.socket(zmq.DEALER)
        try:
            secure(dealer, Keys(*(self._client[name].encode() for name in names)))
            dealer.connect(f"tcp://{self.address}")
            await dealer.send_multipart(encode(Ping(number=1)))
            assert decode(await dealer.recv_multipart()).kind == "PONG"

            async def make(function):
                call = Call(id=secrets.token_hex(16), function=function, deadline_ms=60_000)
                await dealer.send_multipart(encode(call))

            yield make
        finally:
            dealer.close(linger=0)

    async def until(self, function, **expected):
        """Wait until the status of a function has these values, and return it."""
        found = None
        for _ in range(int(PATIENCE / 0.05)):
            found = (await self.status())["functions"].get(function)
            if found and {key: found[key] for key in expected} == expected:
                return found
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{function} is {found}, not {expected}")

    def close(self):
        self._process.send_signal(signal.SIGTERM)
        assert self._process.communicate(timeout=PATIENCE)[1] == b""
        self._context.term()


class Fleet:
    """Functions that a test makes up. Replicas that ended for good are in `dead`."""

    def __init__(self, *functions):
        self.functions = {function.name: function for function in functions}
        self.dead = {}
        self.revivals = []
        self.failure = None
        self.looks = 0
        self.threads = set()
        #: What it was scaled to, and when; an exception that scaling raises.
        self.scaled = []
        self.refusal = None
        self._changed = threading.Event()

    def observe(self):
        self.threads.add(threading.get_ident())
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return [self.functions[name] for name in sorted(self.functions)]

    def wait(self, seconds):
        self._changed.wait(seconds)
        self._changed.clear()

    def scale(self, name, replicas):
        self.threads.add(threading.get_ident())
        if self.refusal is not None:
            raise self.refusal
        self.scaled.append((name, replicas, time.monotonic()))
        self.put(wanted=replicas, **_fields(self.functions[name], "wanted"))

    def revive(self, name):
        self.threads.add(threading.get_ident())
        self.revivals.append(name)
        if isinstance(number := self.dead.pop(name, 0), Exception):
            raise number
        before = self.functions[name]
        self.put(running=before.running + number, **_fields(before, "running"))
        return number > 0

    def put(self, **fields):
        function = Observed(**fields)
        self.functions[function.name] = function
        self._changed.set()

    def fail(self, failure):
        self.failure = failure
        self._changed.set()


def _fields(function, without):
    names = [field.name for field in dataclasses.fields(function)]
    return {name: getattr(function, name) for name in names if name != without}


class Sayings:
    """What the reconciler says, and waiting for it."""

    def __init__(self):
        self.lines = []
        self._news = asyncio.Event()

    def __call__(self, text):
        self.lines.append(text)
        self._news.set()

    async def hears(self, words):
        """The first line with these words."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [line for line in self.lines if words in line]):
                self._news.clear()
                await self._news.wait()
        return found[0]


@pytest.fixture
def router(tmp_path, environment):
    router = Router(tmp_path, environment)
    yield router
    router.close()


@pytest.fixture
def fleet():
    return Fleet(
        Observed(name="shop_add", names=("add",), wanted=2, running=2, image="add:1", routed=True)
    )


@pytest.fixture
async def said(fleet, router):
    """What a reconciler between the two says, while it runs."""
    sayings = Sayings()
    link = Link(router.control, router.keys())
    running = asyncio.create_task(Reconciler(fleet, link, say=sayings).run())
    yield sayings
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await link.close()


async def test_the_router_learns_which_functions_there_are(said, router, fleet):
    assert await router.until("shop_add", wanted=2, running=2, image="add:1", routed=True)
    fleet.put(name="mul", wanted=1, running=0, image="mul:7", problem="no suitable node")
    await router.until("mul", wanted=1, running=0, image="mul:7", problem="no suitable node")
    await said.hears("no suitable node")  # which comes after the router has answered
    assert said.lines == [
        "sees 1 function: shop_add",
        "mul is new: 1 replica wanted",
        "mul: no suitable node",
    ]
    assert len(fleet.threads) == 1


async def test_replicas_that_ended_for_good_are_started(said, router, fleet):
    fleet.dead["shop_add"] = 1
    fleet.put(**{**_fields(fleet.functions["shop_add"], "running"), "running": 1})
    assert "restart policy" in await said.hears("started replicas")
    await router.until("shop_add", running=2)
    assert fleet.revivals == ["shop_add"]


async def test_a_refusal_to_start_replicas_hinders_nobody_else(said, router, fleet):
    fleet.dead["shop_add"] = BackendError("the service is broken")
    fleet.dead["zip"] = 1
    fleet.put(name="zip", wanted=1, running=0)
    fleet.put(**{**_fields(fleet.functions["shop_add"], "running"), "running": 1})
    assert "the service is broken" in await said.hears("shop_add: its replicas can't be started")
    await said.hears("zip: started replicas")


async def test_a_call_that_finds_no_replica_starts_one_within_milliseconds(said, router, fleet):
    fleet.put(name="mul", wanted=0, running=0, scale=ScalePolicy(min=0, max=9), cores=2)
    await router.until("mul", wanted=0)
    async with router.caller() as call:
        looks = fleet.looks
        called = time.monotonic()
        await call("mul")
        found = await router.until("mul", wanted=1)
        name, replicas, at = fleet.scaled[0]
        assert (name, replicas) == ("mul", 1)
        assert at - called < 0.5  # what is sure on a busy machine: far sooner than any poll
        assert fleet.looks <= looks + 2
        assert found["scaling"]["reason"] == "1 call waits"
        assert found["scaling"]["wanted"] == 1
        # More come while it starts: more are started, and that is one line.
        for _ in range(4):
            await call("mul")
        await router.until("mul", wanted=5)
    await said.hears("mul: 0 → ")


async def test_a_number_that_somebody_sets_is_set_back_and_one_that_cant_be_set_is_said(
    said, router, fleet
):
    policy = {"scale": ScalePolicy(min=2, max=9), "cores": 2}
    fleet.put(name="mul", wanted=2, running=2, **policy)
    await router.until("mul", wanted=2)
    fleet.put(name="mul", wanted=7, running=7, **policy)
    assert "back to 2" in await said.hears("somebody has set its number of replicas to 7")
    await router.until("mul", wanted=2)
    fleet.refusal = BackendError("the service is broken")
    fleet.put(name="mul", wanted=2, running=2, scale=ScalePolicy(min=4, max=9), cores=2)
    await said.hears("mul: its number of replicas can't be set: the service is broken")
    fleet.refusal = None
    await router.until("mul", wanted=4)
    assert [replicas for _, replicas, _ in fleet.scaled] == [2, 4]


async def test_a_router_that_dies_is_missed_once_and_told_all_again(said, router, fleet):
    await router.until("shop_add", wanted=2)
    router.kill()
    assert "no router answers" in await said.hears("no router")
    fleet.put(name="mul", wanted=1, running=1)  # life goes on meanwhile
    await said.hears("mul is new")
    router.start()
    await said.hears("the router answers again")
    await said.hears("the router has restarted")
    await router.until("shop_add", wanted=2)
    await router.until("mul", wanted=1)
    assert sum("no router answers" in line for line in said.lines) == 1


async def test_an_engine_that_is_away_is_missed_once(said, router, fleet):
    await router.until("shop_add", wanted=2)
    fleet.fail(EngineUnavailable("can't reach the engine", hint="Start Docker."))
    assert await said.hears("can't reach") == "can't reach the engine. Start Docker."
    for _ in range(3):
        fleet.fail(fleet.failure)
        await asyncio.sleep(0.3)
    fleet.put(name="mul", wanted=1, running=1)
    fleet.fail(None)
    await said.hears("the engine answers again")
    await router.until("mul", wanted=1)
    assert sum("can't reach" in line for line in said.lines) == 1


async def test_a_link_with_another_key_is_not_heard(router):
    strangers = parse(make_keys()[0])
    public, secret = (strangers[f"ROUTER_{which}"].encode() for which in ("PUBLIC", "SECRET"))
    sayings = Sayings()
    link = Link(router.control, Keys(router=router.keys().router, public=public, secret=secret))
    running = asyncio.create_task(Reconciler(Fleet(), link, say=sayings).run())
    assert "its key is another one" in await sayings.hears("no router answers")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await link.close()


# The process


@pytest.fixture
def start(router, environment):
    """Start the reconciler's process beside the router: start(FUNKER_BACKEND=...)."""
    started = []

    def run(**variables):
        own = {
            "FUNKER_CONTROL": router.control,
            "FUNKER_ROUTER_KEY_FILE": str(router.key_file),
            "DOCKER_HOST": "unix:///nowhere/docker.sock",
        }
        started.append(
            subprocess.Popen(
                # Warnings are no errors here: where nobody listens, docker's client leaves its
                # socket to the garbage collector.
                [sys.executable, "-m", "funker.controller.reconciler"],
                env={**environment, **own, **variables},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_it_says_that_there_is_no_engine_and_goes_on(start):
    process = start()
    assert process.stderr.readline() == "funker-reconciler: started\n"
    assert "can't reach unix:///nowhere/docker.sock" in process.stderr.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.terminate()
    rest = process.communicate(timeout=PATIENCE)[1]
    assert (process.returncode, rest) == (0, "")


def test_sigterm_ends_it_at_once_whatever_the_engine_does(start):
    path = Path(f"/tmp/funker-{secrets.token_hex(4)}.sock")  # a short one
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        try:
            listener.listen()
            listener.settimeout(PATIENCE)
            process = start(DOCKER_HOST=f"unix://{path}")
            connection, _ = listener.accept()  # an engine that hears, and never answers
            with connection:
                process.terminate()
                process.communicate(timeout=5)
        finally:
            path.unlink()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FUNKER_ROUTER_KEY_FILE": "/nowhere/key"}, "no router key in /nowhere/key"),
        ({"FUNKER_BACKEND": "carrier-pigeon"}, "no backend 'carrier-pigeon'"),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "nowhere"}, 'no docker context "nowhere"'),
        ({"FUNKER_CONTROL": "tcp://nowhere"}, "tcp://nowhere is no address"),
    ],
)
def test_a_setting_that_cant_be_used_is_said_in_one_line(start, variables, words):
    process = start(**variables)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert said.startswith("funker-reconciler: ")
    assert words in said
    assert said.count("\n") == 1
