"""Calls that fail: each ends with its own typed error, and the replica can tell the next one."""

from __future__ import annotations

import time

import pytest

from funker.rpc.messages import Accept, Ack, Cancel, Error, Result
from tests.conformance.peers import Dial, Start
from tests.conformance.replica import Replica
from tests.conformance.runtimes import Runtime
from tests.conformance.wire import Caller, Router, made
from tests.processes import is_gone


def failed(caller: Caller | Router, call: object, code: str) -> Error:
    error = caller.outcome(call)  # type: ignore[arg-type]
    assert isinstance(error, Error), error
    assert (error.code, error.retry_safe) == (code, False), error
    assert (error.function, error.replica) == ("act", "act.1")
    return error


def check_goes_on(replica: Replica, caller: Caller) -> None:
    """An error is an answer: the replica ends in order, or takes the next call."""
    if replica.runtime.once:
        assert replica.status() == 0
    else:
        assert isinstance(caller.outcome(caller.call("null")), Result)


def test_what_the_handler_raises_is_told_with_its_stack(
    replica: Replica, caller: Caller, runtime: Runtime
) -> None:
    error = failed(caller, caller.call("raise"), "function_error")
    assert "nothing is there" in error.message + error.output_tail
    if runtime.raises:
        assert error.exception_type
        assert error.exception_type in error.traceback
        assert "handler" in error.traceback
        assert "funker_runtime" not in error.traceback
    check_goes_on(replica, caller)


def test_a_handler_that_ends_its_process_is_reported_with_its_last_words(
    replica: Replica, caller: Caller, runtime: Runtime
) -> None:
    error = failed(caller, caller.call("exit", status=3), runtime.exits)
    assert "exited with status 3" in error.message
    assert "about to leave" in error.output_tail
    check_goes_on(replica, caller)


def test_ending_well_before_answering_is_no_answer(caller: Caller, runtime: Runtime) -> None:
    if not runtime.silence_is_a_crash:
        pytest.skip("for a program, that is an empty answer")
    error = failed(caller, caller.call("exit", status=0), "function_crashed")
    assert "exited with status 0" in error.message


def test_a_crash_is_reported_with_the_end_of_the_output(replica: Replica, caller: Caller) -> None:
    error = failed(caller, caller.call("abort"), "function_crashed")
    assert "was killed by SIGABRT" in error.message
    assert "on stderr" in error.output_tail
    check_goes_on(replica, caller)


@pytest.mark.parametrize("do", ["loop", "sleep"])
def test_a_call_that_takes_too_long_is_killed(replica: Replica, caller: Caller, do: str) -> None:
    began = time.monotonic()
    call = caller.call(do, seconds=60, _timeout_ms=300)
    caller.receive(Accept)
    error = failed(caller, call, "function_timeout")
    assert "0.3 s" in error.message
    assert time.monotonic() - began < 5
    check_goes_on(replica, caller)


def test_the_function_s_own_timeout_counts_if_it_is_shorter(start: Start, dial: Dial) -> None:
    caller = dial(start(FUNKER_TIMEOUT="200ms"))
    error = failed(caller, caller.call("sleep", seconds=60, _timeout_ms=60_000), "function_timeout")
    assert "0.2 s" in error.message


def test_the_caller_s_deadline_ends_a_running_call(replica: Replica, caller: Caller) -> None:
    failed(caller, caller.call("sleep", seconds=60, _deadline_ms=300), "deadline_exceeded")
    check_goes_on(replica, caller)


def test_cancel_stops_the_call_and_what_it_started(replica: Replica, caller: Caller) -> None:
    call = caller.call("child", hang=True)
    child = int(replica.told("child"))
    caller.send(Cancel(id="0" * 32))  # another's: nothing to this one
    caller.send(call.replace(resend=True))
    caller.receive(Accept)
    caller.send(Cancel(id=call.id))
    failed(caller, call, "cancelled")
    assert is_gone(child)
    check_goes_on(replica, caller)


def test_a_caller_that_goes_cancels_its_call(replica: Replica, dial: Dial) -> None:
    caller, other = dial(replica), dial(replica)
    caller.call("child", hang=True)
    child = int(replica.told("child"))
    caller.close()
    began = time.monotonic()
    assert is_gone(child)
    assert 1 < time.monotonic() - began < 5  # it might have come back
    check_goes_on(replica, other)


def test_a_caller_that_comes_back_in_time_gets_its_answer(replica: Replica, dial: Dial) -> None:
    go = replica.directory / "go"
    caller = dial(replica)
    call = caller.call("wait", file=str(go))
    caller.receive(Accept)
    caller.close()
    again = dial(replica)
    again.send(call.replace(resend=True, body=None))
    assert again.receive(Accept).id == call.id
    go.touch()
    assert isinstance(again.outcome(call), Result)


def test_what_a_call_leaves_running_ends_with_it(replica: Replica, caller: Caller) -> None:
    answer = caller.outcome(caller.call("child"))
    assert isinstance(answer, Result), answer
    assert is_gone(int(answer.body or b""))
    check_goes_on(replica, caller)


@pytest.mark.parametrize("kind", ["broken", "absent"])
def test_a_handler_that_can_t_be_loaded_is_told_to_callers(
    start: Start, dial: Dial, runtime: Runtime, kind: str
) -> None:
    replica = start(**{runtime.handler_variable: getattr(runtime, kind)})
    caller = dial(replica)
    pong = caller.state("failed")
    assert pong.message
    call = made(replica.function, pong.session, body=b"{}")
    caller.send(call)
    error = caller.receive(Error)
    assert (error.id, error.code, error.retry_safe) == (call.id, "init_failed", True)
    assert error.message == pong.message
    if kind == "broken" and runtime.raises:
        assert "no luck today" in error.message
        assert "no luck today" in error.traceback
    caller.send(Ack(id=pong.session, wait_ms=0))
    assert replica.status() == 1


def test_a_variable_that_can_t_be_understood_is_told_as_well(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_TIMEOUT="soon")
    caller = dial(replica)
    pong = caller.state("failed")
    assert "FUNKER_TIMEOUT" in pong.message
    assert "soon" in pong.message
    replica.signal()
    assert replica.status() == 1
