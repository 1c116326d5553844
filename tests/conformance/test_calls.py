"""Calls that succeed: what goes in and comes out, who gets it, and how often it runs."""

from __future__ import annotations

import json
import secrets

import pytest

from funker.rpc.messages import (
    BYTES,
    JSON,
    TEXT,
    Accept,
    Ack,
    Busy,
    Error,
    Pong,
    Result,
    media_type,
)
from tests.conformance.peers import Dial, Start
from tests.conformance.replica import Replica
from tests.conformance.runtimes import Runtime
from tests.conformance.wire import Caller, made
from tests.ports import free_port

MEBI = 1024 * 1024


def test_a_call_is_accepted_answered_and_acknowledged(
    replica: Replica, caller: Caller, runtime: Runtime
) -> None:
    before = caller.state("idle")
    call = caller.call("echo", n=[1, 2.5, None, "ü"])
    assert caller.receive(Accept, Result) == Accept(id=call.id, replica="act.1")
    answer = caller.outcome(call)
    assert isinstance(answer, Result)
    assert json.loads(answer.body or b"") == {"n": [1, 2.5, None, "ü"]}
    assert answer.replica == "act.1"
    assert set(answer.times) >= {"run"}
    if runtime.typed:
        assert media_type(answer.content_type) == JSON
    if runtime.once:
        assert replica.status() == 0
    else:
        assert caller.state("idle").session == before.session


@pytest.mark.parametrize(
    ("do", "given", "content_type", "body"),
    [
        ("text", {"text": "grüße"}, TEXT, "grüße".encode()),
        ("text", {"text": ""}, TEXT, b""),
        ("bytes", {"count": 3}, BYTES, b"xxx"),
        ("null", {}, JSON, b"null"),
    ],
)
def test_answers_are_json_text_or_bytes(
    caller: Caller,
    runtime: Runtime,
    do: str,
    given: dict[str, object],
    content_type: str,
    body: bytes,
) -> None:
    answer = caller.outcome(caller.call(do, **given))
    assert isinstance(answer, Result)
    if runtime.typed:
        assert (answer.content_type, answer.body) == (content_type, body)
    else:
        assert (answer.body or b"") == body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (BYTES, b"\x00\xff\r\n"),
        (BYTES, b""),
        ("Text/Plain; charset=utf-8", "grüße".encode()),
        ("image/png", b"{}"),
    ],
)
def test_a_body_that_isn_t_json_is_the_handler_s_as_it_is(
    caller: Caller, content_type: str, body: bytes
) -> None:
    answer = caller.outcome(caller.call(_content_type=content_type, _body=body))
    assert isinstance(answer, Result), answer
    assert (answer.body or b"") == body


def test_json_that_is_empty_is_an_empty_object(caller: Caller) -> None:
    answer = caller.outcome(caller.call(_body=b"", _content_type="Application/JSON; charset=utf-8"))
    assert isinstance(answer, Result)
    assert json.loads(answer.body or b"") == {}


def test_what_claims_to_be_json_and_isn_t_is_the_function_s_error(caller: Caller) -> None:
    error = caller.outcome(caller.call(_body=b"{no"))
    assert isinstance(error, Error)
    assert error.code == "function_error"


def test_a_large_body_and_a_large_answer(start: Start, dial: Dial) -> None:
    listen = f"tcp://127.0.0.1:{free_port()}"
    caller = dial(start(FUNKER_LISTEN=listen, FUNKER_MAX_BODY=str(64 * MEBI)))
    body = secrets.token_bytes(MEBI) * 64
    answer = caller.outcome(caller.call(_content_type=BYTES, _body=body))
    assert isinstance(answer, Result), answer
    assert (answer.body == body) is True  # without a comparison of 64 MiB in the report


def test_bodies_above_the_limit_are_refused(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_MAX_BODY="1000")
    caller = dial(replica)
    refused = caller.outcome(caller.call(_body=b"x" * 1001, _content_type=BYTES), ack=False)
    assert isinstance(refused, Error)
    assert (refused.code, refused.retry_safe) == ("payload_too_large", True)
    assert replica.ran() == []
    error = caller.outcome(caller.call("bytes", count=1001))
    assert isinstance(error, Error)
    assert (error.code, error.retry_safe) == ("payload_too_large", False)


