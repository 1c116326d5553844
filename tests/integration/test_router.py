"""Calls through a real router: its keys, its deaths, and everybody else's."""

from __future__ import annotations

import collections
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
import zmq

import funker
from funker.rpc.keys import Keys, secure
from funker.rpc.messages import (
    MAX_HEADER,
    PROTOCOL,
    Accept,
    Ack,
    Bye,
    Call,
    Demand,
    Error,
    Ping,
    Pong,
    Query,
    Ready,
    Reply,
    Result,
    Snapshot,
    decode,
    encode,
)
from tests.ports import free_port

PATIENCE = 30.0
WORK = """
    import os, time
    from news import tell

    def handle(n, wait_for="", size=0):
        with open("../ledger", "a") as ledger:
            ledger.write(f"{n}\\n")
        print("working on", n)
        tell(f"started {n}")
        while wait_for and not os.path.exists("../" + wait_for):
            time.sleep(0.005)
        tell(f"ended {n}")
        return n if not size else "x" * size
"""
QUIET = "def handle(**kwargs): return kwargs"


class Hub:
    """A router's process with its keys, and what a client needs to speak to it."""

    def __init__(self, place, environment, **variables):
        self.address = f"127.0.0.1:{free_port()}"
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 4096)
        router, client = zmq.curve_keypair(), zmq.curve_keypair()
        self.keys = Keys(router[0], *client)
        self.own_keys = Keys(router[0], *router)
        self.control = f"ipc://{place}/control"
        self.client_file = _key_file(
            place / "client-key",
            ROUTER_PUBLIC=router[0],
            CLIENT_PUBLIC=client[0],
            CLIENT_SECRET=client[1],
        )
        router_file = _key_file(
            place / "router-key",
            ROUTER_PUBLIC=router[0],
            ROUTER_SECRET=router[1],
            CLIENT_PUBLIC=client[0],
        )
        self.variables = {"FUNKER_ROUTER": self.address, "FUNKER_KEY_FILE": str(self.client_file)}
        self._environment = {
            **environment,
            "FUNKER_LISTEN": f"tcp://{self.address}",
            "FUNKER_CONTROL": self.control,
            "FUNKER_ROUTER_KEY_FILE": str(router_file),
            **variables,
        }
        self._guests = []
        self.start()
        self._guest = self.guest()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "funker.controller.router"],
            env=self._environment,
            stderr=subprocess.PIPE,
        )
        first = self.process.stderr.readline().decode()
        assert "serving" in first, first + self.process.stderr.read().decode()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=PATIENCE)[1].decode()
        assert not rest, rest
        return self.process.returncode

    def guest(self, keys=None, name=None):
        return self.stranger(keys or self.keys, name)

    def stranger(self, keys, name=None, endpoint=None):
        where = endpoint or f"tcp://{self.address}"
        self._guests.append(Guest(self.context, where, keys, name))
        return self._guests[-1]

    def reconciler(self):
        return self.stranger(self.own_keys, endpoint=self.control)

    def learn(self, **functions):
        """A snapshot of the reconciler, and the status that it is answered with."""
        guest = self.reconciler()
        guest.send(Snapshot(number=1, body=json.dumps({"functions": functions}).encode()))
        return json.loads(guest.receive(Reply).body)

    def ask(self, what, **fields):
        return self._guest.ask(what, **fields)

    def until(self, function, **expected):
        """Wait until the status of a function has these values, and return it."""
        give_up = time.monotonic() + PATIENCE
        status = None
        while time.monotonic() < give_up:
            status = self.ask("status")["functions"].get(function)
            if status and {key: status[key] for key in expected} == expected:
                return status
            self._guest.socket.poll(10)
        raise TimeoutError(f"{function}: {status}, not {expected}")

    def close(self):
        if self.process.poll() is None:
            self.stop()
        for guest in self._guests:
            guest.close()
        self.context.term()


