"""The codec as it is on the wire: tests/vectors, sent to a replica."""

from __future__ import annotations

from typing import Any

import pytest

from funker.rpc.messages import Error, Pong
from tests.conformance.peers import Dial
from tests.conformance.replica import Replica
from tests.conformance.wire import PATIENCE, Caller
from tests.vectors import VECTORS, frame

OF_THE_FRONT = True


def replies(caller: Caller, frames: list[bytes]) -> list[Any]:
    """All that a message causes before the answer to the PING after it."""
    caller.socket.send_multipart(frames)
    caller.socket.send_multipart([b"PING", b'{"number": 4711}'])
    said = []
    while (message := caller.next(PATIENCE)) is not None:
        if isinstance(message, Pong) and message.number == 4711:
            return said
        said.append(message)
    raise TimeoutError("it says nothing any more")


@pytest.mark.parametrize("valid", [True, False], ids=["valid", "invalid"])
def test_every_vector_is_understood_or_refused(replica: Replica, dial: Dial, valid: bool) -> None:
    session = dial(replica).state("idle").session
    caller = dial(replica)
    wrong = []
    # A message of no frames at all can't be sent.
    for vector in (v for v in VECTORS if ("message" in v) is valid and v["frames"]):
        frames = [frame(written) for written in vector["frames"]]
        said = replies(caller, frames)
        refused = [m for m in said if isinstance(m, Error) and m.code == "protocol_error"]
        # An ERROR is never answered with one.
        expected = 0 if valid or frames[:1] == [b"ERROR"] else 1
        if len(refused) != expected or any(error.id is not None for error in refused):
            wrong.append((vector["name"], said))
    assert not wrong
    assert dial(replica).state("idle").session == session


@pytest.mark.parametrize(
    "frames", [[b""], [b"CALL"], [b"call", b"{}"], [b"\0" * 100_000] * 2, [b""] * 1000]
)
def test_what_is_no_message_is_a_typed_error(caller: Caller, frames: list[bytes]) -> None:
    caller.state("idle")
    (error,) = replies(caller, frames)
    assert isinstance(error, Error)
    assert (error.code, error.id) == ("protocol_error", None)
    assert error.message


def test_a_flood_doesn_t_hold_up_a_call(replica: Replica, dial: Dial) -> None:
    flooder, caller = dial(replica), dial(replica)
    flooder.state("idle")
    for _ in range(5000):
        flooder.socket.send_multipart([b"PING", b'{"number": 0}'])
    caller.outcome(caller.call("null"), within=5)