def test_who_it_is_and_what_is_not_for_it(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_FUNCTION="shop_act", FUNKER_ALIASES="deed, do")
    replica.function = "shop_act"
    caller = dial(replica)
    pong = caller.state("idle")
    assert (pong.function, pong.replica, pong.protocol) == ("shop_act", "act.1", 1)
    assert tuple(pong.names) == ("shop_act", "act", "deed", "do")

    stale = made("act", secrets.token_hex(16), body=b"{}")
    caller.send(stale)
    assert caller.receive(Busy, Error) == Busy(id=stale.id, session=pong.session)
    other = made("multiply", pong.session, body=b"{}")
    caller.send(other)
    refused = caller.receive(Busy, Error)
    assert (refused.id, refused.code, refused.retry_safe) == (other.id, "function_not_found", True)
    late = made("act", pong.session, body=b"{}", deadline_ms=0)
    caller.send(late)
    refused = caller.receive(Busy, Error)
    assert (refused.id, refused.code, refused.retry_safe) == (late.id, "deadline_exceeded", True)
    question = made("act", pong.session, resend=True)
    caller.send(question)
    assert caller.receive(Busy, Error) == Busy(id=question.id, session=pong.session)
    assert caller.state("idle").session == pong.session
    assert replica.ran() == []
    call = made("deed", pong.session, body=b'{"do": "null"}')
    caller.send(call)
    assert isinstance(caller.outcome(call), Result)


def test_a_repeated_call_repeats_what_was_said_and_runs_nothing(
    replica: Replica, caller: Caller, dial: Dial, runtime: Runtime
) -> None:
    go = replica.directory / "go"
    call = caller.call("wait", file=str(go))
    caller.receive(Accept)
    caller.send(call.replace(resend=True))
    assert caller.receive(Accept).id == call.id
    caller.send(call.replace(resend=True, body=None))
    assert caller.receive(Accept).id == call.id
    go.touch()
    answer = caller.outcome(call, ack=False)
    caller.send(call.replace(resend=True, body=None))
    assert caller.receive(Result) == answer
    other = dial(replica)
    other.send(call.replace(resend=True))
    assert other.receive(Result) == answer
    assert replica.ran() == ["wait"]
    other.send(Ack(id=call.id))
    if runtime.once:
        assert replica.status() == 0
    else:
        other.ask()
        other.send(call.replace(resend=True, body=None))
        assert other.receive(Busy, Result).kind == "BUSY"  # acknowledged, and forgotten


def test_an_outcome_is_held_until_it_is_acknowledged(
    replica: Replica, caller: Caller, runtime: Runtime
) -> None:
    call = caller.call("text", text="kept")
    answer = caller.outcome(call, ack=False)
    if not runtime.once:  # another may run meanwhile
        assert isinstance(caller.outcome(caller.call("null")), Result)
    assert not list(caller.until(Result, within=0.4))
    assert replica.runs()
    caller.send(call.replace(resend=True))
    assert caller.receive(Result) == answer
    caller.send(Ack(id=call.id))
    assert replica.status() == 0 if runtime.once else caller.state("idle")


def test_whoever_asks_while_it_is_busy_gets_busy(
    start: Start, dial: Dial, runtime: Runtime
) -> None:
    replica = start(FUNKER_SLOTS="1")
    caller, other = dial(replica), dial(replica)
    session = other.state("idle").session
    go = replica.directory / "go"
    call = caller.call("wait", file=str(go))
    caller.receive(Accept)
    second = made(replica.function, session, body=b'{"do": "null"}')
    other.send(second)
    assert other.receive(Busy, Accept) == Busy(id=second.id, session=session)
    assert other.ask().state == "busy"
    go.touch()
    assert isinstance(caller.outcome(call), Result)
    if runtime.once:
        assert replica.status() == 0
    else:
        assert isinstance(other.outcome(other.call("null")), Result)
    assert replica.ran()[0] == "wait"


def test_the_caller_hears_signs_of_life(replica: Replica, caller: Caller) -> None:
    go = replica.directory / "go"
    call = caller.call("wait", file=str(go))
    caller.receive(Accept)
    beats = [pong.number for pong in caller.until(Pong, within=0.8) if isinstance(pong, Pong)]
    assert 0 in beats
    go.touch()
    assert isinstance(caller.outcome(call), Result)
