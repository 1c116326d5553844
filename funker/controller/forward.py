"""What the router says most often, written without the codec: CALL and PONG. Pure.

A call goes on to its replica with the header that `encode` would write for its new function,
session, deadline and attempt, for a third of the time: what is the replica's is encoded once for
all its calls, and most calls say no more than who they are and what they wait for.
"""

from __future__ import annotations

import json

from funker.rpc.messages import Call

#: Fields that are the router's to say, or that were meant for the router alone.
_RENEWED = {"id", "function", "session", "deadline_ms", "attempt", "resend", "accepted_by"}
#: The others, with the values that aren't sent.
_KEPT = {name: value for name, value in Call._sent.items() if name not in _RENEWED}


def addressed(function: str, session: str) -> bytes:
    """What all calls that go to a replica say of it."""
    return _fields({"function": function, "session": session})


def header(call: Call, address: bytes, *, deadline_ms: int, attempt: int) -> bytes:
    """`address` is what `addressed` has given; the deadline is in milliseconds from now."""
    values = call.__dict__
    said = {name: value for name, unsaid in _KEPT.items() if (value := values[name]) != unsaid}
    if attempt != 1:
        said["attempt"] = attempt
    rest = b"," + _fields(said) if said else b""
    return b'{"id":"%s",%s,"deadline_ms":%d%s}' % (call.id.encode(), address, deadline_ms, rest)


def pong(number: int, epoch: bytes, *, stamp: int, known: bool) -> list[bytes]:
    """The answer to PING, as `encode` writes it; `epoch` is what `json_text` has given."""
    rest = b"" if known else b',"known":false'
    return [b"PONG", b'{"number":%d,"epoch":%s,"stamp":%d%s}' % (number, epoch, stamp, rest)]


def json_text(text: str) -> bytes:
    return json.dumps(text).encode()


def _fields(values: dict[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":"))[1:-1].encode()
