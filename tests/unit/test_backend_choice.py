"""Which backend a command finds, and that nothing but the session asks which one it is."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import funker
from funker.backends.local.state import StateDirectory
from funker.backends.memory import Memory
from funker.cli import main, session
from funker.cli.failures import OK, USAGE

PACKAGE = Path(funker.__file__).parent


class Chosen:
    """What the last command would have been given."""

    which = ""


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chosen:
    """No backend is opened; nothing in the environment says which it should be."""
    for name in ("FUNKER_BACKEND", "FUNKER_CONTEXT", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUNKER_STATE_DIR", str(tmp_path / "state"))
    chosen = Chosen()

    def opened(asking: session.Session, **_: object) -> Memory:
        chosen.which = asking.which()
        return Memory()

    monkeypatch.setattr(session, "open_backend", opened)
    return chosen


@pytest.fixture
def controller(chosen: Chosen) -> Iterator[None]:
    """Something listens where the local controller would."""
    path = Path(StateDirectory.of(os.environ).agent_socket)
    path.parent.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        yield
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("words", "variables", "which"),
    [
        ("ls", {}, "swarm"),
        ("ls", {"FUNKER_BACKEND": "local"}, "local"),
        ("ls --backend local", {}, "local"),
        ("--backend=local ls", {}, "local"),
        ("ls --backend swarm", {"FUNKER_BACKEND": "local"}, "swarm"),
        ("ls --backend local", {"FUNKER_BACKEND": "swarm"}, "local"),
        ("ls --context prod", {"FUNKER_BACKEND": "local"}, "swarm"),
        ("ls --context prod --backend swarm", {}, "swarm"),
        ("ls", {"FUNKER_BACKEND": "local", "FUNKER_CONTEXT": "prod"}, "local"),
        ("ls --backend local", {"FUNKER_CONTEXT": "prod"}, "local"),
    ],
)
def test_what_is_typed_counts_most_then_what_the_environment_says(
    chosen: Chosen, monkeypatch: pytest.MonkeyPatch, words: str, variables: Any, which: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.run(main.hoisted(words.split())) == OK
    assert chosen.which == which


@pytest.mark.usefixtures("controller")
@pytest.mark.parametrize(
    ("words", "variables", "which"),
    [
        ("ls", {}, "local"),
        ("ls", {"DOCKER_HOST": "tcp://elsewhere:2375", "FUNKER_CONTEXT": "prod"}, "local"),
        ("ls --context prod", {}, "swarm"),
        ("ls --backend swarm", {}, "swarm"),
        ("ls", {"FUNKER_BACKEND": "swarm"}, "swarm"),
    ],
)
def test_a_local_controller_that_runs_is_found_unless_another_backend_is_named(
    chosen: Chosen, monkeypatch: pytest.MonkeyPatch, words: str, variables: Any, which: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.run(main.hoisted(words.split())) == OK
    assert chosen.which == which


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("ls --backend local --context prod", "exclude each other"),
        ("ls --backend carrier-pigeon", "'carrier-pigeon'"),
        ("ls --backend", "requires an argument"),
    ],
)
def test_what_can_t_be_meant_is_refused(
    chosen: Chosen, capsys: pytest.CaptureFixture[str], words: str, complaint: str
) -> None:
    assert main.run(main.hoisted(words.split())) == USAGE
    assert complaint in capsys.readouterr().err
    assert chosen.which == ""


def test_a_backend_that_is_chosen_stays_chosen(
    chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = session.Session()
    assert asking.which() is session.Which.SWARM
    monkeypatch.setattr("funker.backends.local.running", lambda _: pytest.fail("asked again"))
    assert asking.which() is session.Which.SWARM


@pytest.mark.parametrize("words", [["ls"], ["inspect", "add"], ["deploy", "--image", "a", "b"]])
def test_a_command_on_the_local_backend_never_loads_docker_s_library(
    tmp_path: Path, words: list[str]
) -> None:
    code = (
        "import sys; from funker.cli import main\n"
        f"main.run({['--backend', 'local', *words]})\n"
        "print(*(name for name in ('docker', 'requests') if name in sys.modules), file=sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FUNKER_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == [], done.stderr


def test_only_the_session_knows_one_backend_from_another() -> None:
    knowing = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("backends/") or name == "cli/session.py":
            continue
        if found := _knowledge(path.read_text()):
            knowing[name] = found
    assert knowing == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from funker.backends.swarm.engine import connect", 1),
        ("import funker.backends.local.state", 1),
        ("from funker.backends import swarm, base", 1),
        ("if backend.name == 'swarm': pass", 1),
        ("match backend.name:\n  case 'local': pass", 1),
        ("x = backend.name in ('swarm', 'local')", 2),
        ("x = {'local': 1}[backend.name]", 1),
        ("isinstance(backend, Local)", 1),
        ("from funker.backends.base import Backend", 0),
        ("'''Where the swarm is, and local is not.'''", 0),
    ],
)
def test_the_look_at_the_modules_sees_what_it_should(code: str, found: int) -> None:
    assert len(_knowledge(code)) == found


def _knowledge(code: str) -> list[str]:
    """What in a module has to do with one backend only: imports, names of classes, its word."""
    found = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.ImportFrom(module="funker.backends", names=names):
                found += [each.name for each in names if each.name in ("swarm", "local")]
            case ast.ImportFrom(module=str(module)) if _is_one_backend_s(module):
                found.append(module)
            case ast.Import(names=names):
                found += [each.name for each in names if _is_one_backend_s(each.name)]
            case ast.Constant(value="swarm" | "local" as word):
                found.append(word)
            case ast.Name(id="Swarm" | "Local" | "Memory" as word):
                found.append(word)
    return found


def _is_one_backend_s(module: str) -> bool:
    return module.startswith(("funker.backends.swarm", "funker.backends.local"))
