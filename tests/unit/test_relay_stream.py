"""The relay's stream: messages as bytes, and back, in whatever portions they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.rpc.errors import ProtocolError
from funker.rpc.messages import Call, decode, encode
from funker.rpc.relay import MAX_FRAMES, Unpacker, pack

MESSAGES = st.lists(st.lists(st.binary(max_size=300), max_size=MAX_FRAMES), max_size=5)


def test_the_layout_is_a_count_and_then_lengths_and_bytes_all_big_endian() -> None:
    assert pack([b"PING", b"{}"]) == (
        b"\0\0\0\2" + b"\0\0\0\0\0\0\0\4" + b"PING" + b"\0\0\0\0\0\0\0\2" + b"{}"
    )
    assert pack([]) == b"\0\0\0\0"


@given(MESSAGES)
def test_messages_survive_in_one_piece(messages: list[list[bytes]]) -> None:
    assert Unpacker().feed(b"".join(map(pack, messages))) == messages


@given(MESSAGES)
def test_messages_survive_byte_by_byte(messages: list[list[bytes]]) -> None:
    unpacker = Unpacker()
    found = []
    for byte in b"".join(map(pack, messages)):
        found += unpacker.feed(bytes([byte]))
    assert found == messages


@given(MESSAGES, st.data())
def test_messages_survive_in_any_portions(messages: list[list[bytes]], data: Any) -> None:
    stream = b"".join(map(pack, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    unpacker = Unpacker()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += unpacker.feed(stream[start:end])
    assert found == messages
    assert unpacker.feed(b"") == []


@given(MESSAGES.filter(bool), st.data())
def test_what_is_cut_short_waits_for_the_rest(messages: list[list[bytes]], data: Any) -> None:
    stream = b"".join(map(pack, messages))
    end = data.draw(st.integers(0, len(stream) - 1))
    unpacker = Unpacker()
    first = unpacker.feed(stream[:end])
    assert first == messages[: len(first)]
    assert len(first) < len(messages)
    assert first + unpacker.feed(stream[end:]) == messages


def test_a_message_of_many_megabytes_comes_whole() -> None:
    call = Call(id="1d" * 16, function="add", body=bytes(range(256)) * 65536)
    stream = pack(encode(call))
    unpacker = Unpacker()
    found: list[list[bytes]] = []
    for at in range(0, len(stream), 1 << 20):
        assert not found
        found = unpacker.feed(stream[at : at + (1 << 20)])
    assert decode(found[0]) == call


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"Traceback (most recent call last):\n",
        b"exec: python3: not found\n",
        b"\xff" * 12,
        b"\0\0\0\x09",
        b"\0\0\0\1" + b"\xff" * 8,
    ],
)
def test_what_is_no_such_stream_is_a_protocol_error_and_stays_one(garbage: bytes) -> None:
    unpacker = Unpacker()
    with pytest.raises(ProtocolError, match="this isn't a relay's stream"):
        unpacker.feed(garbage)
    with pytest.raises(ProtocolError):
        unpacker.feed(pack([b"PING", b"{}"]))


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_random_bytes_give_frames_or_a_protocol_error(portions: list[bytes]) -> None:
    unpacker = Unpacker()
    for portion in portions:
        try:
            messages = unpacker.feed(portion)
        except ProtocolError:
            return
        assert all(isinstance(frame, bytes) for message in messages for frame in message)
