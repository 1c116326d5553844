"""The callers' side with a real router, without one, and with replicas that are called directly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

import funker
from funker.rpc import client, direct
from funker.rpc.keys import make_keys
from funker.rpc.messages import (
    Call,
    Cancel,
    Error,
    Ping,
    Pong,
    Query,
    Reply,
    Result,
    decode,
    encode,
)
from funker.rpc.relay import Unpacker, pack
from funker.rpc.sockets import UNWELCOME
from funker.rpc.ways import Ways, open_ways

PATIENCE = 30.0
WORK = """
    import os, time
    from news import tell

    def handle(n=0, wait=False):
        with open("../ledger", "a") as ledger:
            ledger.write(f"{n}\\n")
        tell(f"started {n} {os.getpid()}")
        while wait:
            time.sleep(1)
        return n
"""
#: A program whose names are found without a DNS server: `NAME=HOST:PORT` arguments.
KNOWN = """
import sys
from funker.rpc import direct
known = dict(argument.split("=") for argument in sys.argv[1:])
direct._addresses = lambda name, _: (known[name],) if name in known else ()
"""


class Hub:
    """A router's process, which can be stopped and started, and its key files."""

    def __init__(self, place, environment, endpoint):
        self.endpoint = endpoint
        router, given = make_keys(address=endpoint)
        self.client_file = place / "client-key"
        self.client_file.write_text(given)
        (place / "router-key").write_text(router)
        self.environment = environment | {
            "FUNKER_LISTEN": endpoint,
            "FUNKER_ROUTER_KEY_FILE": str(place / "router-key"),
        }
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "funker.controller.router"],
            env=self.environment,
            stderr=subprocess.PIPE,
        )
        first = self.process.stderr.readline().decode()
        assert "serving" in first, first + self.process.stderr.read().decode()

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None


@pytest.fixture
def hub(tmp_path, environment, monkeypatch, request):
    """A router that this process' calls find by its key file; started by `start`."""
    hub = Hub(tmp_path, environment, getattr(request, "param", None) or f"ipc://{tmp_path}/router")
    monkeypatch.setenv("FUNKER_KEY_FILE", str(hub.client_file))
    monkeypatch.setenv("FUNKER_ROUTER_WAIT", "0.3")
    yield hub
    hub.stop()


@pytest.fixture
def pool(serve, hub, monkeypatch):
    """Start replicas that join the router by their key file, and are found by name directly."""
    known = {}
    found = direct._addresses

    def addresses(name, port):
        return found(name, port) if ":" in name else tuple(known.get(name, ()))

    monkeypatch.setattr(direct, "_addresses", addresses)

    def start(number=1, code=WORK, name="work", **variables):
        variables = {"FUNKER_KEY_FILE": str(hub.client_file), **variables}
        served = [serve(code, name=name, **variables) for _ in range(number)]
        known[name] = [*known.get(name, []), *(one.address for one in served)]
        return served

    return start


def status():
    ways = client._transport("")
    assert isinstance(ways, Ways)
    return ways.query("status")["functions"]


def until(function, **expected):
    """Wait until the router says this of a function."""
    give_up, found = time.monotonic() + PATIENCE, {}
    while time.monotonic() < give_up:
        with contextlib.suppress(funker.RouterUnavailable):  # the client is about to dial
            found = status().get(function, {})
        if {key: found.get(key) for key in expected} == expected:
            return
        time.sleep(0.01)
    raise TimeoutError(f"{found}, not {expected}")


def worker_of(news, n):
    """The process that has started this call, the next one that is told."""
    started, number, pid = news.wait().split()
    assert (started, number) == ("started", str(n))
    return int(pid)


def ledger(served):
    return sorted(int(line) for line in (served.directory.parent / "ledger").read_text().split())


# Both ways


