"""The state directory of the local backend: who holds it, and what may be wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from funker.backends.base import BackendError
from funker.backends.local import running
from funker.backends.local.state import StateDirectory, StateUnusable
from funker.rpc.keys import _local_file

ADD = "def handle(x, y): return x + y"


def _agent(machine: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "funker.backends.local.agent"],
        env=machine.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_second_agent_says_who_holds_the_directory(up: Any) -> None:
    second = _agent(up)
    assert second.returncode == 1
    assert f"process {up.status()['pid']} holds {up.root}/lock" in second.stderr
    assert "Traceback" not in second.stderr
    assert up.up() == []


def test_bringing_it_up_twice_at_once_makes_one(machine: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as threads:
        changes = list(threads.map(lambda _: machine.up(), range(3)))
    assert all(len(change) <= 1 for change in changes)
    machine.deploy(ADD)
    assert machine.call(x=1, y=2) == 3


def test_files_of_a_controller_that_is_no_more_are_no_hindrance(machine: Any) -> None:
    machine.state.create()
    machine.state.make_room()
    machine.state.lock.write_text(f"process {os.getpid()}\n")
    machine.state.controller.write_text('{"pid": 1}')
    Path(machine.state.agent_socket).touch()
    (machine.state.run / "add.1.000000000000").mkdir()
    (machine.state.run / "add.1.000000000000.lock").write_text('{"pid": 1, "worker": 1}')
    (machine.state.functions / "broken.json").write_text("{")
    machine.up()
    machine.deploy(ADD)
    assert machine.call(x=1, y=2) == 3
    assert not list(machine.state.run.glob("add.1.000000000000*"))


def test_running_is_told_quickly_and_rightly(machine: Any) -> None:
    assert not running(machine.environ)
    machine.up()
    started = time.perf_counter()
    assert running(machine.environ)
    assert time.perf_counter() - started < 0.05
    machine.kill_all()
    machine.until(lambda: not running(machine.environ), "the end of its socket")


def test_only_its_owner_can_enter(up: Any) -> None:
    up.deploy(ADD)
    assert up.root.stat().st_mode & 0o777 == 0o700
    for file in (up.state.client_key, up.state.router_key, *up.state.functions.glob("*.json")):
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_too_long_for_sockets_is_none_for_functions(machine: Any) -> None:
    root = machine.sources / ("long" * 30) / "state"
    other = type(machine)(root, machine.sources)
    assert other.state.sockets.parent == Path("/tmp")
    other.up()
    try:
        other.deploy(ADD)
        assert other.call(x=1, y=2) == 3
    finally:
        other.down()
    assert other.is_clear()


def test_a_directory_for_sockets_that_others_can_enter_is_refused(machine: Any) -> None:
    state = StateDirectory(machine.sources / ("wide" * 30))
    state.sockets.mkdir(mode=0o755)
    try:
        state.create()
        with pytest.raises(StateUnusable, match="isn't private"):
            state.make_room()
    finally:
        state.sockets.rmdir()


@pytest.mark.parametrize("place", ["/proc/funker", "/dev/null/funker"])
def test_a_directory_that_cant_be_written_is_told(place: str) -> None:
    state = StateDirectory(Path(place))
    with pytest.raises(StateUnusable, match=place) as refused:
        state.create()
    assert "FUNKER_STATE_DIR" in refused.value.hint
    assert isinstance(refused.value, BackendError)


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"FUNKER_STATE_DIR": "/a/b"}, "/a/b"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/funker"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/funker"),
        ({"HOME": "/h"}, "/h/.local/state/funker"),
    ],
)
def test_the_directory_is_found_as_the_xdg_says(environ: dict[str, str], root: str) -> None:
    assert StateDirectory.of(environ).root == Path(root)
    assert _local_file(environ) == f"{root}/client-key"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"python": 1}'])
def test_a_function_whose_code_has_another_form_is_told_of(machine: Any, text: str) -> None:
    machine.up()
    machine.deploy(ADD)
    (manifest,) = machine.state.code.glob("*.json")
    machine.down()
    manifest.chmod(0o600)
    manifest.write_text(text)
    machine.up()
    machine.until(lambda: machine.backend.find("add").warnings, "a warning")
    assert "a part of the function is gone" in machine.backend.find("add").warnings[0]
    machine.deploy(ADD)
    assert machine.call(x=1, y=2) == 3


def test_asking_for_a_controller_loads_nothing_heavy() -> None:
    code = (
        "import sys, funker.backends.local as l; l.running({'HOME': '/nowhere'}); "
        "sys.exit(bool({'pydantic', 'docker', 'zmq', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
