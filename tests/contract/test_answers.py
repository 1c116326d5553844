"""Calls that succeed: what goes in, what comes out, and that calls know nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from funker.rpc import errors
from funker.rpc.messages import JSON, MAX_BODY


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        "",
        "grüße, 世界 \x00",
        [],
        {},
        {"deep": [{"list": [1, None, "x"]}]},
        10**30,
        "a" * 100_000,
    ],
)
def test_a_json_value_goes_there_and_comes_back_as_it_was(function: Any, value: Any) -> None:
    assert function(act="answer", value=value) == value


@pytest.mark.parametrize("body", [b"\x00\xff", os.urandom(100_000), b"{}"])
def test_bytes_go_there_and_come_back_as_they_were(function: Any, body: bytes) -> None:
    assert function(body) == body


def test_a_call_without_a_body_has_no_arguments(function: Any) -> None:
    assert function.send(b"", JSON) == {}


def test_a_body_at_the_limit_goes_there_and_back(function: Any) -> None:
    body = os.urandom(MAX_BODY)

    assert function(body) == body


def test_an_answer_at_the_limit_comes_back(function: Any) -> None:
    assert len(function(act="bytes", count=MAX_BODY)) == MAX_BODY


def test_what_a_call_leaves_behind_no_other_call_finds(function: Any) -> None:
    for word in ("one", "two"):
        assert function(act="remember", word=word) == [[word], word]
        assert function(act="variables", names=["CONTRACT_WORD"]) == {"CONTRACT_WORD": None}


def test_callers_at_the_same_time_get_each_their_own_outcome(
    function: Any, background: Callable[..., Future[Any]]
) -> None:
    expected = {"abort": errors.FunctionCrashed, "object": errors.FunctionError, "echo": None}
    calls = [
        (act, number, background(function, act=act, number=number))
        for number in range(3)
        for act in expected
    ]

    for act, number, call in calls:
        error = call.exception(timeout=60)
        assert type(error) is (expected[act] or type(None))
        if error is None:
            assert call.result() == {"number": number}


def test_settings_of_a_deploy_reach_the_handler(platform: Any) -> None:
    function = platform.deployed(handler="handler:other")
    assert function(1) == {"other": 1}
    settings = {"COLOUR": "blue", "EMPTY": "", "WORDS": "two words = ü"}
    platform.deploy(function.name, handler="handler:handle", env=settings)
    assert function(act="variables", names=[*settings, "NOBODY_SET_THIS"]) == {
        **settings,
        "NOBODY_SET_THIS": None,
    }
