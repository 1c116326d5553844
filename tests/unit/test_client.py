"""The client's surface: values in, values out, over a transport that is made up."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.rpc import client
from funker.rpc.client import decode_value, encode_value, invoke
from funker.rpc.errors import FunctionError, PayloadTooLarge, ProtocolError
from funker.rpc.messages import BYTES, JSON, TEXT, Call, Error, Result


class Transport:
    """Keeps what it is given, and gives what it was told to."""

    def __init__(self, **answer: Any) -> None:
        self.calls: list[Call] = []
        self.answer = answer
        self.cancel: threading.Event | None = None

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        self.cancel = cancel
        self.calls.append(call)
        if "code" in self.answer:
            return Error(id=call.id, **self.answer)
        return Result(id=call.id, **self.answer)


def test_a_call_says_what_it_was_asked_to_in_milliseconds() -> None:
    transport = Transport(body=b"3")
    result = invoke(transport, "add", b"{}", timeout=1.5, deadline=2, idempotent=True)
    assert result.body == b"3"
    (call,) = transport.calls
    assert call == Call(
        id=call.id, function="add", timeout_ms=1500, deadline_ms=2000, idempotent=True, body=b"{}"
    )


@pytest.mark.parametrize(
    ("options", "deadline_ms"),
    [({}, 120_000), ({"timeout": 5}, 65_000), ({"timeout": 5, "deadline": 1}, 1000)],
)
def test_there_is_always_a_deadline(options: dict[str, float], deadline_ms: int) -> None:
    transport = Transport()
    invoke(transport, "add", b"", **options)  # type: ignore[arg-type]
    assert transport.calls[0].deadline_ms == deadline_ms


def test_every_call_has_an_id_of_its_own() -> None:
    transport = Transport()
    for _ in range(100):
        invoke(transport, "add", b"")
    assert len({call.id for call in transport.calls}) == 100
    assert all(len(call.id) == 32 for call in transport.calls)


def test_an_error_is_raised_as_its_class() -> None:
    transport = Transport(code="function_error", message="ValueError: no", traceback="Traceback")
    with pytest.raises(FunctionError, match=r"^ValueError: no$") as caught:
        invoke(transport, "add", b"")
    assert caught.value.id == transport.calls[0].id
    assert caught.value.traceback == "Traceback"


def test_a_body_over_the_limit_is_refused_before_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNKER_MAX_BODY", "10")
    transport = Transport()
    invoke(transport, "add", b"x" * 10)
    with pytest.raises(PayloadTooLarge, match="the body has 11 bytes, the limit is 10") as caught:
        invoke(transport, "add", b"x" * 11)
    assert caught.value.retry_safe
    assert len(transport.calls) == 1


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        ({"x": 1}, JSON, b'{"x":1}'),
        (None, JSON, b"null"),
        ("text", JSON, b'"text"'),
        (b"\xff", BYTES, b"\xff"),
        (bytearray(b"x"), BYTES, b"x"),
        (memoryview(b"x"), BYTES, b"x"),
    ],
)
def test_arguments_become_bytes(value: Any, content_type: str, body: bytes) -> None:
    assert encode_value(value) == (content_type, body)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), float("nan"), {"x": float("inf")}, {(1,): 2}, nested(100_000)]
)
def test_arguments_that_cant_be_sent_are_a_type_error_that_says_what_can(value: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^the arguments can't be sent .*: use JSON values or bytes$"
    ):
        encode_value(value)


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        (JSON, b'{"x":[1]}', {"x": [1]}),
        ("application/json; charset=utf-8", b"3", 3),
        (TEXT, "Grüße".encode(), "Grüße"),
        ("text/html", b"<p>", "<p>"),
        (BYTES, b"\xff", b"\xff"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
    ],
)
def test_an_answers_bytes_become_what_the_handler_returned(
    content_type: str, body: bytes, value: Any
) -> None:
    assert decode_value(content_type, body) == value


@pytest.mark.parametrize(
    ("content_type", "body"), [(JSON, b""), (JSON, b"{"), (JSON, b"[" * 100_000), (TEXT, b"\xff")]
)
def test_an_answer_that_isnt_what_it_claims_to_be_is_a_protocol_error(
    content_type: str, body: bytes
) -> None:
    with pytest.raises(ProtocolError, match="the answer isn't valid "):
        decode_value(content_type, body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_values_survive(value: Any) -> None:
    assert decode_value(*encode_value(value)) == value


class Direct(Transport):
    """Answers each call with its own body."""

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        self.calls.append(call)
        self.cancel = cancel
        return Result(id=call.id, content_type=call.content_type, body=call.body)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Direct:
    transport = Direct()
    monkeypatch.setattr(client, "_transport", lambda _: transport)
    return transport


def test_every_keyword_of_call_goes_to_the_handler(direct: Direct) -> None:
    arguments = {"name": "x", "timeout": 1, "self": 2, "value": 3}
    assert client.call("add", **arguments) == arguments
    assert direct.calls[0].function == "add"
    assert direct.calls[0].timeout_ms is None


def test_a_handle_takes_keywords_or_one_value(direct: Direct) -> None:
    echo = client.function("echo", timeout=5, idempotent=True)
    assert echo(x=1) == {"x": 1}
    assert echo() == {}
    assert echo(None) is None
    assert echo(b"bytes") == b"bytes"
    with pytest.raises(TypeError, match="echo takes keywords or one value, not both"):
        echo(1, x=2)
    assert {(call.timeout_ms, call.idempotent) for call in direct.calls} == {(5000, True)}


async def test_a_handle_can_be_awaited(direct: Direct) -> None:
    assert await client.function("echo").aio(x=1) == {"x": 1}
    assert await client.function("echo").aio(b"x") == b"x"


def test_map_gives_the_answers_in_the_order_of_the_values(direct: Direct) -> None:
    values = [{"x": 1}, 2, b"3", [4]]
    assert list(client.function("echo").map(values, concurrency=2)) == values
    assert list(client.function("echo").map([])) == []


def test_a_map_that_is_left_cancels_the_calls_that_are_under_way(direct: Direct) -> None:
    answers = client.function("echo").map([1, 2, 3], concurrency=2)
    assert next(answers) == 1
    assert direct.cancel is not None
    assert not direct.cancel.is_set()
    answers.close()  # type: ignore[attr-defined]
    assert direct.cancel.is_set()
