"""How a replica leaves: nobody loses a call by it, and nobody waits for it."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from funker.rpc.messages import Accept, Ack, Busy, Bye, Result
from tests.conformance.peers import Dial, Start
from tests.conformance.replica import Replica
from tests.conformance.wire import Caller, made

OF_THE_FRONT = True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_replica_with_a_bye(
    replica: Replica, caller: Caller, number: int
) -> None:
    session = caller.state("idle").session
    replica.signal(number)
    bye = caller.receive(Bye)
    assert (bye.session, bye.replica, tuple(bye.held)) == (session, "act.1", ())
    crossing = made(replica.function, session, body=b"{}")
    caller.send(crossing)
    assert caller.receive(Busy, Accept) == Busy(id=crossing.id, session=session)
    caller.send(Ack(id=session))
    assert replica.status() == 0
    assert replica.ran() == []


def test_a_bye_that_nobody_acknowledges_is_waited_for_a_moment(
    replica: Replica, caller: Caller
) -> None:
    caller.state("idle")
    replica.signal()
    began = time.monotonic()
    assert replica.status() == 0
    assert 0.2 < time.monotonic() - began < 2


@pytest.mark.parametrize("state", ["running", "holding"])
def test_sigterm_lets_a_call_end_and_its_answer_arrive(
    replica: Replica, caller: Caller, state: str
) -> None:
    go = replica.directory / "go"
    if state == "holding":
        go.touch()
    call = caller.call("wait", file=str(go))
    caller.receive(Accept if state == "running" else Result)
    replica.signal()
    # It still knows the call.
    caller.send(call.replace(resend=True))
    assert caller.receive(Accept if state == "running" else Result).id == call.id
    if state == "running":
        session = caller.state("busy").session
        second = made(replica.function, session, body=b"{}")
        caller.send(second)
        assert caller.receive(Busy, Accept).id == second.id
        go.touch()
        assert caller.receive(Result).id == call.id
    assert replica.runs()
    caller.send(Ack(id=call.id))
    # One that takes more calls than one still says goodbye to whom it has told that it is idle.
    for bye in caller.until(Bye, within=0.2):
        assert isinstance(bye, Bye)
        caller.send(Ack(id=bye.session))
    assert replica.status() == 0
    assert replica.ran() == ["wait"]


def test_the_lifeline_tells_and_is_told(start: Start, dial: Dial) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        replica = start(FUNKER_LIFELINE=str(theirs.fileno()), pass_fds=(theirs.fileno(),))
        theirs.close()
        dial(replica).state("idle")
        words = b""
        ours.settimeout(10)
        while b'"idle"' not in words.replace(b" ", b""):
            words += ours.recv(4096)
        assert b'"worker"' in words
        ours.close()
        assert replica.status() == 0


def test_no_process_of_a_replica_that_is_killed_lives_on(replica: Replica, caller: Caller) -> None:
    caller.call("sleep", seconds=60)
    caller.receive(Accept)
    os.kill(replica.process.pid, signal.SIGKILL)
    assert replica.status() == -signal.SIGKILL
    # `stop` finds whoever is left.
