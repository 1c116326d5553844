"""Whom calls go to, and with which keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from funker.controller.doorman import RouterKeys, router_keys
from funker.rpc import keys as module
from funker.rpc.errors import FunkerError, Unauthorized
from funker.rpc.keys import (
    Keys,
    client_keys,
    find_client_file,
    make_keys,
    parse,
    router_address,
    router_wait,
    secure,
)

ROUTER, CLIENT, SECRET = ("R" * 39 + "=", "C" * 40, "=" * 40)
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
        ("ipc:///run/funker/router", "ipc:///run/funker/router"),
        ("tcp://10.0.0.1:7000", "tcp://10.0.0.1:7000"),
        ("direct", ""),
    ],
)
def test_the_environment_says_where_the_router_is(told: str, address: str) -> None:
    assert router_address({"FUNKER_ROUTER": told}) == address


def test_who_has_a_key_looks_for_the_router_by_its_name(key_file: Path) -> None:
    assert router_address({"FUNKER_KEY_FILE": str(key_file)}) == "funker-router:5571"
    told = {"FUNKER_KEY_FILE": str(key_file), "FUNKER_ROUTER": "direct"}
    assert router_address(told) == ""


@pytest.mark.parametrize("told", ["host:", ":5571", "host:port", "host:0", "host:65536"])
def test_what_is_no_address_is_refused(told: str, key_file: Path) -> None:
    with pytest.raises(FunkerError, match="FUNKER_ROUTER: expected HOST:PORT"):
        router_address({"FUNKER_ROUTER": told})
    key_file.write_text(f"{CLIENT_KEY}ROUTER_ADDRESS={told}\n")
    with pytest.raises(FunkerError, match="ROUTER_ADDRESS: expected HOST:PORT") as caught:
        router_address({"FUNKER_KEY_FILE": str(key_file)})
    assert str(key_file) in caught.value.message


@pytest.mark.parametrize("told", ["127.0.0.1:7000", "ipc:///run/funker/router"])
def test_a_key_file_may_say_where_its_router_is(key_file: Path, told: str) -> None:
    key_file.write_text(f"{CLIENT_KEY}ROUTER_ADDRESS={told}\n")
    environ = {"FUNKER_KEY_FILE": str(key_file)}
    assert router_address(environ) == told
    assert router_address({**environ, "FUNKER_ROUTER": "other:1"}) == "other:1"
    assert client_keys(environ) == Keys(ROUTER.encode(), CLIENT.encode(), SECRET.encode())


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("FUNKER_STATE_DIR", ""),
        ("XDG_STATE_HOME", "funker"),
        ("HOME", ".local/state/funker"),
    ],
)
def test_the_local_controllers_key_is_found_where_its_state_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    monkeypatch.setattr(module, "CLIENT_FILE", str(tmp_path / "secret"))
    environ = {"HOME": str(tmp_path / "none"), variable: str(tmp_path)}
    assert find_client_file(environ) is None
    directory = tmp_path / below
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "client-key").write_text(f"{CLIENT_KEY}ROUTER_ADDRESS=ipc:///r\n")
    assert router_address(environ) == "ipc:///r"
    # The swarm's secret goes before it, and what is named before both.
    (tmp_path / "secret").write_text(CLIENT_KEY)
    assert router_address(environ) == "funker-router:5571"
    assert find_client_file({**environ, "FUNKER_KEY_FILE": str(tmp_path / "none")}) is None


def test_without_a_home_there_is_no_local_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_FILE", "/nonexistent/key")
    assert find_client_file({}) is None


def test_a_key_file_that_is_written_anew_is_another_one(key_file: Path) -> None:
    environ = {"FUNKER_KEY_FILE": str(key_file)}
    before = find_client_file(environ)
    assert before == find_client_file(environ)
    assert before is not None
    os.utime(key_file, ns=(0, before.written + 1))
    assert find_client_file(environ) != before


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed who may not read the file")
def test_a_key_file_that_may_not_be_read_says_what_to_do(key_file: Path) -> None:
    key_file.chmod(0o600)
    for directory in key_file.parents:
        if "pytest" in str(directory):
            directory.chmod(0o755)
    script = "from funker.rpc.keys import *; import os; os.setuid(65534); client_keys(os.environ)"
    environ = {**os.environ, "FUNKER_KEY_FILE": str(key_file)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert f"Unauthorized: {key_file} can't be read: Permission denied" in done.stderr


@pytest.mark.parametrize(("told", "seconds"), [("", 3.0), ("0", 0.0), ("1.5", 1.5)])
def test_the_wait_for_a_router_is_a_setting(told: str, seconds: float) -> None:
    assert router_wait({"FUNKER_ROUTER_WAIT": told}, 3.0) == seconds


@pytest.mark.parametrize("told", ["-1", "soon", "inf", "nan"])
def test_a_wait_that_is_none_is_refused(told: str) -> None:
    with pytest.raises(FunkerError, match="FUNKER_ROUTER_WAIT: expected a number of seconds"):
        router_wait({"FUNKER_ROUTER_WAIT": told}, 3.0)


def test_new_keys_fit_each_other_and_are_found_by_who_reads_them(tmp_path: Path) -> None:
    router_text, client_text = make_keys(address="10.0.0.1:5571")
    (tmp_path / "router").write_text(router_text)
    (tmp_path / "client").write_text(client_text)
    own = router_keys(str(tmp_path / "router"))
    given = client_keys(environ := {"FUNKER_KEY_FILE": str(tmp_path / "client")})
    assert given is not None
    assert (given.router, frozenset([given.public])) == (own.public, own.allowed)
    assert zmq.curve_public(given.secret) == given.public
    assert zmq.curve_public(own.secret) == own.public
    assert router_address(environ) == "10.0.0.1:5571"
    assert "ROUTER_ADDRESS" not in parse(make_keys()[1])
    assert make_keys() != make_keys()


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
        (CLIENT_KEY.replace(CLIENT, "'" * 40).encode(), "CLIENT_PUBLIC of 40 characters"),
        (CLIENT_KEY.replace(CLIENT, "#" * 40).encode(), "CLIENT_PUBLIC of 40 characters"),
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
    assert "funker up" in caught.value.hint


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
