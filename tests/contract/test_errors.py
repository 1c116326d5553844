"""Calls that fail: each in one typed way, soon, and the next call is served."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from funker.backends.base import DeployFailed
from funker.rpc import errors
from funker.rpc.messages import BYTES, JSON, MAX_BODY, Call, Error

#: Seconds in which a caller hears of what has happened. Far below any deadline here.
SOON = 6.0


def test_an_exception_is_told_with_traceback_output_and_replica(function: Any) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function(act="raise", mark="looking")

    error = caught.value
    assert error.message == "LookupError: nothing is there"
    assert error.exception_type == "LookupError"
    assert 'raise LookupError("nothing is there")' in error.traceback
    assert "handler.py" in error.traceback
    assert "funker_runtime" not in error.traceback
    assert error.output_tail == "looking\n"
    assert error.replica.startswith(f"{function.name}.")
    assert not error.retry_safe


def test_several_exceptions_are_all_in_the_traceback(function: Any) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function(act="group")

    assert caught.value.exception_type == "ExceptionGroup"
    assert "ValueError: one" in caught.value.traceback
    assert "KeyError: 'two'" in caught.value.traceback


@pytest.mark.parametrize(
    ("act", "how"), [("abort", "was killed by SIGABRT"), ("exit", "exited with status 3")]
)
def test_a_process_that_dies_is_a_crash_with_its_last_output(
    function: Any, act: str, how: str
) -> None:
    with function.failing(errors.FunctionCrashed, within=SOON) as caught:
        function(act=act)

    assert how in caught.value.message
    assert caught.value.output_tail == f"{act}\n"
    assert caught.value.replica.startswith(f"{function.name}.")
    assert not caught.value.retry_safe


def test_an_answer_that_cannot_be_sent_is_the_functions_error(function: Any) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function(act="object")

    assert caught.value.exception_type == "TypeError"
    assert "return JSON values, str or bytes" in caught.value.message


@pytest.mark.parametrize("body", [b"{", b"\xff", b'"half', b"[" * 100_000])
def test_a_body_that_is_no_json_is_the_functions_error(function: Any, body: bytes) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function.send(body, JSON)

    assert "JSON" in caught.value.message


def test_arguments_that_the_handler_does_not_take_are_the_functions_error(limited: Any) -> None:
    with pytest.raises(errors.FunctionError, match="unexpected keyword argument 'nobody'"):
        limited(nobody=1)


def test_an_endless_loop_ends_at_its_time_out(function: Any) -> None:
    with function.failing(errors.FunctionTimeout, within=1 + SOON) as caught:
        function(act="loop", timeout=1)

    assert "1 s" in caught.value.message
    assert caught.value.output_tail == "loop\n"
    assert not caught.value.retry_safe


def test_an_endless_loop_ends_at_its_callers_deadline(function: Any) -> None:
    with function.failing(errors.DeadlineExceeded, within=1 + SOON) as caught:
        function(act="loop", deadline=1)

    assert not caught.value.retry_safe


def test_a_call_that_never_ran_ends_at_its_deadline_and_may_be_made_again(platform: Any) -> None:
    function = platform.deployed(replicas=0)

    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        function(deadline=1)

    assert time.monotonic() - started < 1 + SOON
    assert caught.value.retry_safe


def test_the_function_s_own_time_out_holds_for_every_call(limited: Any) -> None:
    with pytest.raises(errors.FunctionTimeout, match="1 s"):
        limited(act="loop", timeout=50)


def test_a_call_that_runs_is_cancelled(
    function: Any, background: Callable[..., Future[Any]]
) -> None:
    cancel = threading.Event()
    with function.failing(errors.Cancelled, within=SOON):
        function.until(busy=0)
        call = background(function, act="loop", cancel=cancel)
        function.until(busy=1)
        cancel.set()
        raise call.exception(timeout=SOON) or AssertionError("it was answered")

    function.until(busy=0)


def test_a_call_that_waits_is_cancelled_and_never_runs(
    platform: Any, background: Callable[..., Future[Any]]
) -> None:
    function = platform.deployed()
    cancel = threading.Event()
    first = background(function, act="sleep", seconds=2)
    function.until(busy=1)
    second = background(function, mark="never", cancel=cancel)
    function.until(queued=1)
    cancel.set()

    assert isinstance(second.exception(timeout=SOON), errors.Cancelled)
    assert first.result(timeout=SOON) == {"seconds": 2}
    function.serves()
    assert "never" not in [line.text for line in platform.backend.logs(function.name)]


def test_a_body_over_the_limit_is_not_even_sent(function: Any) -> None:
    with function.failing(errors.PayloadTooLarge, within=SOON) as caught:
        function(bytes(MAX_BODY + 1))

    assert caught.value.retry_safe
    assert not caught.value.replica


def test_a_body_over_the_limit_that_is_sent_all_the_same_is_refused(function: Any) -> None:
    outcome = function.platform.transport.run(
        Call(
            id=secrets.token_hex(16),
            function=function.name,
            deadline_ms=60_000,
            content_type=BYTES,
            body=bytes(MAX_BODY + 1),
        )
    )

    assert isinstance(outcome, Error)
    assert (outcome.code, outcome.retry_safe) == ("payload_too_large", True)
    function.serves()


def test_an_answer_over_the_limit_is_an_error_instead(function: Any) -> None:
    with function.failing(errors.PayloadTooLarge, within=SOON) as caught:
        function(act="bytes", count=MAX_BODY + 1)

    assert not caught.value.retry_safe


def test_a_function_may_have_a_limit_of_its_own(limited: Any) -> None:
    assert limited(bytes(1000)) == bytes(1000)
    with pytest.raises(errors.PayloadTooLarge, match="1024"):
        limited(bytes(2000))
    with pytest.raises(errors.PayloadTooLarge, match="1024"):
        limited(act="bytes", count=2000)


def test_output_beyond_measure_is_kept_by_its_end(function: Any) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function(act="raise", mark="é" * 100_000 + "the end")

    assert caught.value.output_tail.endswith("the end\n")
    assert len(caught.value.output_tail.encode()) < 100_000


def test_an_unknown_function_is_not_found_and_the_nearest_is_suggested(function: Any) -> None:
    platform = function.platform
    unknown = function.name.replace("acts", "act")

    with pytest.raises(errors.FunctionNotFound) as caught:
        platform.backend.find(unknown)
    assert caught.value.hint == f"Did you mean {function.name}?"

    started = time.monotonic()
    with pytest.raises(errors.FunctionNotFound, match=unknown) as caught:
        platform.function(unknown)(deadline=2)
    assert time.monotonic() - started < 2 + SOON
    assert caught.value.retry_safe
    function.serves()


def test_an_import_error_is_told_to_callers_until_a_deploy_mends_it(platform: Any) -> None:
    name = platform.name()
    function = platform.function(name)
    with pytest.raises(DeployFailed, match="a_library_that_is_missing") as failed:
        platform.deploy(name, handler="broken:handle")
    assert 'broken.py", line 3' in failed.value.traceback
    assert "It stays and tries again" in failed.value.hint

    with pytest.raises(errors.InitFailed, match="a_library_that_is_missing") as caught:
        function(deadline=20)
    assert 'broken.py", line 3' in caught.value.traceback
    assert caught.value.retry_safe

    assert platform.deploy(name, handler="handler:handle").outcome == "updated"
    function.serves()