class Guest:
    """A bare DEALER at the router: a caller, a replica, or nobody."""

    def __init__(self, context, endpoint, keys, name):
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, name or b"G" + secrets.token_bytes(8))
        self.socket.setsockopt(zmq.RECONNECT_IVL, 10)
        secure(self.socket, keys)
        self.monitor = self.socket.get_monitor_socket()
        self.socket.connect(endpoint)
        self._numbers = itertools.count(1)

    def send(self, message):
        self.socket.send_multipart(encode(message))

    def receive(self, *kinds):
        give_up = time.monotonic() + PATIENCE
        while self.socket.poll(max(0, int((give_up - time.monotonic()) * 1000))):
            message = decode(self.socket.recv_multipart())
            if not kinds or isinstance(message, kinds):
                return message
        raise TimeoutError(f"no {' or '.join(kind.kind for kind in kinds)}")

    def ask(self, what, **fields):
        """Ask until there is an answer: what was sent to a router that died is lost with it."""
        for number in itertools.islice(self._numbers, 100):
            self.send(Query(number=number, what=what, **fields))
            while self.socket.poll(300):
                reply = decode(self.socket.recv_multipart())
                if isinstance(reply, Reply) and reply.number == number:
                    return json.loads(reply.body)
        raise TimeoutError("the router doesn't answer")

    def stands(self):
        self.send(Ping(number=0))
        self.send(Ping(number=0, echo=self.receive(Pong).stamp))
        self.receive(Pong)

    def happens(self, *events):
        """Wait for one of these events of the connection."""
        from zmq.utils.monitor import recv_monitor_message

        while self.monitor.poll(int(PATIENCE * 1000)):
            event = recv_monitor_message(self.monitor)["event"]
            if event in events:
                return event
        raise TimeoutError(f"none of {events}")

    def ready(self, function, session=None, **fields):
        session = session or secrets.token_hex(16)
        replica = f"{function}.guest"
        self.send(Ready(function=function, replica=replica, session=session, **fields))
        return session

    def serves(self, body=b"1"):
        """As a replica: hears a call and answers it."""
        call = self.receive(Call)
        self.send(Accept(id=call.id))
        self.send(Result(id=call.id, body=body))
        return call

    def calls(self, function, body=b"{}", **fields):
        """As a caller: make a call."""
        fields = {"id": secrets.token_hex(16), "deadline_ms": 20_000} | fields
        self.send(Call(function=function, body=body, **fields))
        return fields["id"]

    def close(self):
        if not self.socket.closed:
            self.socket.disable_monitor()
            self.monitor.close()
            self.socket.close(linger=0)


def _key_file(path, **keys):
    path.write_text("".join(f"{name}={key.decode()}\n" for name, key in keys.items()))
    return path


@pytest.fixture
def hub(tmp_path, environment, monkeypatch):
    """A router, to which this process' calls go."""
    hub = Hub(tmp_path, environment)
    for name, value in hub.variables.items():
        monkeypatch.setenv(name, value)
    yield hub
    hub.close()


@pytest.fixture
def pool(serve, hub):
    """Start replicas of one function that join the router: pool(2)."""

    def start(number=1, code=WORK, name="work"):
        return [serve(code, name=name, **hub.variables) for _ in range(number)]

    return start


@pytest.fixture
def threads():
    with ThreadPoolExecutor(32) as threads:
        yield threads


@pytest.fixture
def caller(hub, environment):
    """Start a process that makes one call and prints the answer: caller(n=1)."""
    code = "import funker, json, sys; print(funker.call('work', **json.loads(sys.argv[1])))"
    started = []

    def start(**arguments):
        started.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", code, json.dumps(arguments)],
                env={**environment, **hub.variables},
                stdout=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def work(**options):
    return funker.function("work", deadline=60, **options)


def ledger(replicas):
    text = (replicas[0].directory.parent / "ledger").read_text()
    return collections.Counter(int(line) for line in text.split())


def go(replicas, name="go"):
    (replicas[0].directory.parent / name).touch()


def once(numbers):
    return collections.Counter(numbers)


# Calls


def test_calls_through_the_router_are_answered_and_run_once(pool, hub, threads):
    replicas = pool(3)
    assert list(threads.map(lambda n: work()(n=n), range(40))) == list(range(40))
    assert ledger(replicas) == once(range(40))
    assert {replica.next_exit().status for replica in replicas} == {0}
    status = hub.until("work", queued=0)
    assert (status["calls"], status["errors"]) == (40, 0)


def test_a_replica_with_slots_runs_as_many_calls_at_once_and_stays(serve, hub, threads):
    code = "import os, time\ndef handle(n): time.sleep(0.01); return [n, os.getpid(), time.time()]"
    slots = {"FUNKER_ISOLATION": "process", "FUNKER_SLOTS": "3"}
    served = serve(code, name="work", **slots, **hub.variables)
    answers = list(threads.map(lambda n: work()(n=n), range(100)))
    assert [n for n, _, _ in answers] == list(range(100))
    assert len({pid for _, pid, _ in answers}) == 100
    status = hub.until("work", queued=0, busy=0, free=1)
    assert (status["calls"], status["errors"]) == (100, 0)
    (replica,) = status["replicas"]
    assert (status["slots"], replica["residue"] != "") == (3, True)
    # One that is told to leave takes no more, and the next one does.
    os.kill(served.front, signal.SIGTERM)
    assert [work()(n=n)[0] for n in range(5)] == list(range(5))
    assert served.next_exit().status == 0