def test_calls_and_questions_go_to_the_router_that_the_key_file_names(pool, hub):
    hub.start()
    (served,) = pool()
    assert [funker.call("work", n=n) for n in range(3)] == [0, 1, 2]
    assert ledger(served) == [0, 1, 2]
    ways = client._transport("")
    assert ways.query("status")["functions"]["work"]["calls"] == 3
    (last,) = ways.query("calls", function="work", limit=1)
    assert ways.query("call", id=last["id"]) == last
    assert ways._direct is None


def test_without_a_router_calls_go_directly_and_only_the_first_one_waits(pool, hub):
    (served,) = pool(2)[:1]
    started = time.monotonic()
    assert funker.call("work", n=1) == 1
    assert time.monotonic() - started >= 0.3
    ways = client._transport("")
    for n in range(2, 5):
        assert ways._routed.run(Call(id=secrets.token_hex(16), function="work")).retry_safe
        assert funker.call("work", n=n) == n
    assert ledger(served) == [1, 2, 3, 4]


def test_a_router_that_comes_later_gets_the_calls_from_then_on(pool, hub):
    (served,) = pool()
    assert funker.call("work", n=1) == 1
    hub.start()
    until("work", free=1)
    assert funker.call("work", n=2) == 2
    assert status()["work"]["calls"] == 1
    assert ledger(served) == [1, 2]


def test_a_router_that_has_gone_while_nobody_called_costs_no_call(pool, hub):
    hub.start()
    (served,) = pool()
    assert funker.call("work", n=1) == 1
    served.next_exit()  # acknowledged, so nothing is held for that router
    hub.stop()
    # The news of its end is on its way to the client's thread.
    routed = client._transport("")._routed
    give_up = time.monotonic() + PATIENCE
    while routed._session._attached:
        assert time.monotonic() < give_up
        time.sleep(0.005)
    assert funker.call("work", n=2) == 2
    assert ledger(served) == [1, 2]


def test_a_call_that_a_router_had_when_it_died_is_not_made_again(pool, hub, news):
    hub.start()
    (served,) = pool()
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(funker.function("work", deadline=4), n=1, wait=True)
        worker_of(news, 1)
        hub.stop()
        with pytest.raises(funker.RouterUnavailable, match="had the call") as caught:
            calling.result(PATIENCE)
    assert not caught.value.retry_safe
    assert ledger(served) == [1]


def test_who_finds_neither_a_router_nor_the_function_is_told_both(pool, hub):
    with pytest.raises(funker.RouterUnavailable) as caught:
        funker.function("nobody", deadline=1)()
    assert "no router at ipc://" in caught.value.message
    assert "directly: no function 'nobody' on this network" in caught.value.message
    assert "funker up" in caught.value.hint
    assert caught.value.retry_safe


def test_a_question_without_a_router_fails_within_seconds(hub):
    ways = open_ways(os.environ)
    started = time.monotonic()
    with pytest.raises(funker.RouterUnavailable, match="no router at"):
        ways.query("status")
    assert time.monotonic() - started < 3
    ways.close()


def test_a_call_with_a_short_deadline_leaves_time_for_the_direct_way(pool, hub, monkeypatch):
    monkeypatch.setenv("FUNKER_ROUTER_WAIT", "30")
    pool()
    assert funker.function("work", deadline=6)(n=1) == 1


# Keys


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("unknown client", "it doesn't know the key"),
        ("no key", "one side has keys and the other has none"),
        ("another router", "breaks off in the handshake"),
    ],
)
def test_a_wrong_key_is_an_error_soon_and_never_a_direct_call(
    pool, hub, tmp_path, monkeypatch, which, says
):
    hub.start()
    pool()
    until("work", free=1)
    right = dict(line.split("=", 1) for line in hub.client_file.read_text().split())
    wrong = dict(line.split("=", 1) for line in make_keys()[1].split())
    if which == "unknown client":
        wrong["ROUTER_PUBLIC"] = right["ROUTER_PUBLIC"]
    elif which == "another router":
        wrong = {**right, "ROUTER_PUBLIC": wrong["ROUTER_PUBLIC"]}
    file = tmp_path / "wrong"
    if which != "no key":
        file.write_text("".join(f"{name}={value}\n" for name, value in wrong.items()))
    monkeypatch.setenv("FUNKER_KEY_FILE", str(file))
    monkeypatch.setenv("FUNKER_ROUTER", hub.endpoint)
    ways = client._transport("")
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(funker.Unauthorized, match=says) as caught:
            funker.call("work", n=1)
        assert time.monotonic() - started < 2
        assert caught.value.retry_safe
        assert "funker-client-key" in caught.value.hint
        with pytest.raises(funker.Unauthorized, match=says):
            ways.query("status")
    assert ways._direct is None


