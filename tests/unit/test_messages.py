"""The codec: pinned by vectors, its round trips, and what it makes of frames that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funker.rpc.errors import PayloadTooLarge, ProtocolError
from funker.rpc.messages import (
    KINDS,
    MAX_HEADER,
    Accept,
    Ack,
    Bye,
    Call,
    Error,
    Message,
    Ping,
    Pong,
    Ready,
    Result,
    clip,
    decode,
    encode,
)
from tests.vectors import VECTORS, frame

VALID = [vector for vector in VECTORS if "message" in vector]
INVALID = [vector for vector in VECTORS if "error" in vector]

ID = "0123456789abcdef0123456789abcdef"


def named(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def frames_of(vector: dict[str, Any]) -> list[bytes]:
    return [frame(written) for written in vector["frames"]]


def said(message: Message) -> dict[str, Any]:
    """A message as a vector writes it, its body as bytes."""
    fields = dict(vars(message))
    written: dict[str, Any] = {"kind": message.kind}
    if "body" in fields:
        written["body"] = fields.pop("body")
    return written | {"fields": json.loads(json.dumps(fields))}


def expected(vector: dict[str, Any]) -> dict[str, Any]:
    message = dict(vector["message"])
    if message.get("body") is not None:
        message["body"] = frame(message["body"])
    return message


def built(vector: dict[str, Any]) -> Message:
    message = expected(vector)
    body = {"body": message["body"]} if "body" in message else {}
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in message["fields"].items()}
    return KINDS[message["kind"].encode()](**fields, **body)


# Vectors


@named(VALID)
def test_the_frames_of_a_valid_vector_decode_to_its_message(vector: dict[str, Any]) -> None:
    assert said(decode(frames_of(vector))) == expected(vector)


@named([vector for vector in VALID if not vector.get("decode_only")])
def test_a_vectors_message_is_encoded_as_frames_that_say_the_same(vector: dict[str, Any]) -> None:
    kind, header, *body = encode(built(vector))
    wanted_kind, wanted_header, *wanted_body = frames_of(vector)
    assert (kind, json.loads(header), body) == (
        wanted_kind,
        json.loads(wanted_header),
        wanted_body,
    )


@named(INVALID)
def test_the_frames_of_an_invalid_vector_are_a_protocol_error(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frames_of(vector))
    assert vector["error"] in caught.value.message


def test_the_vectors_have_names_of_their_own_and_are_valid_or_invalid() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names)
    assert len(VALID) + len(INVALID) == len(VECTORS)


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.kind)
def test_the_vectors_give_every_field_of_every_kind_its_default_and_another_value(
    cls: type[Message],
) -> None:
    fields = [v["message"]["fields"] for v in VALID if v["message"]["kind"] == cls.kind]
    for name in cls._checks:
        values = [found[name] for found in fields]
        if name in cls._defaults:
            default = json.loads(json.dumps(cls._defaults[name]))
            assert default in values, f"no vector with the default of {name}"
            assert any(value != default for value in values), f"no vector that sets {name}"


# Round trips, with messages built from the classes' own schemas

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
TEXTS = st.text(max_size=50)
COUNTS = st.integers(0, 2**53 - 1)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "bool": st.booleans(),
    "Id": IDS,
    "Id | None": st.none() | IDS,
    "Count": COUNTS,
    "Count | None": st.none() | COUNTS,
    "Strings": st.lists(TEXTS, max_size=5).map(tuple),
    "Times": st.dictionaries(TEXTS, COUNTS, max_size=5),
    "bytes | None": st.none() | st.binary(max_size=100),
}


def messages_of(cls: type[Message]) -> st.SearchStrategy[Message]:
    required, optional = {}, {}
    for name, annotation in cls.__annotations__.items():
        where = optional if name in cls._defaults else required
        where[name] = STRATEGIES[annotation]
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: cls(**fields))


MESSAGES = st.sampled_from(list(KINDS.values())).flatmap(messages_of)


@given(MESSAGES)
def test_every_message_survives_encoding_and_decoding(message: Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES, st.dictionaries(TEXTS.map("x-{}".format), st.none() | TEXTS | st.floats(width=16)))
def test_fields_that_the_reader_doesnt_know_are_dropped(
    message: Message, unknown: dict[str, Any]
) -> None:
    kind, header, *body = encode(message)
    unknown = {k: v for k, v in unknown.items() if not isinstance(v, float) or abs(v) < 1e9}
    more = json.dumps(unknown | json.loads(header)).encode()
    assert decode([kind, more, *body]) == message


def test_a_body_that_is_absent_isnt_a_body_that_is_empty() -> None:
    assert decode(encode(Call(id=ID, function="add"))) == Call(id=ID, function="add", body=None)
    assert decode(encode(Call(id=ID, function="add", body=b""))).__dict__["body"] == b""
    assert len(encode(Result(id=ID))) == 2
    assert len(encode(Result(id=ID, body=b""))) == 3


# Frames that are wrong


def decoded_or_refused(frames: list[bytes]) -> None:
    """Whatever the frames: a message that can be sent on, or ProtocolError."""
    try:
        message = decode(frames)
    except ProtocolError:
        return
    assert decode(encode(message)) == message


@given(MESSAGES, st.data())
def test_truncated_frames_are_refused_or_still_a_message(message: Message, data: Any) -> None:
    frames = encode(message)
    at = data.draw(st.integers(0, len(frames) - 1))
    end = data.draw(st.integers(0, len(frames[at])))
    frames[at] = frames[at][:end]
    decoded_or_refused(frames)


@given(MESSAGES)
@settings(max_examples=30)
def test_a_header_cut_short_anywhere_is_refused(message: Message) -> None:
    kind, header, *_ = encode(message)
    for end in range(len(header)):
        with pytest.raises(ProtocolError):
            decode([kind, header[:end]])


@given(MESSAGES, st.data())
def test_flipped_bits_are_refused_or_still_a_message(message: Message, data: Any) -> None:
    frames = [bytearray(frame) for frame in encode(message)]
    for _ in range(data.draw(st.integers(1, 4))):
        target = data.draw(st.sampled_from([frame for frame in frames if frame]))
        bit = data.draw(st.integers(0, 8 * len(target) - 1))
        target[bit // 8] ^= 1 << bit % 8
    decoded_or_refused([bytes(frame) for frame in frames])


@given(MESSAGES, MESSAGES, st.randoms(use_true_random=False))
def test_dropped_doubled_and_mixed_up_frames_are_refused_or_still_a_message(
    one: Message, other: Message, random: Any
) -> None:
    frames = encode(one) + encode(other)
    random.shuffle(frames)
    decoded_or_refused(frames[: random.randrange(5)])


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_random_frames_are_refused(frames: list[bytes]) -> None:
    decoded_or_refused(frames)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([kind for kind in KINDS.values() if kind._checks]), st.data())
def test_headers_with_values_of_any_sort_are_refused_or_a_message(
    cls: type[Message], data: Any
) -> None:
    names = data.draw(st.lists(st.sampled_from(list(cls._checks)), unique=True))
    header = {name: data.draw(JSON_VALUES) for name in names}
    decoded_or_refused([cls.kind.encode(), json.dumps(header).encode()])


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"[" * 60_000, id="lists in lists"),
        pytest.param(b'{"a":' * 12_000, id="objects in objects"),
        pytest.param(b'{"number":' + b"[" * 20_000 + b"]" * 20_000 + b"}", id="closed again"),
        pytest.param(b'{"number":' + b"9" * 60_000 + b"}", id="a huge integer"),
        pytest.param(b'{"number":1e999}', id="a huge float"),
        pytest.param(b'{"number":-0}' + b"\0", id="a null byte behind"),
        pytest.param(b'{"number":NaN}', id="NaN"),
        pytest.param(b'{"number":1,"x":-Infinity}', id="infinity in an unknown field"),
        pytest.param(b'{"number":1,"function":"\xc3"}', id="half a character"),
        pytest.param(b'{"number":1,"function":"\xed\xa0\x80"}', id="an encoded surrogate"),
        pytest.param(b'{"number":1,"function":"a\nb"}', id="a raw line break in a text"),
    ],
)
def test_headers_that_are_made_to_hurt_are_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode([b"PING", header])


@pytest.mark.parametrize(
    "greeting",
    [
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + b"\0" * 48,  # ZeroMQ itself
        b"GET / HTTP/1.1\r\nHost: add\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$4\r\nPING\r\n",  # Redis
        b'{"args": {"x": 1, "y": 2}}\n',  # funker 0.0.1
    ],
)
@pytest.mark.parametrize("more", [[], [b""], [b"{}"], [b"", b""]])
def test_greetings_of_other_protocols_are_refused(greeting: bytes, more: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode([greeting, *more])


def test_a_lone_surrogate_in_a_text_is_carried_and_can_be_sent_on() -> None:
    # Python's texts may hold one (a file name that isn't UTF-8), and JSON can write it.
    message = decode([b"PING", b'{"number":1,"function":"\\udcff"}'])
    assert decode(encode(message)) == Ping(number=1, function="\udcff")


def test_every_class_of_message_says_what_it_lacks() -> None:
    with pytest.raises(ProtocolError, match="READY lacks function, replica, session"):
        decode([b"READY", b"{}"])


# Limits


def test_a_header_of_64_kib_is_the_largest() -> None:
    header = b'{"number":1}'.ljust(MAX_HEADER)
    assert decode([b"PING", header]) == Ping(number=1)
    with pytest.raises(ProtocolError, match="exceeds 65536"):
        decode([b"PING", header + b" "])


@given(st.text(st.characters(), min_size=1, max_size=20), st.integers(1, 20_000))
@settings(max_examples=50)
def test_long_texts_lose_their_beginnings_until_the_header_fits(unit: str, times: int) -> None:
    text = unit * times + "the end"
    error = Error(id=ID, code="function_error", message=text, traceback=text, output_tail=text)
    frames = encode(error)
    assert len(frames[1]) <= MAX_HEADER
    kept = decode(frames)
    assert isinstance(kept, Error)
    for field in (kept.message, kept.traceback, kept.output_tail):
        assert field.endswith("the end")
    assert (kept.id, kept.code) == (ID, "function_error")


def test_texts_that_fit_are_not_clipped() -> None:
    error = Error(code="function_error", message="m" * 30_000, traceback="t" * 30_000)
    assert decode(encode(error)) == error


def test_a_failed_replicas_pong_with_a_long_traceback_can_be_sent() -> None:
    pong = Pong(number=1, state="failed", message="x" * 10**6, traceback="y" * 10**6)
    assert len(encode(pong)[1]) <= MAX_HEADER


@pytest.mark.parametrize(
    "message",
    [
        Call(id=ID, function="f" * MAX_HEADER),
        Ready(function="add", replica="add.1", session=ID, held=[ID] * 2000),
    ],
    ids=["a huge name", "a huge list"],
)
def test_a_header_that_clipping_doesnt_help_is_too_large(message: Message) -> None:
    with pytest.raises(PayloadTooLarge, match="exceeds 65536"):
        encode(message)


@given(st.text(st.characters()), st.integers(2, 60))
def test_clip_keeps_as_much_of_the_end_as_fits(text: str, limit: int) -> None:
    kept = clip(text, limit)
    assert text.endswith(kept)
    assert len(json.dumps(kept)) <= limit
    if len(json.dumps(text)) <= limit:
        assert kept == text


# The records


def test_a_message_is_frozen() -> None:
    ping = Ping(number=1)
    with pytest.raises(AttributeError, match="frozen; use replace"):
        ping.number = 2  # type: ignore[misc]
    assert ping.replace(number=2) == Ping(number=2)
    assert ping == Ping(number=1)


def test_a_message_takes_its_own_fields_and_no_others() -> None:
    with pytest.raises(TypeError, match="Ack takes"):
        Ack(idd=ID)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Ack takes"):
        Ack()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Accept takes"):
        Accept(id=ID).replace(node="worker-3")
    with pytest.raises(TypeError, match="Accept takes"):
        Accept(id=ID, body=b"")  # type: ignore[call-arg]


def test_messages_of_different_kinds_are_different() -> None:
    assert Accept(id=ID) != Accept(id=ID, replica="add.1")
    assert Ack(id=ID) != Accept(id=ID)
    assert Ack(id=ID) != ID


def test_what_is_shown_of_a_message_is_short() -> None:
    shown = repr(Call(id=ID, function="add", body=b"x" * 10_000))
    assert shown.startswith("CALL(")
    assert "function='add'" in shown
    assert "deadline_ms" not in shown  # it has its default
    assert len(shown) < 200


def test_a_bye_that_holds_nothing_can_say_so_with_any_empty_sequence() -> None:
    bye = Bye(replica="add.1", session=ID, held=[])
    assert decode(encode(bye)) == Bye(replica="add.1", session=ID)