def test_an_error_comes_with_its_traceback_and_output(pool):
    pool(code="def handle(x):\n        print('printed')\n        return 1 / x")
    with pytest.raises(funker.FunctionError, match="ZeroDivisionError") as caught:
        work()(x=0)
    assert "return 1 / x" in caught.value.traceback
    assert "printed" in caught.value.output_tail
    assert caught.value.replica


def test_a_call_waits_for_a_replica_and_ends_by_its_deadline(pool, hub, news, threads):
    replicas = pool()
    first = threads.submit(work(), n=1, wait_for="go")
    assert news.wait() == "started 1"
    with pytest.raises(funker.DeadlineExceeded, match="in the queue; 1 replicas") as caught:
        funker.function("work", deadline=0.5)(n=2)
    assert caught.value.retry_safe
    go(replicas)
    assert first.result() == 1
    assert ledger(replicas) == {1: 1}


def test_a_function_that_cant_load_tells_its_callers_why(pool):
    pool(code="import nothing_like_this")
    with pytest.raises(funker.InitFailed, match="nothing_like_this") as caught:
        work()(n=1)
    assert caught.value.retry_safe


def test_a_cancelled_call_is_stopped(pool, hub, news, is_gone, threads):
    (served,) = pool()
    cancel = threading.Event()
    calling = threads.submit(work()._call, {"n": 1, "wait_for": "never"}, {}, cancel)
    assert news.wait() == "started 1"
    worker = served.worker
    cancel.set()
    with pytest.raises(funker.Cancelled):
        calling.result()
    assert is_gone(worker)
    assert work()(n=2) == 2


def test_large_bodies_pass_both_ways(pool):
    pool(code="def handle(body): return body")
    body = os.urandom(8 << 20)
    assert work()(body) == body


def test_a_direct_call_and_a_routed_one_share_a_replica(pool, hub, news, threads):
    (served,) = replicas = pool()
    hub.until("work", free=1)
    direct = threads.submit(served, n=1, wait_for="go")
    assert news.wait() == "started 1"
    routed = threads.submit(work(), n=2)
    hub.until("work", queued=1, free=0)
    go(replicas)
    assert (direct.result(), routed.result()) == (1, 2)


# Keys


@pytest.mark.parametrize("which", ["none", "unknown client", "another router"])
def test_without_the_right_keys_nobody_answers(hub, which):
    stranger = Keys(hub.keys.router, *zmq.curve_keypair())
    if which == "another router":
        stranger = hub.keys._replace(router=zmq.curve_keypair()[0])
    guest = hub.stranger(None if which == "none" else stranger)
    guest.send(Ping(number=1))
    guest.send(Query(number=2, what="status"))
    guest.happens(
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_DISCONNECTED,
    )
    assert not guest.socket.poll(300)
    assert hub.ask("status")["functions"] == {}


def test_a_call_with_the_wrong_key_ends_at_once(hub, pool, tmp_path, monkeypatch):
    pool()
    hub.until("work", free=1)
    public, secret = zmq.curve_keypair()
    wrong = _key_file(
        tmp_path / "wrong", ROUTER_PUBLIC=hub.keys.router, CLIENT_PUBLIC=public,
        CLIENT_SECRET=secret,
    )  # fmt: skip
    monkeypatch.setenv("FUNKER_KEY_FILE", str(wrong))
    with pytest.raises(funker.Unauthorized, match="it doesn't know the key") as caught:
        work()(n=1)
    assert caught.value.retry_safe
    assert hub.until("work", free=1)["calls"] == 0


