"""What passes between the front and the worker, over a real pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from funker.rpc.messages import MAX_HEADER
from funker_runtime import kernel, worker
from funker_runtime.worker import MAX_INLINE

CALL = {"call": {"content_type": "application/json"}}


@pytest.fixture
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = kernel.message_pair()
    with one, other:
        yield one, other


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b'{"x":\n1}\n',
        b"x" * MAX_INLINE,
        b"\n" * (MAX_INLINE + 1),
        b"y" * 1024 * 1024,
    ],
    ids=["empty", "a line break", "lines", "the largest inline", "the smallest file", "large"],
)
def test_a_body_arrives_as_it_was_sent(
    link: tuple[socket.socket, socket.socket], body: bytes
) -> None:
    worker.send(link[0], CALL, body)
    assert worker.receive(link[1]) == (CALL, body)


def test_no_body_is_not_an_empty_one(link: tuple[socket.socket, socket.socket]) -> None:
    worker.send(link[0], {"loaded": True})
    assert worker.receive(link[1]) == ({"loaded": True}, None)


@pytest.mark.parametrize("size", [MAX_INLINE, MAX_INLINE + 1])
def test_the_longest_header_fits_beside_a_body(
    link: tuple[socket.socket, socket.socket], size: int
) -> None:
    longest = {"call": {"content_type": "t" * MAX_HEADER}}
    worker.send(link[0], longest, b"b" * size)
    assert worker.receive(link[1]) == (longest, b"b" * size)


def test_the_end_of_the_other_side_is_no_message(
    link: tuple[socket.socket, socket.socket],
) -> None:
    link[0].close()
    assert worker.receive(link[1]) is None