def test_a_refused_caller_is_let_in_when_the_router_has_learnt_its_key(pool, hub, tmp_path):
    known = (tmp_path / "router-key").read_text()
    (own, _), (_, other) = (text.split("CLIENT_PUBLIC=") for text in (known, make_keys()[0]))
    (tmp_path / "router-key").write_text(f"{own}CLIENT_PUBLIC={other}")
    hub.start()
    with pytest.raises(funker.Unauthorized):
        funker.call("work", n=1)
    hub.stop()
    (tmp_path / "router-key").write_text(known)
    hub.start()
    pool()
    until("work", free=1)
    assert funker.call("work", n=1) == 1


def test_a_new_key_file_is_used_without_a_new_process(pool, hub, tmp_path):
    hub.start()
    right = hub.client_file.read_text()
    hub.client_file.write_text("ROUTER_PUBLIC=x\n")
    with pytest.raises(funker.Unauthorized, match="is no key file: it lacks ROUTER_PUBLIC"):
        funker.call("work", n=1)
    hub.client_file.write_text(right)
    pool()
    assert funker.call("work", n=1) == 1


@pytest.mark.parametrize(
    ("which", "says"),
    [("unknown", "it doesn't know the key"), ("another router", "breaks off in the handshake")],
)
def test_a_replica_with_a_wrong_key_says_so_and_serves_direct_calls(
    pool, hub, tmp_path, news, which, says
):
    hub.start()
    other = tmp_path / "other"
    right = dict(line.split("=", 1) for line in hub.client_file.read_text().split())
    wrong = {**dict(line.split("=", 1) for line in make_keys()[1].split()), **right}
    wrong["ROUTER_ADDRESS"] = hub.endpoint
    if which == "another router":
        wrong["ROUTER_PUBLIC"] = zmq.curve_keypair()[0].decode()
    else:
        client_pair = zmq.curve_keypair()
        wrong["CLIENT_PUBLIC"], wrong["CLIENT_SECRET"] = (key.decode() for key in client_pair)
    other.write_text("".join(f"{name}={value}\n" for name, value in wrong.items()))
    (served,) = pool(FUNKER_KEY_FILE=str(other))
    give_up = time.monotonic() + PATIENCE
    while "won't have this replica" not in served.stderr():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert says in served.stderr()
    assert served(n=1) == 1
    assert served.stderr().count("won't have") <= 2  # of one life, and perhaps of the next


def test_a_router_with_another_key_isnt_dialled_without_end(hub, monkeypatch):
    hub.start()
    fields = dict(line.split("=", 1) for line in hub.client_file.read_text().split())
    fields["ROUTER_PUBLIC"] = make_keys()[1].split("=", 1)[1].split()[0]
    hub.client_file.write_text("".join(f"{name}={value}\n" for name, value in fields.items()))
    ways = open_ways(os.environ)
    routed = ways._routed
    give_up = time.monotonic() + PATIENCE
    while routed._hang_ups < UNWELCOME:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    before, until = routed._hang_ups, time.monotonic() + 1.5
    while time.monotonic() < until:
        time.sleep(0.1)
    assert routed._hang_ups - before <= 3
    ways.close()


def test_a_replica_whose_key_file_is_broken_tells_its_callers(pool, hub, tmp_path):
    (tmp_path / "broken").write_text("no key\n")
    (served,) = pool(FUNKER_KEY_FILE=str(tmp_path / "broken"))
    with pytest.raises(funker.InitFailed, match="broken is no key file"):
        served(n=1)