# A router that dies


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_router_that_dies_costs_its_callers_nothing_but_time(pool, hub, news, threads, number):
    replicas = pool(3)
    hub.until("work", free=3)
    running = [threads.submit(work(), n=n, wait_for="later") for n in (0, 1)]
    finishing = [threads.submit(work(), n=2, wait_for="soon")]
    assert {news.wait() for _ in range(3)} == {"started 0", "started 1", "started 2"}
    queued = [threads.submit(work(), n=n) for n in range(3, 10)]
    hub.until("work", queued=7)
    assert hub.stop(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    go(replicas, "soon")
    assert news.wait() == "ended 2"  # nobody is there to hear it
    late = [threads.submit(work(), n=n) for n in (10, 11)]
    hub.start()
    assert [call.result(PATIENCE) for call in finishing] == [2]
    assert [call.result(PATIENCE) for call in queued] == list(range(3, 10))
    assert [call.result(PATIENCE) for call in late] == [10, 11]
    go(replicas, "later")
    assert [call.result(PATIENCE) for call in running] == [0, 1]
    assert ledger(replicas) == once(range(12))


def test_a_router_that_dies_again_and_again_loses_no_call(pool, hub, threads):
    replicas = pool(3)
    calls = [threads.submit(work(), n=n) for n in range(30)]
    answered = as_completed(calls, PATIENCE)
    for _ in range(3):
        for _ in range(5):
            next(answered)
        hub.stop(signal.SIGKILL)
        hub.start()
    assert [call.result(PATIENCE) for call in calls] == list(range(30))
    assert ledger(replicas) == once(range(30))


def test_a_router_that_is_asked_to_stop_does_so_at_once(hub):
    started = time.monotonic()
    assert hub.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 3


def test_a_router_without_keys_says_how_they_are_made(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "funker.controller.router"],
        env={**environment, "FUNKER_ROUTER_KEY_FILE": str(tmp_path / "none")},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert b"no router key" in done.stderr
    assert b"funker up" in done.stderr


# Replicas that die


def test_a_replica_that_dies_before_its_call_costs_nothing(pool, hub):
    (dead,) = pool()
    hub.until("work", free=1)
    dead.restarts = False
    os.kill(dead.front, signal.SIGKILL)
    dead.next_exit()
    pool()
    assert work()(n=1) == 1
    assert ledger([dead]) == {1: 1}


def test_many_replicas_that_are_gone_are_passed_over(pool, hub):
    guests = [hub.guest() for _ in range(150)]
    for guest in guests:
        guest.ready("work")
    hub.until("work", free=150)
    for guest in guests:
        guest.close()
    calling = pool()
    # Idempotent: the router may write to a connection whose end it hasn't seen yet, and then
    # nobody could say that the call didn't run.
    assert work(idempotent=True)(n=1) == 1
    assert ledger(calling) == {1: 1}


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_replica_that_is_killed_with_its_call_is_lost(pool, hub, news, threads, idempotent):
    replicas = pool(2, code=WORK.replace('f"started {n}"', "os.getppid()"))
    hub.until("work", free=2)
    calling = threads.submit(work(idempotent=idempotent), n=1, wait_for="go")
    front = int(news.wait())
    (served,) = [replica for replica in replicas if replica.front == front]
    served.restarts = False
    killed = time.monotonic()
    os.kill(served.front, signal.SIGKILL)
    if idempotent:
        assert int(news.wait()) != front
        go(replicas)
        assert calling.result() == 1
        assert ledger(replicas) == {1: 2}
    else:
        with pytest.raises(funker.ReplicaLost, match="may have run") as caught:
            calling.result()
        assert not caught.value.retry_safe
        assert ledger(replicas) == {1: 1}
    assert time.monotonic() - killed < 6


def test_replicas_that_are_told_to_leave_lose_no_call(pool, threads):
    replicas = pool(3)
    done = threading.Event()

    def tell_them_to_leave():
        for n in itertools.count():
            if done.wait(0.3):
                return
            try:
                os.kill(replicas[n % 3].front, signal.SIGTERM)
            except ProcessLookupError:
                continue

    leaving = threads.submit(tell_them_to_leave)
    try:
        answers = list(threads.map(lambda n: work()(n=n), range(30)))
    finally:
        done.set()
    leaving.result()
    assert answers == list(range(30))
    assert ledger(replicas) == once(range(30))


def test_a_duplicate_ready_is_one_replica(hub, threads):
    guest = hub.guest(name=b"R1")
    session = guest.ready("work")
    guest.ready("work", session)
    hub.until("work", free=1)
    calls = [threads.submit(funker.function("work", deadline=20), n=n) for n in (1, 2)]
    call = guest.receive(Call)
    hub.until("work", queued=1, free=0)
    assert not guest.socket.poll(0)
    guest.send(Accept(id=call.id))
    guest.send(Result(id=call.id, body=call.body))
    call = guest.receive(Call)
    guest.send(Accept(id=call.id))
    guest.send(Result(id=call.id, body=call.body))
    assert [call.result() for call in calls] == [{"n": 1}, {"n": 2}]


def test_a_call_that_crosses_a_bye_goes_to_the_next_replica(hub, pool, threads):
    guest = hub.guest(name=b"R1")
    session = guest.ready("work")
    hub.until("work", free=1)
    calling = threads.submit(work(), n=1)
    call = guest.receive(Call)
    assert call.session == session
    guest.send(Bye(replica="work.guest", session=session))
    assert guest.receive(Ack).id == session
    replicas = pool()
    assert calling.result() == 1
    assert ledger(replicas) == {1: 1}


def test_two_callers_and_one_replica_take_turns(hub):
    ann, bob, replica = hub.guest(), hub.guest(), hub.guest(name=b"R1")
    ann.stands()
    bob.stands()
    replica.ready("work")
    ids = []
    for n in range(10):
        ids.append((ann, bob)[n % 2].calls("work"))
        hub.until("work", queued=n, busy=1)
    for n, id in enumerate(ids):
        caller = (ann, bob)[n % 2]
        caller.stands()
        assert replica.serves(id.encode()).id == id
        answer = caller.receive(Result)
        assert (answer.id, answer.body.decode()) == (id, id)


def test_a_call_that_is_sent_again_and_again_runs_once(hub):
    caller, replica = hub.guest(), hub.guest(name=b"R1")
    caller.stands()
    replica.ready("work")
    id = caller.calls("work")
    assert not replica.receive(Call).resend
    for _ in range(3):
        caller.calls("work", id=id, resend=True)
        question = replica.receive(Call)
        assert (question.id, question.resend, question.body) == (id, True, None)
    replica.send(Accept(id=id))
    replica.send(Result(id=id, body=b"1"))
    assert caller.receive(Result).id == id
    caller.send(Ack(id=id))
    assert replica.receive(Ack).id == id
    caller.calls("work", id=id)
    caller.ask("status")
    assert not replica.socket.poll(0)


def test_an_answer_that_nobody_acknowledges_is_acknowledged_at_the_deadline(hub):
    caller, replica = hub.guest(), hub.guest(name=b"R1")
    caller.stands()
    replica.ready("work")
    id = caller.calls("work", deadline_ms=300)
    replica.serves()
    assert caller.receive(Result).id == id
    assert replica.receive(Ack).id == id
    assert hub.until("work", calls=1)["errors"] == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        [b"RESULT", b'{"id":"ID"}', b"1"],
        [b"RESULT", b'{"id":"%s"', b"1"],
        [b"RESULT", b'{"id":"%s","times":{"run":-1}}', b"1"],
        [b"RESULT", b'{"id":"%s"} {"id":"%s"}', b"1"],
        [b"RESULT", b'{"replica":"%s"}', b"1"],
        [b"RESULT", b'{"id":"%s"}', b"1", b"2"],
        [b"ACCEPT", b'{"id":"%s","replica":7}'],
        [b"ACCEPT", b'{"id":"%s"}', b"body"],
    ],
)
def test_a_replica_that_talks_nonsense_is_told_so_and_its_caller_isnt_bothered(hub, nonsense):
    caller, replica = hub.guest(), hub.guest(name=b"R1")
    caller.stands()
    replica.ready("work")
    id = caller.calls("work")
    assert replica.receive(Call).id == id
    replica.socket.send_multipart([frame.replace(b"%s", id.encode()) for frame in nonsense])
    assert replica.receive(Error).code == "protocol_error"
    replica.send(Result(id=id, body=b"right"))
    assert caller.receive(Accept, Result, Error) == Result(id=id, body=b"right")


