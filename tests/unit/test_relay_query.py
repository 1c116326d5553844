"""Questions to the router, as the host's half of the relay asks them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import pytest

from funker.backends.base import NoController
from funker.backends.swarm.relay import Relay
from funker.rpc.errors import RouterUnavailable
from funker.rpc.messages import Message, Query, Reply, decode, encode
from funker.rpc.relay import Unpacker, pack

STDOUT = 1


class Answering:
    """A stream to a relay that answers each question by `answer`; None: it ends instead."""

    def __init__(self, answer: Callable[[Query], Message | None]) -> None:
        self._answer = answer
        self._unpacker = Unpacker()
        self._blocks: queue.Queue[bytes | None] = queue.Queue()

    def write(self, data: bytes) -> None:
        for frames in self._unpacker.feed(data):
            question = decode(frames)
            assert isinstance(question, Query)
            answer = self._answer(question)
            self._blocks.put(None if answer is None else pack(encode(answer)))

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        while (data := self._blocks.get()) is not None:
            yield STDOUT, data

    def end_input(self) -> None:
        self._blocks.put(None)

    def close(self) -> None: ...
    def remove(self) -> None: ...


def asked(answer: Callable[[Query], Message | None]) -> object:
    relay = Relay(Answering(answer))
    try:
        return relay.query("calls", function="add", limit=2)
    finally:
        relay.close()


def test_the_answer_is_the_replys_json() -> None:
    questions = []

    def answer(question: Query) -> Reply:
        questions.append(question)
        return Reply(number=question.number, body=b'[{"id": "1"}]')

    assert asked(answer) == [{"id": "1"}]
    (question,) = questions
    assert (question.what, question.function, question.limit) == ("calls", "add", 2)


def test_no_router_is_an_error_that_says_how_to_get_one() -> None:
    with pytest.raises(NoController, match="nobody there") as caught:
        asked(lambda question: Reply(number=question.number, error="nobody there"))
    assert "funker up" in caught.value.hint


def test_a_relay_that_ends_is_an_error_of_its_own() -> None:
    with pytest.raises(RouterUnavailable, match="it has ended"):
        asked(lambda _: None)
