"""Headers that are read by a pattern, and written by hand: the same as by the codec."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.controller.forward import addressed, header
from funker.controller.glance import glance, heard
from funker.controller.tables import Passing, Received
from funker.rpc.errors import ProtocolError
from funker.rpc.messages import Accept, Ack, Call, Cancel, Message, Result, decode, encode

ID = "1d" * 16
IDS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
COUNTS = st.integers(0, 2**53 - 1)
ACCEPTS = st.builds(Accept, id=IDS, replica=st.text(max_size=20))
RESULTS = st.builds(
    Result,
    id=IDS,
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8", "\N{SNOWMAN}"]),
    replica=st.text(max_size=20),
    times=st.dictionaries(st.text(max_size=5), COUNTS, max_size=3),
    body=st.none() | st.binary(max_size=5),
)
ACKS = st.builds(Ack, id=IDS, wait_ms=st.none() | COUNTS)


@pytest.mark.parametrize(
    "message",
    [
        Ack(id=ID),
        Accept(id=ID),
        Accept(id=ID, replica="add.1.x7k"),
        Result(id=ID, replica="add.1.x7k", times={"run": 12, "load": 3}, body=b"1"),
        Result(id=ID, content_type="text/plain; charset=utf-8"),
    ],
)
def test_what_passes_through_as_a_rule_is_not_decoded(message: Message) -> None:
    frames = encode(message)
    assert heard(b"peer", frames) == Passing(b"peer", frames[0], ID, frames)


@given(ACCEPTS | RESULTS | ACKS)
def test_the_id_is_the_one_that_the_codec_reads(message: Accept | Result | Ack) -> None:
    assert glance(encode(message)) in (message.id, None)


@given(ACCEPTS | RESULTS | ACKS, st.data())
def test_what_a_glance_takes_for_a_message_is_one(message: Message, data: Any) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frames[1]) - 1))
        frames[1][at] = data.draw(st.sampled_from(b'{}",:[]\\ 0a\x00\xff') | st.integers(0, 255))
    if data.draw(st.booleans()):
        del frames[1][data.draw(st.integers(0, len(frames[1]))) :]
    broken = [bytes(frame) for frame in frames]
    if (id := glance(broken)) is not None:
        read = decode(broken)
        assert isinstance(read, Accept | Result | Ack)
        assert read.id == id


@pytest.mark.parametrize(
    "frames",
    [
        [b"ACK", b'{"id":"%s"}' % ID.encode(), b"body"],
        [b"RESULT", b'{"id":"%s"}' % ID.encode(), b"body", b"more"],
        [b"RESULT"],
        [b"RESULT", b'{"id":"%s"}{}' % ID.encode()],
        [b"RESULT", b'{"id":"%s","times":{"a":1,}}' % ID.encode()],
        [b"RESULT", b'{"id":"%s","times":{"a":1"b":2}}' % ID.encode()],
    ],
)
def test_what_is_no_message_is_told_so(frames: list[bytes]) -> None:
    assert glance(frames) is None
    with pytest.raises(ProtocolError):
        heard(b"peer", frames)


def test_other_messages_are_decoded() -> None:
    frames = encode(Cancel(id=ID))
    assert heard(b"peer", frames) == Received(b"peer", Cancel(id=ID), frames)


@given(
    call=st.builds(
        Call,
        id=IDS,
        function=st.text(),
        timeout_ms=st.none() | COUNTS,
        deadline_ms=st.none() | COUNTS,
        attempt=COUNTS,
        idempotent=st.booleans(),
        content_type=st.just("application/json") | st.text(),
        traceparent=st.text(),
        resend=st.booleans(),
        accepted_by=st.text(),
    ),
    function=st.text(),
    attempt=st.integers(1, 3),
    deadline_ms=COUNTS,
)
def test_a_forwarded_call_says_what_the_codec_would_say(
    call: Call, function: str, attempt: int, deadline_ms: int
) -> None:
    address = addressed(function, ID)
    frames = [b"CALL", header(call, address, deadline_ms=deadline_ms, attempt=attempt)]
    assert decode(frames) == call.replace(
        function=function,
        session=ID,
        deadline_ms=deadline_ms,
        attempt=attempt,
        resend=False,
        accepted_by="",
    )
