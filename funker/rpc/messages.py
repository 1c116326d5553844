"""The wire protocol's messages and their codec. Pure: frames in, messages out, and back.

A message is a list of frames: `kind` (ASCII), `header` (a JSON object of at most 64 KiB) and,
for CALL and RESULT, an optional `body` of opaque bytes. The rules:

- Every class below is one kind; its annotations are the header's schema.
- A field that has its default value isn't sent. A field that a reader doesn't know is dropped,
  so that a newer peer can say more than an older one understands.
- Whatever frames come in, `decode` gives a `Message` or raises `ProtocolError`, nothing else.
- A body that is absent (`None`) isn't a body that is empty (`b""`).

`tests/vectors/messages.json` pins all this for implementations in other languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

from funker.rpc.errors import CallError, PayloadTooLarge, ProtocolError, call_error

#: The version of the protocol that this module speaks.
PROTOCOL = 1
#: Bytes. The router and the front parse headers, so a header is never large.
MAX_HEADER = 64 * 1024
#: Bytes; the default of a setting (`FUNKER_MAX_BODY`).
MAX_BODY = 16 * 1024 * 1024
#: The port on which a replica hears direct calls.
REPLICA_PORT = 5570

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"

#: Bytes of JSON that a text keeps in a header that is too large.
_CLIPPED = {
    "message": 4096,
    "hint": 1024,
    "exception_type": 1024,
    "traceback": 24 * 1024,
    "text": 24 * 1024,
    "output_tail": 24 * 1024,
}

# The header's types. Each has a check in _CHECKS under its own name.
Id = str  # 32 lower-case hexadecimal digits: 128 bits
Count = int  # 0 … 2**53 - 1, what every language's JSON numbers hold
Strings = Sequence[str]
Times = Mapping[str, Count]  # milliseconds by phase

_is_hex128 = re.compile(r"[0-9a-f]{32}").fullmatch


def _is_id(value: object) -> bool:
    return type(value) is str and _is_hex128(value) is not None


def _is_str(value: object) -> bool:
    return type(value) is str


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_times(value: object) -> bool:
    return type(value) is dict and all(map(_is_count, value.values()))


def _is_strs(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_str, value))


_CHECKS: dict[str, Callable[[object], bool]] = {
    "str": _is_str,
    "bool": _is_bool,
    "Id": _is_id,
    "Id | None": lambda value: value is None or _is_id(value),
    "Count": _is_count,
    "Count | None": lambda value: value is None or _is_count(value),
    "Strings": _is_strs,
    "Times": _is_times,
}


#: What no field ever has.
_NO_DEFAULT = object()


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Message:
    """A frozen record. Hand-made, since importing `dataclasses` costs a replica 10 ms."""

    kind: ClassVar[str]
    _carries_body: ClassVar[bool]
    _checks: ClassVar[dict[str, Callable[[object], bool]]]
    _names: ClassVar[frozenset[str]]
    _defaults: ClassVar[dict[str, Any]]
    #: The header's fields with the values that aren't sent.
    _sent: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, kind: str) -> None:
        fields: dict[str, str] = dict(cls.__annotations__)
        cls.kind = kind
        cls._names = frozenset(fields)
        cls._carries_body = fields.pop("body", None) is not None
        cls._checks = {name: _CHECKS[annotation] for name, annotation in fields.items()}
        cls._defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}
        cls._sent = {name: cls._defaults.get(name, _NO_DEFAULT) for name in fields}
        if cls._carries_body:
            cls._defaults["body"] = None
        KINDS[kind.encode()] = cls

    def __init__(self, **values: Any) -> None:
        merged = self._defaults | values
        if len(merged) != len(self._names) or merged.keys() != self._names:
            wanted, got = sorted(self._names), sorted(values)
            raise TypeError(f"{type(self).__name__} takes {wanted}, got {got}")
        self.__dict__.update(merged)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.__dict__.items() if v != self._defaults.get(k)}
        return f"{self.kind}({', '.join(f'{k}={_short(v)}' for k, v in shown.items())})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__, **changes)
        if len(copy.__dict__) != len(self._names):
            return type(self)(**copy.__dict__)  # which says what is wrong
        return copy


KINDS: dict[bytes, type[Message]] = {}


class Call(Message, kind="CALL"):
    """Run `function` once. Idempotent by `id`: a replica that knows it repeats what it said."""

    id: Id
    function: str
    #: How long the handler may run, from ACCEPT, on the replica's clock; null: the function's own.
    timeout_ms: Count | None = None
    #: The caller's whole patience, from the moment of sending.
    deadline_ms: Count | None = None
    #: The replica's session that the call is meant for: fences addresses that were reused.
    session: str = ""
    attempt: Count = 1
    idempotent: bool = False
    content_type: str = JSON
    traceparent: str = ""
    #: Sent before. Without a body it is the question «what became of it?».
    resend: bool = False
    accepted_by: str = ""
    body: bytes | None = None


class Accept(Message, kind="ACCEPT"):
    """The handler starts: from here on the call may have had effects."""

    id: Id
    replica: str = ""


class Busy(Message, kind="BUSY"):
    """Not taken, nothing happened here. `session` is the speaker's."""

    id: Id
    session: str = ""