@pytest.mark.parametrize("endpoint", ["ftp://host", "ipc:///" + "x" * 200, "tcp://host"])
def test_an_endpoint_that_is_none_is_an_error(hub, monkeypatch, endpoint):
    monkeypatch.setenv("FUNKER_ROUTER", endpoint)
    with pytest.raises(funker.FunkerError, match="is no address of a router"):
        funker.call("work")


# Ends


@pytest.mark.parametrize("way", ["router", "direct"])
def test_a_cancelled_coroutine_and_a_map_that_is_left_cancel_their_calls(
    pool, hub, news, is_gone, way
):
    if way == "router":
        hub.start()
    pool(2)
    work = funker.function("work", deadline=60)

    async def cancelled():
        calling = asyncio.create_task(work.aio(n=1, wait=True))
        worker = await asyncio.to_thread(worker_of, news, 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        return worker

    assert is_gone(asyncio.run(cancelled()))
    answers = work.map([{"n": 2}, {"n": 3, "wait": True}], concurrency=2)
    assert next(answers) == 2
    worker = {started: int(pid) for _, started, pid in (news.wait().split() for _ in "23")}["3"]
    answers.close()
    assert is_gone(worker)
    assert work(n=4) == 4


CALLER = """
import os, sys, threading
import funker

work = funker.function("work", deadline=60)
"""


@pytest.fixture
def program(hub, environment):
    """Run Python code that knows some functions' addresses: program(code, served, …)."""
    started = []

    def start(code, *functions):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", KNOWN + CALLER + code]
            + [f"{served.name}={served.address}" for served in functions],
            env={
                **environment,
                "FUNKER_KEY_FILE": str(hub.client_file),
                "FUNKER_ROUTER_WAIT": "0.3",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("way", ["router", "direct"])
def test_ctrl_c_stops_the_call(pool, hub, news, is_gone, program, way):
    if way == "router":
        hub.start()
    (served,) = pool()
    process = program("work(n=1, wait=True)", served)
    worker = worker_of(news, 1)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=PATIENCE)[1]
    assert is_gone(worker)


FORKING = """
def calls(numbers):
    for n in numbers:
        assert work(n=n) == n

calls([0])
threads = [threading.Thread(target=calls, args=([10 * t + 1, 10 * t + 2],)) for t in range(6)]
for thread in threads:
    thread.start()
children = []
for c in range(3):
    if (pid := os.fork()) == 0:
        calls([100 + 10 * c, 101 + 10 * c])
        sys.exit(0)
    children.append(pid)
for thread in threads:
    thread.join()
print([os.waitpid(pid, 0)[1] for pid in children])
calls([200])
"""


@pytest.mark.parametrize("way", ["router", "direct"])
def test_a_program_that_has_threads_and_forks_calls_on_both_sides(pool, hub, program, way):
    if way == "router":
        hub.start()
    (served, *_) = pool(3 if way == "router" else 1)
    out, err = program(FORKING, served).communicate(timeout=60)
    assert (out, err) == (b"[0, 0, 0]\n", b"")
    numbers = [0, 200] + [10 * t + i for t in range(6) for i in (1, 2)]
    numbers += [100 + 10 * c + i for c in range(3) for i in (0, 1)]
    assert ledger(served) == sorted(numbers)


def test_a_connection_that_cant_be_kept_ends_its_calls(hub, monkeypatch):
    ways = open_ways(os.environ)
    routed = ways._routed
    failing = zmq.ZMQError(errno.EMFILE)

    def no_more_sockets():
        raise failing

    monkeypatch.setattr(routed, "_dial", no_more_sockets)
    monkeypatch.setattr(routed._session, "_wait", 60.0)
    call = Call(id=secrets.token_hex(16), function="work", deadline_ms=60_000)
    outcome = routed.run(call)  # nobody answers, so it dials again after a while
    assert "can't be kept: Too many open files" in outcome.message
    later = routed.run(call.replace(id=secrets.token_hex(16)))
    assert (later.code, later.retry_safe) == ("router_unavailable", True)
    ways.close()


# The relay


class Relay:
    def __init__(self, environment, *functions):
        code = KNOWN + "from funker.rpc import relay\nrelay.Relay(0, 1).run()"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code]
            + [f"{served.name}={served.address}" for served in functions],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._unpacker = Unpacker()
        self._messages = []

    def ask(self, message):
        """Send, and the next message that comes."""
        self.process.stdin.write(pack(encode(message)))
        self.process.stdin.flush()
        return self.receive()

    def receive(self):
        while not self._messages:
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            assert data, self.process.stderr.read()
            self._messages += [decode(frames) for frames in self._unpacker.feed(data)]
        return self._messages.pop(0)

    def end(self):
        rest, err = self.process.communicate(timeout=PATIENCE)
        assert not rest
        return self.process.returncode, err


