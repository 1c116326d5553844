"""The relay's container half, as a process that is spoken to over pipes."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
import time

import pytest

from funker.rpc.messages import (
    BYTES,
    Accept,
    Call,
    Cancel,
    Error,
    Ping,
    Pong,
    Result,
    decode,
    encode,
)
from funker.rpc.relay import Unpacker, pack

#: The relay, with the addresses in its arguments instead of the network's DNS.
RELAY = """
import sys
from funker.rpc import direct, relay

known = dict(argument.split("=") for argument in sys.argv[1:])
direct._addresses = lambda name, _: (known[name],) if name in known else ()
relay.Relay(0, 1).run()
"""
ECHO = """
    import os, time
    from news import tell

    def handle(value=None, wait=False):
        tell(os.getpid())
        while wait:
            time.sleep(1)
        return value
"""


class Relay:
    """A relay process, and the host's half of the conversation."""

    def __init__(self, process):
        self.process = process
        self._unpacker = Unpacker()
        self._messages = []

    def send(self, message):
        self.write(pack(encode(message)))

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def call(self, function, body=b"{}", **fields):
        fields = {"id": secrets.token_hex(16), "deadline_ms": 30_000, **fields}
        call = Call(function=function, body=body, **fields)
        self.send(call)
        return call

    def receive(self):
        give_up = time.monotonic() + 30
        while not self._messages:
            ready, _, _ = select.select([self.process.stdout], [], [], give_up - time.monotonic())
            assert ready, "the relay says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            assert data, "the relay has ended"
            self._messages += [decode(frames) for frames in self._unpacker.feed(data)]
        return self._messages.pop(0)

    def end(self):
        """End its input; its exit status, and whatever else it said."""
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self._messages += [decode(frames) for frames in self._unpacker.feed(rest)]
        return self.process.wait(30)


