"""Which engine is meant, and the way to it through ssh. No engine."""

from __future__ import annotations

import gc
import hashlib
import json
import socket
import stat
import warnings
from pathlib import Path

import pytest

from funker.backends.base import EngineUnavailable, UnknownContext
from funker.backends.swarm.contexts import endpoint
from funker.backends.swarm.engine import connect
from funker.backends.swarm.ssh import Tunnel, arguments


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A Docker config directory with the contexts `prod` and `broken`."""
    _context(tmp_path, "prod", {"docker": {"Host": "ssh://me@prod", "SkipTLSVerify": False}})
    _context(tmp_path, "broken", {"kubernetes": {}})
    return tmp_path


def _context(directory: Path, name: str, endpoints: dict[str, object]) -> None:
    identity = hashlib.sha256(name.encode()).hexdigest()
    home = directory / "contexts" / "meta" / identity
    home.mkdir(parents=True)
    (home / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoints}))


def test_the_order_is_flag_then_host_then_variable_then_config(config: Path) -> None:
    (config / "config.json").write_text('{"currentContext": "prod"}')
    base = {"DOCKER_CONFIG": str(config)}
    host = {**base, "DOCKER_HOST": "tcp://other:2375"}
    assert endpoint(None, base).host == "ssh://me@prod"
    assert endpoint("default", base).host is None
    assert endpoint(None, {**base, "DOCKER_CONTEXT": "default"}).host is None
    assert endpoint(None, {**host, "DOCKER_CONTEXT": "prod"}).host == "tcp://other:2375"
    assert endpoint("prod", host).host == "ssh://me@prod"


def test_without_any_config_it_is_the_local_socket(tmp_path: Path) -> None:
    assert endpoint(None, {"DOCKER_CONFIG": str(tmp_path)}).host is None


@pytest.mark.parametrize("how", ["flag", "variable", "config"])
def test_an_unknown_context_is_an_error_however_it_is_named(config: Path, how: str) -> None:
    environ = {"DOCKER_CONFIG": str(config)}
    flag = "pord" if how == "flag" else None
    if how == "variable":
        environ["DOCKER_CONTEXT"] = "pord"
    if how == "config":
        (config / "config.json").write_text('{"currentContext": "pord"}')
    with pytest.raises(UnknownContext, match="pord") as caught:
        endpoint(flag, environ)
    assert caught.value.hint == "Did you mean prod?"


def test_a_context_that_can_t_be_used_is_an_error_too(config: Path) -> None:
    environ = {"DOCKER_CONFIG": str(config)}
    with pytest.raises(UnknownContext, match="no docker endpoint"):
        endpoint("broken", environ)
    (config / "config.json").write_text("{")
    with pytest.raises(UnknownContext, match=r"config\.json"):
        endpoint(None, environ)


def test_a_context_s_certificates_are_used(config: Path) -> None:
    _context(config, "tls", {"docker": {"Host": "tcp://a:2376", "SkipTLSVerify": True}})
    identity = hashlib.sha256(b"tls").hexdigest()
    home = config / "contexts" / "tls" / identity / "docker"
    home.mkdir(parents=True)
    for part in ("ca", "cert", "key"):
        (home / f"{part}.pem").write_text(part)
    tls = endpoint("tls", {"DOCKER_CONFIG": str(config)}).tls
    assert tls is not None
    assert tls.cert == (str(home / "cert.pem"), str(home / "key.pem"))
    assert tls.verify is False


def test_where_no_engine_listens_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    engine = connect()
    with warnings.catch_warnings():
        # docker-py leaves the socket that found nobody to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(EngineUnavailable, match=r"no\.sock") as caught:
            engine.require_manager()
        assert "DOCKER_HOST" in caught.value.hint
        del caught
        gc.collect()
    engine.close()


@pytest.mark.parametrize(
    ("url", "tail"),
    [
        ("ssh://prod", ["--", "prod", "docker system dial-stdio"]),
        (
            "ssh://me@prod:2222",
            ["-l", "me", "-p", "2222", "--", "prod", "docker system dial-stdio"],
        ),
        (
            "ssh://prod/run/user's.sock",
            [
                "--",
                "prod",
                "docker --host 'unix:///run/user'\"'\"'s.sock' system dial-stdio",
            ],
        ),
    ],
)
def test_an_ssh_address_becomes_the_command_that_docker_uses(url: str, tail: list[str]) -> None:
    assert arguments(url)[-len(tail) :] == tail


@pytest.mark.parametrize("url", ["ssh://", "ssh://a:port", "ssh://me:secret@a", "ssh://a?x=1"])
def test_what_is_no_ssh_address_is_refused(url: str) -> None:
    with pytest.raises(EngineUnavailable, match="no ssh address"):
        arguments(url)


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory first on the PATH for a program `ssh`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory / "ssh"


def _write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def _connect(tunnel: Tunnel) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(tunnel.address.removeprefix("unix://"))
    return client


def test_a_tunnel_carries_bytes_both_ways_and_the_end_of_one_way(fake_ssh: Path) -> None:
    _write(fake_ssh, "cat; echo end")
    tunnel = Tunnel("ssh://prod")
    with _connect(tunnel) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"end\n"
    tunnel.close()
    tunnel.close()
    assert not Path(tunnel.address.removeprefix("unix://")).parent.exists()


def test_only_its_user_may_go_through_a_tunnel(fake_ssh: Path) -> None:
    _write(fake_ssh, "cat")
    tunnel = Tunnel("ssh://prod")
    directory = Path(tunnel.address.removeprefix("unix://")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    tunnel.close()


def test_what_ssh_complains_of_is_told(fake_ssh: Path) -> None:
    _write(fake_ssh, "echo 'Permission denied (publickey).' >&2; exit 255")
    tunnel = Tunnel("ssh://prod")
    with _connect(tunnel) as client:
        assert client.recv(1) == b""
        assert tunnel.complaint() == "Permission denied (publickey)."
    tunnel.close()


def test_closing_a_tunnel_ends_its_ssh(fake_ssh: Path) -> None:
    _write(fake_ssh, "exec cat")
    tunnel = Tunnel("ssh://prod")
    with _connect(tunnel) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        tunnel.close()
        assert client.recv(1) == b""
