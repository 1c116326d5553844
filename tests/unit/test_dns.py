"""The one question that a replica asks the network's DNS, and what it makes of the answer."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker_runtime import dns

PTR, A = 12, 1


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


QUESTION = encoded("4.3.2.10.in-addr.arpa") + struct.pack(">2H", PTR, 1)
SKIP = 12 + len(QUESTION)
TO_QUESTION = b"\xc0\x0c"


def header(answers: int) -> bytes:
    return b"id" + struct.pack(">5H", 0x8180, 1, answers, 0, 0)


def record(data: bytes, *, owner: bytes = TO_QUESTION, kind: int = PTR) -> bytes:
    return owner + struct.pack(">2HIH", kind, 1, 600, len(data)) + data


def answer(data: bytes, **record_fields: object) -> bytes:
    return header(1) + QUESTION + record(data, **record_fields)  # type: ignore[arg-type]


NAME = "shop_add.1.kx3v9.shop_default"


def test_the_name_in_the_first_record_is_found() -> None:
    assert dns._first_name(answer(encoded(NAME)), SKIP) == NAME


def test_the_records_owner_may_be_spelled_out() -> None:
    spelled = answer(encoded(NAME), owner=encoded("4.3.2.10.in-addr.arpa"))
    assert dns._first_name(spelled, SKIP) == NAME


def test_the_name_may_end_in_a_pointer() -> None:
    at = SKIP + 2 + 10
    pointing = answer(encoded("shop_add.1")[:-1] + struct.pack(">H", 0xC000 | (at + 20)))
    pointing += b"\xff" * (at + 20 - len(pointing)) + encoded("kx3v9.net")
    assert dns._first_name(pointing, SKIP) == "shop_add.1.kx3v9.net"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(0) + QUESTION, id="no answer"),
        pytest.param(header(1) + QUESTION, id="an answer that is promised only"),
        pytest.param(answer(b"\x0a\x00\x00\x01", kind=A), id="a record of another kind"),
        pytest.param(answer(b"\0"), id="an empty name"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"id", id="two bytes"),
    ],
)
def test_where_there_is_no_name_it_is_empty(data: bytes) -> None:
    assert dns._first_name(data, SKIP) == ""


def test_pointers_in_circles_come_to_an_end() -> None:
    at = SKIP + 2 + 10
    assert dns._first_name(answer(struct.pack(">H", 0xC000 | at)), SKIP) == ""
    round_and_round = answer(b"\x01a" + struct.pack(">H", 0xC000 | at))
    assert set(dns._first_name(round_and_round, SKIP)) <= {"a", "."}


@given(st.binary(max_size=512), st.integers(0, 512))
def test_whatever_the_answer_there_is_a_name_or_none(data: bytes, skip: int) -> None:
    assert isinstance(dns._first_name(data, skip), str)


@given(st.data(), st.integers(1, 8))
def test_an_answer_with_flipped_bits_or_cut_short_gives_a_name_or_none(
    data: st.DataObject, flips: int
) -> None:
    broken = bytearray(answer(encoded(NAME)))
    for _ in range(flips):
        bit = data.draw(st.integers(0, 8 * len(broken) - 1))
        broken[bit // 8] ^= 1 << bit % 8
    end = data.draw(st.integers(0, len(broken)))
    assert isinstance(dns._first_name(bytes(broken[:end]), SKIP), str)


# With a server


@contextmanager
def served(respond: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """A DNS server for one question on this machine; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            question, caller = sock.recvfrom(512)
            if (response := respond(question)) is not None:
                sock.sendto(response, caller)

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        thread.join()


def test_a_server_is_asked_for_the_name_of_an_address_and_answers() -> None:
    asked = []

    def respond(question: bytes) -> bytes:
        asked.append(question[2:])
        return question[:2] + answer(encoded(NAME))[2:]

    with served(respond) as port:
        assert dns.name_of("10.2.3.4", server="127.0.0.1", port=port) == NAME
    assert asked == [struct.pack(">5H", 0x0100, 1, 0, 0, 0) + QUESTION]


def test_an_answer_to_another_question_is_no_answer() -> None:
    def respond(question: bytes) -> bytes:
        return bytes([question[0] ^ 1]) + question[1:2] + answer(encoded(NAME))[2:]

    with served(respond) as port:
        assert dns.name_of("10.2.3.4", server="127.0.0.1", port=port) == ""


def test_a_server_that_doesnt_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "PATIENCE_S", 0.01)
    with served(lambda _: None) as port, pytest.raises(TimeoutError):
        dns.name_of("10.2.3.4", server="127.0.0.1", port=port)


def test_where_nothing_listens_it_is_an_os_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        dns.name_of("10.2.3.4", server="127.0.0.1", port=port)


@pytest.mark.parametrize(
    "error", [socket.gaierror("no"), TimeoutError("no"), UnicodeError("label too long")]
)
def test_a_container_that_cant_find_its_name_has_none(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> str:
        raise error

    monkeypatch.setattr(dns, "SERVER", "")  # in every resolv.conf
    monkeypatch.setattr(socket, "gethostbyname", fail)
    assert dns.own_name() == ""


def test_without_dockers_dns_there_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "SERVER", "no such server")
    assert dns.own_name() == ""