class Result(Message, kind="RESULT"):
    """The answer."""

    id: Id
    content_type: str = JSON
    replica: str = ""
    times: Times = {}  # noqa: RUF012 - frozen like the message
    body: bytes | None = None


class Error(Message, kind="ERROR"):
    """A typed failure (`errors.py`). Never answered with an ERROR."""

    #: null where the message that caused it could not be read.
    id: Id | None = None
    code: str
    message: str
    hint: str = ""
    function: str = ""
    replica: str = ""
    exception_type: str = ""
    traceback: str = ""
    output_tail: str = ""
    #: The function certainly did not start.
    retry_safe: bool = False

    def exception(self) -> CallError:
        """The exception that this message stands for."""
        details = {k: v for k, v in self.__dict__.items() if k not in ("code", "message")}
        return call_error(self.code, self.message, **details)


class Ack(Message, kind="ACK"):
    """End to end: the outcome of call `id` has arrived. For BYE and FAILED, `id` is the session."""

    id: Id
    #: After FAILED: how long to wait before the next try.
    wait_ms: Count | None = None


class Cancel(Message, kind="CANCEL"):
    """Stop the call."""

    id: Id


class Ready(Message, kind="READY"):
    """A replica joins its router, or joins it again."""

    function: str
    replica: str
    node: str = ""
    version: str = ""
    session: Id
    #: Its places for calls, and those of them that are free.
    slots: Count = 1
    free: Count = 1
    #: The calls that it runs, or whose outcome nobody has acknowledged.
    held: Strings = ()
    #: It takes one call in its life: after an outcome it is free for no other, and says no BYE.
    once: bool = False
    #: Whether a call can leave something behind in it: "enforced" (it can't), "partial: WHY" or
    #: "off: WHY"; empty where nobody says.
    residue: str = ""
    protocol: Count = PROTOCOL


class Failed(Message, kind="FAILED"):
    """The handler can't be loaded."""

    function: str
    replica: str
    version: str = ""
    session: Id
    message: str
    traceback: str = ""


class Bye(Message, kind="BYE"):
    """The replica takes no call but those in `held`. Answered with an ACK of its session."""

    replica: str
    session: Id
    held: Strings = ()


class Ping(Message, kind="PING"):
    """Are you there, and (to a replica) could you take a call of `function`?"""

    number: Count
    function: str = ""
    #: The stamp of the last PONG that the sender has received.
    echo: Count = 0


class Pong(Message, kind="PONG"):
    """The answer to PING, and a running replica's sign of life to its caller (number 0)."""

    number: Count
    #: From a router: changes when it restarts; what the next PING is to echo; whether it knows
    #: the sender from before.
    epoch: str = ""
    stamp: Count = 0
    known: bool = True
    #: From a replica: who it is, all names that it answers to, and how it is:
    #: boot, idle, busy or failed (then with the reason).
    function: str = ""
    names: Strings = ()
    replica: str = ""
    session: str = ""
    state: str = ""
    message: str = ""
    traceback: str = ""
    protocol: Count = PROTOCOL


class Output(Message, kind="OUTPUT"):
    """What a call printed, its end, for the router's log. Follows when the worker is dead."""

    id: Id
    text: str


class Query(Message, kind="QUERY"):
    """Asks a router what it knows: `status`, `calls` (of `function`, at most `limit`), `call`."""

    number: Count
    what: str
    function: str = ""
    id: str = ""
    limit: Count = 0


class Snapshot(Message, kind="SNAPSHOT"):
    """From the reconciler: all functions there are (JSON). Answered with a REPLY: the status."""

    number: Count
    body: bytes | None = None