@pytest.fixture
def relay(hub, environment):
    started = []

    def start(*functions, **variables):
        variables = {
            "FUNKER_KEY_FILE": str(hub.client_file),
            "FUNKER_ROUTER_WAIT": "0.3",
            **variables,
        }
        started.append(Relay({**environment, **variables}, *functions))
        return started[-1]

    yield start
    for talk in started:
        talk.process.kill()
        talk.process.communicate()


def a_call(**fields):
    return Call(
        **{"id": secrets.token_hex(16), "function": "work", "deadline_ms": 30_000, "body": b"{}"}
        | fields
    )


def test_a_relay_carries_calls_cancellations_and_questions_to_the_router(pool, hub, news, relay):
    hub.start()
    pool()
    talk = relay()  # knows no addresses: so it isn't called directly
    result = talk.ask(a_call(body=b'{"n": 5}'))
    assert isinstance(result, Result)
    assert result.body == b"5"
    reply = talk.ask(Query(number=77, what="status"))
    assert (reply.number, reply.error) == (77, "")
    assert json.loads(reply.body)["functions"]["work"]["calls"] == 1
    worker_of(news, 5)
    call = a_call(body=b'{"n": 6, "wait": true}')
    talk.process.stdin.write(pack(encode(call)))
    talk.process.stdin.flush()
    worker_of(news, 6)
    cancelled = talk.ask(Cancel(id=call.id))
    assert (cancelled.id, cancelled.code) == (call.id, "cancelled")
    assert talk.end() == (0, b"")


def test_a_relay_probes_replicas_itself_and_does_without_a_router(pool, hub, relay, peer):
    (served,) = pool()
    peer(served).state("idle")
    talk = relay(served)
    pong = talk.ask(Ping(number=3, function="work"))
    assert isinstance(pong, Pong)
    assert (pong.number, pong.state) == (3, "idle")
    assert talk.ask(a_call(body=b'{"n": 5}')).body == b"5"
    reply = talk.ask(Query(number=4, what="status"))
    assert isinstance(reply, Reply)
    assert (reply.number, reply.body) == (4, None)
    assert "no router at ipc://" in reply.error
    assert talk.end() == (0, b"")


def test_a_relay_without_a_key_answers_questions_with_that(pool, relay, tmp_path):
    talk = relay(FUNKER_KEY_FILE=str(tmp_path / "none"))
    reply = talk.ask(Query(number=4, what="status"))
    assert "no router is known" in reply.error
    assert talk.end() == (0, b"")


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({"FUNKER_KEY_FILE": "/dev/null"}, "unauthorized", "is no key file"),
        ({"FUNKER_ROUTER": "host:"}, "router_unavailable", "FUNKER_ROUTER: expected HOST:PORT"),
    ],
)
def test_a_relay_that_is_set_up_wrongly_says_so_to_each_call(relay, variables, code, says):
    talk = relay(**variables)
    for _ in range(2):
        call = a_call()
        error = talk.ask(call)
        assert isinstance(error, Error)
        assert (error.id, error.code, error.retry_safe) == (call.id, code, True)
        assert says in error.message
    assert says in talk.ask(Query(number=1, what="status")).error
    assert talk.end() == (0, b"")