def test_many_waiting_calls_with_large_bodies_are_bounded_and_hold_nobody_up(tmp_path, environment):
    number, body = 1000, os.urandom(128 << 10)
    limit = (2 * number - 1) * (len(body) + 200)  # a queue may have as much as is left
    hub = Hub(tmp_path, environment, FUNKER_QUEUE_BYTES=str(limit))
    try:
        caller, replica, other = hub.guest(), hub.guest(name=b"R1"), hub.guest(name=b"R2")
        caller.stands()
        ids = [caller.calls("work", body, deadline_ms=60_000) for _ in range(number)]
        hub.until("work", queued=number)
        refused = [caller.calls("work", body) for _ in range(3)]
        errors = {error.id: error for error in (caller.receive(Error) for _ in refused)}
        assert {(errors[id].code, errors[id].retry_safe) for id in refused} == {
            ("queue_full", True)
        }
        other.ready("small")
        caller.stands()
        small = caller.calls("small")
        assert other.serves().id == small
        assert caller.receive(Result).id == small
        replica.ready("work")
        for id in ids:
            caller.stands()
            call = replica.serves(body)
            assert (call.id, call.body) == (id, body)
            assert caller.receive(Result).id == id
            caller.send(Ack(id=id))
        hub.until("work", queued=0, queued_bytes=0, busy=0)
    finally:
        hub.close()


