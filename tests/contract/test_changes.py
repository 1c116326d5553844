"""Deploys, scaling and removals, while calls run and without: none of them is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from funker.backends.base import DeployFailed, NoPolicy
from funker.rpc import errors
from funker.spec import CallPolicy, ScalePolicy

Background = Callable[..., Future[Any]]


@contextmanager
def load(function: Any, background: Background, callers: int = 3) -> Iterator[list[Any]]:
    """Callers who call again and again; what each call's handler said of its version."""
    answers: list[Any] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answers.append(function(act="variables", names=["VERSION"])["VERSION"])

    calling = [background(call) for _ in range(callers)]
    try:
        yield answers
    finally:
        stop.set()
    for one in calling:
        one.result(timeout=60)


def until_more(answers: list[Any], count: int) -> None:
    seen = len(answers)
    give_up = time.monotonic() + 60
    while len(answers) < seen + count:
        assert time.monotonic() < give_up, f"only {len(answers) - seen} answers"
        time.sleep(0.01)


def test_a_deploy_says_what_it_has_done(platform: Any) -> None:
    name = platform.name()
    made = platform.deploy(name)
    assert (made.name, made.outcome, made.replicas) == (name, "created", 1)
    assert platform.deploy(name).outcome == "unchanged"
    labelled = platform.deploy(name, labels={"team": "blue"})
    assert (labelled.outcome, labelled.restarted) == ("updated", False)
    changed = platform.deploy(name, env={"A": "1"}, labels={"team": "blue"})
    assert (changed.outcome, changed.restarted) == ("updated", True)


def test_a_function_is_listed_shown_and_found(platform: Any, function: Any) -> None:
    (listed,) = [each for each in platform.backend.functions() if each.name == function.name]
    assert (listed.wanted, listed.stack) == (3, "")
    assert listed.image.startswith((function.name, f"funker/{function.name}"))
    assert listed.created <= listed.updated <= time.time() + 5
    assert platform.backend.find(function.name).name == function.name
    shown = platform.backend.inspect(function.name)
    assert {"name", "stack", "image", "replicas", "settings", "tasks", "warnings", "advice"} <= set(
        shown
    )
    assert shown["replicas"]["wanted"] == 3


def test_replicas_write_to_one_log(platform: Any) -> None:
    function = platform.deployed()
    for word in ("first", "second", "third"):
        function(mark=word)

    give_up = time.monotonic() + 60
    while True:  # a line may take longer than the answer
        lines = list(platform.backend.logs(function.name, tail=2))
        texts = [line.text for line in lines]
        if texts == ["second", "third"] or time.monotonic() > give_up:
            break
        time.sleep(0.01)
    assert texts == ["second", "third"]
    assert all(line.stream == "stdout" for line in lines)
    assert all(line.replica.startswith(f"{function.name}.") for line in lines)


def test_the_controller_remembers_calls_with_their_output(platform: Any, function: Any) -> None:
    with pytest.raises(errors.FunctionError) as caught:
        function(act="raise", mark="told")

    with platform.backend.controller() as controller:
        record = controller.query("call", id=caught.value.id)
    assert (record["function"], record["outcome"]) == (function.name, "function_error")
    assert record["output"] == "told\n"
    assert record["replica"] == caught.value.replica


def test_calls_wait_their_turn_for_the_one_replica(platform: Any, background: Background) -> None:
    function = platform.deployed()
    calls = [background(function, number=number) for number in range(5)]
    assert [call.result(timeout=60)["number"] for call in calls] == list(range(5))


def test_scaling_up_and_down_under_load_loses_no_call(
    platform: Any, background: Background
) -> None:
    function = platform.deployed(replicas=2)
    with load(function, background) as answers:
        for replicas in (3, 1):
            platform.backend.scale(function.name, replicas)
            assert platform.backend.find(function.name).wanted == replicas
            until_more(answers, 3)


