"""The id in a message that only passes through, without decoding all of it. Pure.

Of an ACCEPT, a RESULT and an ACK the router needs to know whose call it is, and that whoever gets
it will be able to read it. The patterns are those headers as `encode` writes them, from the first
byte to the last: what matches is a good message, and what doesn't may be one, for `decode` to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from funker.controller.tables import Passing, Received
from funker.rpc.messages import decode

_ID = rb'\{"id":"([0-9a-f]{32})"'
#: Printable ASCII without quotes and escapes; not too long for a header.
_TEXT = rb'"[ !#-\[\]-~]{0,1000}"'
_TIME = rb'"[a-z_]{1,20}":(?:0|[1-9][0-9]{0,14})'
_TIMES = rb"\{" + _TIME + rb"(?:," + _TIME + rb"){0,20}\}"
_CONTENT_TYPE, _REPLICA = (
    rb'(?:,"content_type":' + _TEXT + rb")?",
    rb'(?:,"replica":' + _TEXT + rb")?",
)

_headers = {
    b"ACCEPT": re.compile(_ID + _REPLICA + rb"\}").fullmatch,
    b"RESULT": re.compile(
        _ID + _CONTENT_TYPE + _REPLICA + rb'(?:,"times":' + _TIMES + rb")?\}"
    ).fullmatch,
    b"ACK": re.compile(_ID + rb"\}").fullmatch,
}
#: How many frames these have at most.
_FRAMES = {b"ACCEPT": 2, b"RESULT": 3, b"ACK": 2}


def heard(peer: bytes, frames: Sequence[bytes]) -> Passing | Received:
    """What a message is to the router. Raises `ProtocolError` if it is none."""
    id = glance(frames)
    if id is not None:
        return Passing(peer, frames[0], id, frames)
    return Received(peer, decode(frames), frames)


def glance(frames: Sequence[bytes]) -> str | None:
    """The id of the call; None if the message has to be decoded."""
    kind = frames[0]
    matches = _headers.get(kind)
    if matches is None or not 2 <= len(frames) <= _FRAMES[kind]:
        return None
    found = matches(frames[1])
    return found[1].decode() if found else None