# Callers that die


def test_what_a_dead_caller_has_queued_is_not_run_and_what_runs_is_stopped(
    pool, hub, news, caller, is_gone
):
    (served,) = replicas = pool()
    running = caller(n=1, wait_for="never")
    assert news.wait() == "started 1"
    worker = served.worker
    waiting = caller(n=2)
    hub.until("work", queued=1)
    running.kill()
    waiting.kill()
    assert is_gone(worker)
    hub.until("work", queued=0, busy=0)
    assert work()(n=3) == 3
    assert ledger(replicas) == {1: 1, 3: 1}


def test_a_process_that_ends_right_after_its_answer_has_acknowledged_it(pool, caller):
    (served,) = pool()
    for n in range(5):
        assert caller(n=n).communicate(timeout=PATIENCE)[0] == f"{n}\n".encode()
        answered = time.monotonic()
        assert served.next_exit().status == 0
        assert time.monotonic() - answered < 5


def test_a_reader_that_stalls_for_seconds_holds_nobody_up_and_is_answered(pool, hub, news, caller):
    replicas = pool(2)
    stalled = caller(n=1, wait_for="go", size=8 << 20)
    assert news.wait() == "started 1"
    stalled.send_signal(signal.SIGSTOP)
    go(replicas)
    assert news.wait() == "ended 1"
    until, n = time.monotonic() + 5, 2
    while time.monotonic() < until:
        assert work()(n=n) == n
        n += 1
    stalled.send_signal(signal.SIGCONT)
    assert len(stalled.communicate(timeout=PATIENCE)[0]) == (8 << 20) + 1
    assert ledger(replicas) == once(range(1, n))


def test_a_stalled_callers_queued_call_is_not_run_before_it_is_back(pool, hub, news, caller):
    replicas = pool()
    first = caller(n=1, wait_for="go")
    assert news.wait() == "started 1"
    stalled = caller(n=2)
    hub.until("work", queued=1)
    stalled.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        hub.ask("status")
    go(replicas)
    assert first.communicate(timeout=PATIENCE)[0] == b"1\n"
    assert work()(n=3) == 3
    assert ledger(replicas) == once([1, 3])
    stalled.send_signal(signal.SIGCONT)
    assert stalled.communicate(timeout=PATIENCE)[0] == b"2\n"
    assert ledger(replicas) == once([1, 2, 3])


# What it knows


def test_the_status_shows_replicas_and_their_calls(pool, hub, news, threads):
    replicas = pool(2)
    status = hub.until("work", free=2)
    assert {replica["state"] for replica in status["replicas"]} == {"free"}
    calling = threads.submit(work(), n=1, wait_for="go")
    news.wait()
    status = hub.until("work", free=1, busy=1)
    (busy,) = [replica for replica in status["replicas"] if replica["calls"]]
    (id,) = busy["calls"]
    call = hub.ask("call", id=id)
    # The replica says a moment after the start that it has started.
    assert (call["id"], call["function"]) == (id, "work")
    assert call["outcome"] in ("sent", "running")
    assert hub.ask("calls") == []
    go(replicas)
    calling.result()
    whole = hub.ask("status")
    assert len(whole["epoch"]) == 16
    assert whole["uptime_s"] >= 0


def test_what_became_of_a_call_is_known_with_what_it_printed(pool, hub, threads):
    (served,) = pool()
    before = time.time()
    assert work()(n=7) == 7
    served.next_exit()
    give_up = time.monotonic() + PATIENCE
    while not (last := hub.ask("calls", function="work"))[0]["output"]:
        assert time.monotonic() < give_up
    (record,) = last
    assert record["output"] == "working on 7\n"
    assert (record["outcome"], record["function"], record["attempt"]) == ("ok", "work", 1)
    assert before <= record["at"] <= time.time()
    assert record["run_ms"] >= 0
    assert hub.ask("call", id=record["id"]) == record
    assert hub.ask("call", id="0" * 32) is None
    assert hub.ask("calls", function="other") == []