class Demand(Message, kind="DEMAND"):
    """From a router to the reconciler that spoke last: calls wait, and nothing that starts or is
    there could take them. A JSON object: the status of these functions. Not answered.
    """

    body: bytes | None = None


class Reply(Message, kind="REPLY"):
    """A router's answer to QUERY and SNAPSHOT: JSON."""

    number: Count
    #: Why there is no answer; the body is absent then.
    error: str = ""
    body: bytes | None = None


def encode(message: Message) -> list[bytes]:
    """The message as frames.

    Texts that may be long (messages, tracebacks, output) lose their beginnings where the header
    would exceed 64 KiB. Raises `PayloadTooLarge` if that isn't enough: a huge name or list.
    """
    fields = message.__dict__
    header = _dumps({k: v for k, d in message._sent.items() if (v := fields[k]) != d})
    if len(header) > MAX_HEADER:
        header = _dumps(_clipped(json.loads(header)))
    if len(header) > MAX_HEADER:
        raise PayloadTooLarge(f"{message.kind} header of {len(header)} bytes exceeds {MAX_HEADER}")
    frames = [message.kind.encode(), header]
    if message._carries_body and fields["body"] is not None:
        frames.append(fields["body"])
    return frames


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# `json.loads` would also take UTF-16 and NaN, which no other language does.
_parser = json.JSONDecoder(parse_constant=_not_json)
_scan: Callable[[str, int], tuple[object, int]] = _parser.scan_once  # type: ignore[attr-defined]
# `json.dumps` would make an encoder anew for each header.
_encoder = json.JSONEncoder(separators=(",", ":"))


def _dumps(header: dict[str, Any]) -> bytes:
    return _encoder.encode(header).encode()


def _parsed(text: str) -> object:
    """The JSON value that is the whole text. Raises ValueError, RecursionError."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    # What the parser does beyond that is to look for white space around, which hardly anybody
    # sends, and to say what is wrong.
    return value if end == len(text) else _parser.decode(text)


def _clipped(header: dict[str, Any]) -> dict[str, Any]:
    return {k: clip(v, _CLIPPED[k]) if k in _CLIPPED else v for k, v in header.items()}


def decode(frames: Sequence[bytes]) -> Message:
    """The message in `frames`. Raises `ProtocolError` whatever is wrong with them."""
    if not 2 <= len(frames) <= 3:
        raise ProtocolError(f"a message has 2 or 3 frames, got {len(frames)}")
    cls = KINDS.get(frames[0])
    if cls is None:
        raise ProtocolError(f"unknown kind {frames[0][:16]!r}")
    values = cls._defaults | _header(cls, frames[1])
    if len(frames) == 3:
        if not cls._carries_body:
            raise ProtocolError(f"{cls.kind} carries no body")
        values["body"] = frames[2]
    if len(values) < len(cls._names):
        missing = [name for name in cls._checks if name not in values]
        raise ProtocolError(f"{cls.kind} lacks {', '.join(missing)}")
    message = cls.__new__(cls)
    message.__dict__.update(values)  # which are complete and checked, unlike what anybody gives
    return message


def _header(cls: type[Message], frame: bytes) -> dict[str, Any]:
    if len(frame) > MAX_HEADER:
        raise ProtocolError(f"{cls.kind} header of {len(frame)} bytes exceeds {MAX_HEADER}")
    try:
        header = _parsed(str(frame, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{cls.kind} header isn't JSON: {type(error).__name__}") from None
    if type(header) is not dict:
        raise ProtocolError(f"{cls.kind} header isn't a JSON object")
    checks = cls._checks
    values: dict[str, Any] = {}
    for name, value in header.items():
        if (check := checks.get(name)) is None:
            continue
        if not check(value):
            raise ProtocolError(f"{cls.kind} header: bad {name} {_short(value)}")
        values[name] = tuple(value) if type(value) is list else value
    return values


def media_type(content_type: str) -> str:
    """`text/plain` of `Text/Plain; charset=utf-8`: types are compared without case (RFC 9110)."""
    return content_type.partition(";")[0].strip().lower()


def clip(text: str, limit: int) -> str:
    """The end of a text (that's where tracebacks and logs say most), at most `limit` bytes of JSON.

    Characters differ in what they cost (1 to 12 bytes, escaped), hence the loop.
    """
    text = text[-limit:]
    while (size := len(json.dumps(text))) > limit:
        text = text[max(1, len(text) - len(text) * limit // size) :]
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