@pytest.fixture
def relay(environment):
    """Start a relay that knows some functions: relay(served, …)."""
    started = []

    def start(*functions, command=(sys.executable, "-c", RELAY)):
        process = subprocess.Popen(
            [*command, *(f"{served.name}={served.address}" for served in functions)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return Relay(process)

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def test_the_module_is_a_program_that_ends_with_its_input(relay):
    talk = relay(command=(sys.executable, "-m", "funker.rpc.relay"))
    talk.send(Ping(number=5, function="localhost"))
    pong = talk.receive()
    assert (pong.number, pong.state, pong.function) == (5, "absent", "localhost")
    assert talk.end() == 0
    assert talk.process.stderr.read() == b""


def test_calls_go_through_as_they_are_and_side_by_side(relay, serve):
    echo, other = serve(ECHO), serve(ECHO, name="other")
    talk = relay(echo, other)
    calls = [talk.call(name, b'{"value": %d}' % n) for n, name in enumerate(["echo", "other"] * 3)]
    answers = {}
    for _ in calls:
        answer = talk.receive()
        assert isinstance(answer, Result)
        answers[answer.id] = answer.body
    assert [answers[call.id] for call in calls] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert talk.end() == 0
    assert talk.process.stderr.read() == b""


def test_large_bodies_cross_it_in_both_directions(relay, serve):
    served = serve("def handle(body): return body")
    talk = relay(served)
    body = secrets.token_bytes(1 << 20) * 16
    call = talk.call("echo", body, content_type=BYTES)
    answer = talk.receive()
    assert (answer.id, answer.content_type) == (call.id, BYTES)
    assert answer.body == body
    assert talk.end() == 0


def test_failures_come_as_errors_by_id(relay, serve):
    served = serve("def handle(n): return 1 / n", FUNKER_MAX_BODY="1000")
    talk = relay(served)
    for function, body, deadline, code in [
        ("echo", b'{"n": 0}', 30_000, "function_error"),
        ("nobody", b"{}", 300, "function_not_found"),
        ("echo", b" " * 1001, 30_000, "payload_too_large"),
        ("echo", b'{"n": 2}', 30_000, None),
    ]:
        call = talk.call(function, body, deadline_ms=deadline)
        answer = talk.receive()
        assert answer.id == call.id
        assert getattr(answer, "code", None) == code
    assert answer.body == b"0.5"
    assert talk.end() == 0


def test_a_call_without_a_deadline_has_an_outcome_too(relay, serve):
    talk = relay(serve(ECHO))
    call = talk.call("echo", b'{"value": 3}', deadline_ms=None)
    assert talk.receive().id == call.id
    assert talk.end() == 0


def test_cancel_stops_one_call_and_no_other(relay, serve, news, is_gone):
    echo, other = serve(ECHO), serve(ECHO, name="other")
    talk = relay(echo, other)
    first = talk.call("echo", b'{"wait": true}')
    worker = int(news.wait())
    second = talk.call("other", b'{"value": "kept"}')
    talk.send(Cancel(id=secrets.token_hex(16)))
    assert talk.receive().id == second.id
    talk.send(Cancel(id=first.id))
    cancelled = talk.receive()
    assert (cancelled.id, cancelled.code) == (first.id, "cancelled")
    assert is_gone(worker)
    talk.send(Cancel(id=first.id))  # of a call that is no more
    assert talk.end() == 0


def test_ping_tells_the_state_of_a_function(relay, serve, peer, news):
    echo, broken = serve(ECHO), serve("raise OSError('no database')", name="broken")
    peer(echo).state("idle")
    peer(broken).state("failed")
    talk = relay(echo, broken)
    for number, (name, state) in enumerate(
        [("echo", "idle"), ("broken", "failed"), ("nobody", "absent")]
    ):
        talk.send(Ping(number=number, function=name))
        pong = talk.receive()
        assert isinstance(pong, Pong)
        assert (pong.number, pong.function, pong.state) == (number, name, state)
        assert ("no database" in pong.message) == (name == "broken")
    call = talk.call("echo", b'{"wait": true}')
    news.wait()
    talk.send(Ping(number=9, function="echo"))
    assert talk.receive().state == "busy"
    talk.send(Cancel(id=call.id))
    assert talk.receive().id == call.id
    assert talk.end() == 0


@pytest.mark.parametrize("reading", [True, False])
def test_the_end_of_input_cancels_what_is_open(relay, serve, news, is_gone, reading):
    talk = relay(serve(ECHO))
    running = talk.call("echo", b'{"wait": true}')
    worker = int(news.wait())
    waiting = talk.call("echo", b'{"value": 1}')
    started = time.monotonic()
    if reading:
        assert talk.end() == 0
        outcomes = [talk.receive() for _ in range(2)]
        assert {outcome.id for outcome in outcomes} == {running.id, waiting.id}
        assert {outcome.code for outcome in outcomes} == {"cancelled"}
    else:
        talk.process.stdout.close()
        talk.process.stdin.close()
        assert talk.process.wait(30) == 0
    assert time.monotonic() - started < 8
    assert is_gone(worker)
    assert talk.process.stderr.read() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        pack([b"a"] * 9)[:64],
        pack([b"NONSENSE", b"{}"]),
        pack([b"CALL", b"{}"]),
        pack([b""]),
        pack(encode(Accept(id="0" * 32))),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["noise", "many frames", "kind", "header", "nothing", "accept", "http"],
)
def test_a_stream_that_isn_t_the_relay_s_ends_it_and_what_is_open(
    relay, serve, news, is_gone, data
):
    talk = relay(serve(ECHO))
    call = talk.call("echo", b'{"wait": true}')
    worker = int(news.wait())
    talk.write(data)
    cancelled = talk.receive()
    assert isinstance(cancelled, Error)
    assert (cancelled.id, cancelled.code) == (call.id, "cancelled")
    assert talk.process.wait(30) == 1
    assert is_gone(worker)
    assert b"ProtocolError" in talk.process.stderr.read()


def test_a_killed_relay_s_calls_are_cancelled(relay, serve, news, is_gone):
    served = serve(ECHO)
    talk = relay(served)
    talk.call("echo", b'{"wait": true}')
    worker = int(news.wait())
    talk.process.kill()
    assert is_gone(worker)
    assert served.next_exit().status == 0