def test_a_snapshot_tells_names_and_is_answered_with_the_status(hub, threads):
    guest = hub.guest(name=b"R1")
    guest.ready("shop_work", version="abc")
    hub.until("shop_work", free=1)
    assert hub.ask("status")["snapshot_age_s"] is None
    told = {"wanted": 3, "running": 2, "image": "shop/work:1", "routed": True, "problem": "slow"}
    other = {"names": ["works"], "from": "a newer reconciler"}
    status = hub.learn(shop_work={"names": ["work"], **told}, shop_works=other)
    assert 0 <= status["snapshot_age_s"] < 5
    work_status, other_status = (status["functions"][n] for n in ("shop_work", "shop_works"))
    assert {key: work_status[key] for key in told} == told
    (replica,) = work_status["replicas"]
    assert (replica["version"], replica["protocol"]) == ("abc", PROTOCOL)
    assert (other_status["replicas"], other_status["wanted"], other_status["routed"]) == (
        [],
        0,
        True,
    )
    calling = threads.submit(work(), n=1)
    assert guest.serves().function == "shop_work"
    assert calling.result() == 1
    with pytest.raises(funker.FunctionNotFound, match="no function 'wrk'") as caught:
        funker.function("wrk", deadline=10)(n=1)
    assert "did you mean 'work'?" in caught.value.hint


def test_the_reconciler_hears_at_once_of_calls_that_nobody_will_take(hub):
    earlier, reconciler, caller = hub.reconciler(), hub.reconciler(), hub.guest()
    body = json.dumps({"functions": {"work": {"names": [], "wanted": 0}}}).encode()
    for number, guest in enumerate((earlier, reconciler)):
        guest.send(Snapshot(number=number, body=body))
        guest.receive(Reply)
    caller.stands()
    called_at = time.monotonic()
    for _ in range(20):
        caller.calls("work")
    told = []
    while not told or told[-1]["queued"] < 20:
        told.append(json.loads(reconciler.receive(Demand).body)["functions"]["work"])
    assert time.monotonic() - called_at < 1
    assert len(told) <= 3, "one for the first, and one for those that came within 100 ms of it"
    assert (told[0]["starting"], told[0]["free"]) == (0, 0)
    assert told[-1]["arrivals_fast"] > 0
    assert not earlier.socket.poll(0), "who has spoken last is told"


def test_a_reconciler_that_is_gone_is_no_trouble(hub):
    hub.learn(work={"names": [], "wanted": 0})
    hub._guests[-1].close()
    caller, replica = hub.guest(), hub.guest(name=b"R1")
    caller.stands()
    id = caller.calls("work")
    hub.until("work", queued=1)
    replica.ready("work")
    assert replica.serves().id == id
    assert caller.receive(Result).id == id


def test_a_functions_policy_is_kept_and_shown(hub):
    calls = {"idempotent": True, "retries": 1, "backoff": 0.01, "max_inflight": 1}
    scaling = {"min": 1, "max": 20, "wanted": 1, "reason": "one call a minute"}
    status = hub.learn(work={"names": [], "wanted": 1, "calls": calls, "scaling": scaling})
    work = status["functions"]["work"]
    assert (work["policy"], work["scaling"], work["calls"]) == (calls, scaling, 0)
    caller, one, two = hub.guest(), hub.guest(name=b"R1"), hub.guest(name=b"R2")
    caller.stands()
    for replica in (one, two):
        replica.ready("work")
    first, second = caller.calls("work"), caller.calls("work")
    assert one.receive(Call).id == first
    one.send(Error(id=first, code="function_crashed", message="exit status 3"))
    assert one.receive(Ack).id == first
    ended = [two.serves().id, one.serves().id]
    assert sorted(ended) == sorted([first, second])
    assert {caller.receive(Result).id for _ in ended} == {first, second}
    hub.until("work", inflight=0, queued=0)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"functions": {"a": 1}}', b"\xff"])
def test_a_snapshot_that_is_none_is_refused(hub, body):
    guest = hub.reconciler()
    guest.send(Snapshot(number=1, body=body))
    assert guest.receive(Error).code == "protocol_error"
    status = hub.ask("status")
    assert (status["functions"], status["snapshot_age_s"]) == ({}, None)


