"""Whom calls go to, and with which keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from funker.controller.router import RouterKeys, router_keys
from funker.rpc.errors import FunkerError, Unauthorized
from funker.rpc.keys import Keys, client_keys, router_address, secure

ROUTER, CLIENT, SECRET = ("R" * 39 + "=", "C" * 40, "#" * 40)
CLIENT_KEY = f"ROUTER_PUBLIC={ROUTER}\nCLIENT_PUBLIC={CLIENT}\nCLIENT_SECRET={SECRET}\n"
ROUTER_KEY = f"ROUTER_PUBLIC={ROUTER}\nROUTER_SECRET={SECRET}\nCLIENT_PUBLIC={CLIENT}\n"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(CLIENT_KEY)
    return path


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("10.0.0.1:7000", "10.0.0.1:7000"),
        ("router.example", "router.example:5571"),
        ("direct", ""),
    ],
)
def test_the_environment_says_where_the_router_is(told: str, address: str) -> None:
    assert router_address({"FUNKER_ROUTER": told}) == address


def test_who_has_a_key_looks_for_the_router_by_its_name(key_file: Path) -> None:
    assert router_address({"FUNKER_KEY_FILE": str(key_file)}) == "funker-router:5571"
    told = {"FUNKER_KEY_FILE": str(key_file), "FUNKER_ROUTER": "direct"}
    assert router_address(told) == ""


def test_who_has_none_calls_directly(tmp_path: Path) -> None:
    environ = {"FUNKER_KEY_FILE": str(tmp_path / "none")}
    assert router_address(environ) == ""
    assert client_keys(environ) is None


def test_a_clients_keys_are_read_from_its_file(key_file: Path) -> None:
    keys = Keys(ROUTER.encode(), CLIENT.encode(), SECRET.encode())
    assert client_keys({"FUNKER_KEY_FILE": str(key_file)}) == keys


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "it lacks ROUTER_PUBLIC and CLIENT_PUBLIC and CLIENT_SECRET"),
        (CLIENT_KEY.replace("CLIENT_PUBLIC", "OTHER").encode(), "it lacks CLIENT_PUBLIC"),
        (CLIENT_KEY.replace(CLIENT, CLIENT[:39]).encode(), "CLIENT_PUBLIC of 40 characters"),
        (b"ROUTER_PUBLIC=\xff\n", "no key file"),
    ],
)
def test_a_file_that_is_no_key_says_what_is_wrong(
    key_file: Path, content: bytes, wrong: str
) -> None:
    key_file.write_bytes(content)
    with pytest.raises(Unauthorized, match=wrong) as caught:
        client_keys({"FUNKER_KEY_FILE": str(key_file)})
    assert str(key_file) in caught.value.message


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(Unauthorized, match="no key file"):
        client_keys({"FUNKER_KEY_FILE": str(tmp_path)})


def test_the_routers_keys_are_read_from_its_file(key_file: Path) -> None:
    key_file.write_text(ROUTER_KEY)
    expected = RouterKeys(ROUTER.encode(), SECRET.encode(), frozenset([CLIENT.encode()]))
    assert router_keys(str(key_file)) == expected


@pytest.mark.parametrize(
    "content", [b"", b"\xff", ROUTER_KEY.replace(SECRET, "short").encode(), CLIENT_KEY.encode()]
)
def test_a_router_without_its_key_says_how_it_is_made(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    with pytest.raises(FunkerError, match="no router key in") as caught:
        router_keys(str(key_file))
    assert "funker up" in caught.value.hint


def test_a_router_without_a_file_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(FunkerError, match="no router key in"):
        router_keys(str(tmp_path / "none"))


def test_a_socket_gets_the_keys_and_without_any_stays_as_it_is() -> None:
    public, secret = zmq.curve_keypair()
    server, _ = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        secure(sock, None)
        assert sock.getsockopt(zmq.MECHANISM) == zmq.NULL
        secure(sock, Keys(server, public, secret))
        assert sock.getsockopt(zmq.MECHANISM) == zmq.CURVE
