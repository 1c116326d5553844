"""Peers that break the rules or vanish: they get a typed error, and others don't notice."""

from __future__ import annotations

import errno
import json
import secrets
import signal
import socket
import subprocess
import sys
import time

import pytest

from funker.rpc.messages import Accept, Ack, Cancel, Error, Result

FINE = "def handle(**kwargs): return kwargs"
SLOW = """
    import os, subprocess, time
    from news import tell

    def handle():
        tell(os.getpid())
        while not os.path.exists("go"):
            time.sleep(0.01)
        return "done"
"""
CALLER = """
import funker, os
print(funker.function("echo", address=os.environ["ADDRESS"])())
"""


@pytest.fixture(scope="module")
def steady(serve_all):
    """Stays idle whatever it is told; has to be so at the end of each test."""
    return serve_all(FINE, name="steady")


def call_header(**changes):
    header = {"id": "0" * 32, "function": "steady", **changes}
    return json.dumps(header).encode()


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"CALL"],
        [b"NONSENSE", b"{}"],
        [b"call", call_header()],
        [b"CALL", b"{"],
        [b"CALL", b"[]"],
        [b"CALL", b"{}"],
        [b"CALL", b"\xff\xfe"],
        [b"CALL", b'"' + b"x" * 70_000 + b'"'],
        [b"CALL", b"[" * 60_000],
        [b"CALL", call_header(id="0")],
        [b"CALL", call_header(id=7)],
        [b"CALL", call_header(timeout_ms=-1)],
        [b"CALL", call_header(timeout_ms=1.5)],
        [b"CALL", call_header(deadline_ms=2**60)],
        [b"CALL", call_header(idempotent="yes")],
        [b"CALL", call_header(), b"{}", b"{}"],
        [b"PING", b'{"number": 1}', b"body"],
        [b"\0" * 100_000, b"\0" * 100_000],
        [b""] * 1000,
    ],
    ids=lambda frames: b" ".join(frames)[:24].decode(errors="replace"),
)
def test_malformed_messages_are_answered_with_a_typed_error(steady, peer, frames):
    caller = peer(steady)
    session = caller.state("idle").session
    caller.socket.send_multipart(frames)
    error = caller.receive()
    assert isinstance(error, Error)
    assert (error.code, error.id) == ("protocol_error", None)
    assert error.message
    assert caller.state("idle").session == session


@pytest.mark.parametrize(
    "frames",
    [
        [b"ERROR", b"{"],
        [b"ERROR", b'{"code": "cancelled", "message": ""}'],
        [b"RESULT", b'{"id": "00000000000000000000000000000000"}', b"7"],
        [b"ACCEPT", b'{"id": "00000000000000000000000000000000"}'],
        [b"ACK", b'{"id": "00000000000000000000000000000000"}'],
        [b"CANCEL", b'{"id": "00000000000000000000000000000000"}'],
        [b"PONG", b'{"number": 3}'],
    ],
    ids=lambda frames: frames[0].decode(),
)
def test_messages_without_a_meaning_here_change_nothing(steady, peer, frames):
    caller = peer(steady)
    session = caller.state("idle").session
    caller.socket.send_multipart(frames)
    # The answer to this comes after whatever that would have caused.
    assert caller.state("idle").session == session
    assert caller.quiet(0)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: echo\r\n\r\n",
        b"\xff" + b"\0" * 8 + b"\x7f" + b"\3\1CURVE" + b"\0" * 60,
        secrets.token_bytes(100_000),
        b"\0",
        b"",
    ],
    ids=["http", "other mechanism", "noise", "one byte", "nothing"],
)
def test_what_isn_t_zeromq_is_cut_off(steady, peer, data):
    caller = peer(steady)
    session = caller.state("idle").session
    with socket.create_connection(("127.0.0.1", steady.port), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError as error:  # cut off while it still talks; a time-out isn't among these
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
    assert caller.state("idle").session == session


def test_a_flood_of_pings_doesn_t_hold_up_a_call(steady, peer):
    flooder, caller = peer(steady), peer(steady)
    flooder.state("idle")
    for _ in range(20_000):
        flooder.socket.send_multipart([b"PING", b'{"number": 0}'])
    started = time.monotonic()
    assert steady(x=1) == {"x": 1}
    assert time.monotonic() - started < 10
    caller.state("idle")


def test_a_peer_that_reads_nothing_holds_nobody_up(serve, peer):
    served = serve("def handle(n): return b'0' * n")
    silent = peer(served)
    silent.call(b'{"n": 16000000}')
    silent.receive(Accept)
    # It never takes its answer and never acknowledges; then it is gone.
    silent.close()
    assert served.next_exit().status == 0
    assert served(n=3) == b"000"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_call_of_a_caller_that_ends_is_cancelled(serve, environment, news, is_gone, number):
    served = serve(SLOW)
    with subprocess.Popen(
        [sys.executable, "-c", CALLER],
        env={**environment, "ADDRESS": served.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as caller:
        worker = int(news.wait())
        started = time.monotonic()
        caller.send_signal(number)
        assert is_gone(worker)
        # A caller that was killed may come back for a moment; one that is interrupted says so.
        assert time.monotonic() - started < (1.5 if number == signal.SIGINT else 6)
    assert served.next_exit().status == 0
    (served.directory / "go").touch()
    assert served() == "done"


def test_a_caller_that_comes_back_in_time_gets_its_answer(serve, peer, news):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    caller.receive(Accept)
    caller.close()
    again = peer(served)
    again.send(call.replace(resend=True, body=None))
    assert again.receive(Accept).id == call.id
    (served.directory / "go").touch()
    assert again.receive(Result).body == b"done"
    again.send(Ack(id=call.id))
    assert served.next_exit().status == 0


def test_cancel_of_another_call_is_nothing_to_this_one(serve, peer):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    caller.receive(Accept)
    caller.send(Cancel(id=secrets.token_hex(16)))
    (served.directory / "go").touch()
    assert caller.receive(Result).body == b"done"
    caller.send(Cancel(id=call.id))  # too late, it has an outcome
    caller.send(call.replace(resend=True))
    assert caller.receive(Result).body == b"done"
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0


def test_cancel_kills_the_worker_and_says_so(serve, peer, news, is_gone):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    worker = int(news.wait())
    caller.send(Cancel(id=call.id))
    error = caller.receive(Error)
    assert (error.id, error.code) == (call.id, "cancelled")
    assert is_gone(worker)
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0


def test_the_time_out_and_the_deadline_in_a_call_are_the_replica_s_to_watch(serve, peer):
    served = serve(SLOW)
    for fields, code in [
        ({"timeout_ms": 200, "deadline_ms": 20_000}, "function_timeout"),
        ({"timeout_ms": 20_000, "deadline_ms": 200}, "deadline_exceeded"),
        ({"timeout_ms": 0}, "function_timeout"),
    ]:
        caller = peer(served)
        call = caller.call(**fields)
        assert caller.receive(Error).code == code
        caller.send(Ack(id=call.id))
        assert served.next_exit().status == 0


def test_a_call_that_arrives_after_its_deadline_isn_t_run(steady, peer):
    caller = peer(steady)
    session = caller.state("idle").session
    call = caller.call(deadline_ms=0)
    error = caller.receive(Error)
    assert (error.id, error.code, error.retry_safe) == (call.id, "deadline_exceeded", True)
    assert caller.state("idle").session == session