def test_a_snapshot_is_not_heard_from_who_has_the_key_of_a_caller(hub):
    body = b'{"functions": {"work": {"names": []}}}'
    guest = hub.guest()
    guest.send(Snapshot(number=1, body=body))
    assert guest.receive(Error).code == "unauthorized"
    stranger = hub.stranger(hub.keys, endpoint=hub.control)
    stranger.send(Snapshot(number=1, body=body))
    stranger.happens(zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    assert hub.ask("status")["functions"] == {}


def test_the_control_socket_hears_questions_and_no_calls(hub):
    guest = hub.reconciler()
    assert guest.ask("status")["functions"] == {}
    guest.calls("work")
    error = guest.receive(Error)
    assert (error.code, error.message) == (
        "protocol_error",
        "CALL isn't heard on the control socket",
    )


def test_calls_of_a_function_that_cant_join_the_router_are_told_so(hub):
    caller = hub.guest()
    caller.stands()
    waiting = caller.calls("shop_work")
    hub.until("shop_work", queued=1)
    hub.learn(shop_work={"names": ["work"], "wanted": 1, "routed": False, "problem": "no key"})
    later = caller.calls("work")
    for id in (waiting, later):
        error = caller.receive(Error)
        assert (error.id, error.code, error.retry_safe) == (id, "router_unavailable", True)
        assert "lack its key" in error.message
        assert "--secret-add funker-client-key shop_work" in error.hint
    # One that joins all the same is proof enough.
    replica = hub.guest(name=b"R1")
    replica.ready("shop_work")
    hub.until("shop_work", free=1)
    caller.stands()
    id = caller.calls("work")
    assert replica.serves().id == id
    assert caller.receive(Result).id == id


@pytest.mark.parametrize(
    ("protocol", "served"), [(PROTOCOL, True), (PROTOCOL - 1, True), (9, False)]
)
def test_replicas_of_this_protocol_and_the_one_before_are_served(hub, protocol, served):
    caller, replica = hub.guest(), hub.guest(name=b"R1")
    caller.stands()
    id = caller.calls("work")
    replica.ready("work", protocol=protocol, version="v")
    if served:
        assert replica.serves().id == id
        assert caller.receive(Result).id == id
    else:
        assert replica.receive(Error, Call).code == "protocol_error"
    (shown,) = hub.until("work")["replicas"]
    assert (shown["version"], shown["protocol"]) == ("v", protocol)
    assert (shown["state"] == "refused") != served


# What breaks the rules


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([b"CALL"], "2 or 3 frames"),
        ([b"NONSENSE", b"{}"], "unknown kind"),
        ([b"CALL", b"{"], "isn't JSON"),
        ([b"CALL", b"{}", b"body"], "lacks id"),
        ([b"QUERY", b'{"number":1,"what":"everything"}'], "not one of"),
    ],
)
def test_broken_messages_are_told_and_hurt_nobody(hub, frames, message):
    guest = hub.guest()
    guest.socket.send_multipart(frames)
    error = guest.receive(Error)
    assert error.code == "protocol_error"
    assert message in error.message
    assert error.id is None


def test_an_error_is_never_answered_with_an_error(hub):
    guest = hub.guest()
    guest.socket.send_multipart([b"ERROR", b"{"])
    guest.ask("status")
    assert not guest.socket.poll(0)


@pytest.mark.parametrize("field", ["function", "traceparent"])
def test_a_call_with_a_huge_header_is_refused_and_hurts_nobody(hub, field):
    guest = hub.guest()
    guest.stands()
    huge = "x" * (MAX_HEADER - 1000)
    values = {"id": secrets.token_hex(16), "function": "work", "body": b"{}", field: huge}
    guest.send(Call(**values))
    error = guest.receive(Error)
    assert (error.id, error.code) == (values["id"], "payload_too_large")
    assert hub.ask("status")["functions"] == {}


def test_a_replica_with_a_huge_name_hurts_nobody(hub):
    guest, caller = hub.guest(name=b"R1"), hub.guest()
    name = "x" * (MAX_HEADER // 2)
    guest.send(Ready(function="work", replica=name, node=name[1000:], session="5e" * 16))
    hub.until("work", free=1)
    caller.stands()
    call = Call(id=secrets.token_hex(16), function="work", body=b"{}", deadline_ms=5000)
    caller.send(call)
    assert guest.receive(Call).id == call.id


def test_a_client_process_sees_a_huge_header_at_once(hub):
    with pytest.raises(funker.PayloadTooLarge):
        funker.function("x" * (MAX_HEADER + 1), deadline=10)()


def test_open_calls_end_when_the_client_is_closed(hub, threads):
    from funker.rpc import client

    calling = threads.submit(work(), n=1)
    hub.until("work", queued=1)
    for made in client._made.values():
        made.close()
    client._made.clear()
    with pytest.raises(funker.RouterUnavailable, match="closed"):
        calling.result()