def test_policies_are_kept_and_a_number_pins_until_it_is_let_go_or_deployed_anew(
    platform: Any,
) -> None:
    limits = {"ulimits": {"fsize": 1 << 30}}
    function = platform.deployed(**limits)
    name = function.name
    told = function(act="variables", names=["FUNKER_ULIMITS"])
    assert told == {"FUNKER_ULIMITS": "fsize=1073741824"}
    with pytest.raises(NoPolicy, match="fixed number"):
        platform.backend.unpin(name)

    scale = ScalePolicy(min=2, max=4, idle="90s", headroom=0.5)
    calls = CallPolicy(retries=2, backoff="1s", idempotent=True, max_inflight=8)
    made = platform.deploy(name, scale=scale, calls=calls, **limits)
    assert (made.outcome, made.restarted, made.replicas) == ("updated", False, 2)
    assert _scaling(platform, name) == (scale, False, 2)
    assert platform.backend.find(name).calls == calls
    shown = platform.backend.inspect(name)
    assert shown["scale"] == {"min": 2, "max": 4, "idle": 90.0, "headroom": 0.5}
    assert (shown["calls"]["retries"], shown["isolation"]) == (2, "container")

    platform.backend.scale(name, 1)
    assert _scaling(platform, name) == (scale, True, 1)
    platform.backend.unpin(name)
    assert _scaling(platform, name)[:2] == (scale, False)
    platform.backend.scale(name, 1)
    made = platform.deploy(name, scale=scale, **limits)
    assert (made.outcome, made.restarted, made.replicas) == ("updated", False, 2)
    assert "is scaled by itself again" in made.warnings[-1]
    assert _scaling(platform, name)[:2] == (scale, False)


def _scaling(platform: Any, name: str) -> tuple[Any, bool, int]:
    found = platform.backend.find(name)
    return found.scale, found.pinned, found.wanted


def test_to_nothing_and_back(platform: Any, background: Background) -> None:
    function = platform.deployed()
    platform.backend.scale(function.name, 0)
    function.until(running=0, free=0)
    waiting = background(function, number=7)
    function.until(queued=1)
    platform.backend.scale(function.name, 1)
    assert waiting.result(timeout=60) == {"number": 7}


def test_a_deploy_under_load_loses_no_call_and_none_gets_the_old_version_afterwards(
    platform: Any, background: Background
) -> None:
    function = platform.deployed(replicas=2, env={"VERSION": "1"})
    with load(function, background) as answers:
        until_more(answers, 2)
        platform.deploy(function.name, replicas=2, env={"VERSION": "2"})
        until_more(answers, 4)
    assert set(answers) == {"1", "2"}
    assert function(act="variables", names=["VERSION"]) == {"VERSION": "2"}


def test_a_broken_deploy_under_load_loses_no_call_and_the_old_version_still_serves(
    platform: Any, background: Background
) -> None:
    function = platform.deployed(replicas=2, env={"VERSION": "1"})
    with load(function, background) as answers:
        until_more(answers, 2)
        with pytest.raises(DeployFailed, match="a_library_that_is_missing") as failed:
            platform.deploy(
                function.name, replicas=2, handler="broken:handle", env={"VERSION": "2"}
            )
        until_more(answers, 4)
    assert 'broken.py", line 3' in failed.value.traceback
    assert failed.value.hint == (
        f"The version of {function.name} that was deployed before still serves."
    )
    assert set(answers) == {"1"}
    assert platform.backend.find(function.name).warnings == ()


def test_a_call_that_runs_while_its_function_is_deployed_anew_is_finished(
    platform: Any, background: Background
) -> None:
    function = platform.deployed(env={"VERSION": "1"})
    call = background(function, act="sleep", seconds=5)
    function.until(busy=1)
    platform.deploy(function.name, env={"VERSION": "2"})
    assert call.result(timeout=60) == {"seconds": 5}
    assert function(act="variables", names=["VERSION"]) == {"VERSION": "2"}


def test_a_call_that_runs_while_its_function_is_removed_is_finished(
    platform: Any, background: Background
) -> None:
    function = platform.deployed()
    call = background(function, act="sleep", seconds=2)
    function.until(busy=1)
    platform.backend.remove(function.name)
    assert call.result(timeout=60) == {"seconds": 2}
    with pytest.raises(errors.FunctionNotFound):
        platform.backend.find(function.name)
    with pytest.raises(errors.FunctionNotFound):
        function(deadline=5)


def test_a_removed_function_s_name_is_free_again(platform: Any) -> None:
    function = platform.deployed(env={"VERSION": "1"})
    platform.backend.remove(function.name)
    assert platform.deploy(function.name, env={"VERSION": "2"}).outcome == "created"
    assert function(act="variables", names=["VERSION"]) == {"VERSION": "2"}
