"""The command line over a local controller, typed by an ordinary user who has no docker."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from funker.backends.local.process import remove_tree

ROOT = Path(__file__).resolve().parents[3]
ADD = ROOT / "examples" / "add"
FUNKER = Path(sys.executable).with_name("funker")
#: Seconds for one command.
PATIENCE = 60.0

ACTS = """
import time


def handle(act, **given):
    print("this is", act, flush=True)
    match act:
        case "raise":
            raise ValueError("too big")
        case "sleep":
            time.sleep(60)
        case "bytes":
            return bytes(range(256))
"""


class Finished(NamedTuple):
    code: int
    out: str
    err: str


class User:
    """Somebody with a home of their own, no privileges, and a PATH with nothing but Python."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state" / "funker"
        self.env = {
            "HOME": str(home),
            "PATH": str(FUNKER.parent),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime" / "python")]),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        # Another user could not even read the interpreter, if root has it to itself.
        strip = [
            shutil.which("setpriv") or "setpriv",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
        ]
        self.command = [*(strip if os.geteuid() == 0 else []), str(FUNKER)]

    def __call__(self, *words: str | Path, stdin: str = "", **variables: str) -> Finished:
        """Types `funker WORDS` and waits for its end."""
        done = subprocess.run(
            [*self.command, *words],
            input=stdin,
            env={**self.env, **variables},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr or "handler.py" in done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str | Path, **options: Any) -> str:
        """The same for what has to succeed; what it prints."""
        done = self(*words, **options)
        assert done.code == 0, done
        return done.out

    def write(self, code: str, name: str) -> Path:
        place = self.home / name
        place.mkdir()
        (place / "handler.py").write_text(textwrap.dedent(code))
        return place

    def processes(self) -> list[str]:
        """The command lines of all that runs for this user's controller."""
        needle = os.fsencode(self.home)
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and needle in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it has just ended
                continue
        return [line for line in found if line]

    def left_behind(self) -> list[str]:
        """What `down` should have taken away, if there is any of it."""
        places = [self.state / name for name in ("run", "sockets", "client-key", "router-key")]
        return [*self.processes(), *(str(place) for place in places if place.exists())]


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    """Not in pytest's own directories: their paths are too long for sockets."""
    home = Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))
    user = User(home)
    try:
        yield user
        user.ok("down", "--backend", "local", "-y")
        left = user.left_behind()
    finally:
        remove_tree(home)
    assert left == []


@pytest.fixture(scope="module")
def up(user: User) -> User:
    """The controller is up; from here on it is found without a flag."""
    assert "started the local controller" in user.ok("up", "--backend", "local")
    return user


@pytest.fixture(scope="module")
def acts(up: User) -> Callable[..., Finished]:
    """Types `funker call acts WORDS`: a function that does what its argument `act` says."""
    up.ok("deploy", up.write(ACTS, "acts"))
    return lambda *words, **options: up("call", "acts", *words, **options)


@pytest.fixture
def add(up: User) -> User:
    """The example is deployed."""
    assert up.ok("deploy", ADD) == "add\n"
    return up


def test_without_a_controller_one_is_told_how_to_get_it(user: User) -> None:
    code, out, err = user("deploy", ADD, "--backend", "local")
    assert (code, out) == (125, "")
    assert "hint: `funker up --backend local`" in err
    code, out, err = user("ls", "--backend", "local")
    assert (code, len(out.splitlines())) == (0, 1)
    assert err == f"backend: local ({user.state})\n"
    code, out, err = user("ls")  # nothing says which, and no engine is here
    assert (code, out) == (125, "")
    assert "funker up --backend local" in err


def test_a_function_s_life_is_typed_as_on_a_swarm(up: User) -> None:
    assert "nothing was changed" in up.ok("up")
    code, out, err = up("deploy", ADD)
    assert (code, out) == (0, "add\n")
    assert "add created: 1 replica of add:" in err
    assert "funker call add x=... y=..." in err
    assert up.ok("call", "add", "x=1", "y=2") == "3\n"

    code, out, err = up("ls")
    assert err.splitlines()[0] == f"backend: local ({up.state})"
    header, row = out.splitlines()
    listed = dict(zip(header.split(), row.split(), strict=False))
    assert (listed["NAME"], listed["REPLICAS"], listed["CALLS"]) == ("add", "1/1", "1")
    assert (listed["ERRORS"], listed["STATUS"]) == ("0", "ok")
    assert up("ls", "--json").err == ""
    assert up.ok("ls", "-q") == "add\n"

    assert '"wanted": 1' in up.ok("inspect", "add")
    calls = up.ok("calls").splitlines()
    assert calls[1].split()[1:3] == ["add", "ok"]
    id = calls[1].split()[0]
    assert f"call {id}" in up("logs", "add", "--call", id).err

    assert up.ok("scale", "add", "2") == "add\n"
    assert up.ok("call", "add", "x=1", "y=2") == "3\n"
    assert up.ok("rm", "add", "-y") == "add\n"
    assert up.ok("ls", "-q") == ""


def test_functions_outlive_their_controller(add: User) -> None:
    out = add.ok("down", "-y")
    assert "stopped the local controller" in out
    assert "1 function stays" in out
    assert add.left_behind() == []
    assert add("call", "add", "x=1", "y=2").code == 125
    add.ok("up", "--backend", "local")
    assert add.ok("call", "add", "x=1", "y=2") == "3\n"


def test_the_log_has_what_every_replica_wrote_and_a_call_s_own_output(
    up: User, acts: Callable[..., Finished]
) -> None:
    assert acts("act=first").code == acts("act=second").code == 0
    lines = up.ok("logs", "acts").splitlines()
    assert [line.rpartition("|")[2].strip() for line in lines[-2:]] == [
        "this is first",
        "this is second",
    ]
    id = up.ok("calls", "acts", "-o", "name").splitlines()[1]
    assert up.ok("logs", "acts", "--call", id) == "this is first\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["act=raise"], 1, "error: function_error: ValueError: too big"),
        (["x=1"], 1, "missing 1 required positional argument: 'act'"),
        (["act=sleep", "--timeout", "0.2"], 124, "error: function_timeout: "),
        (["act=sleep", "--deadline", "0.3"], 124, "error: deadline_exceeded: "),
        (["-d", "{", "-H", "application/json"], 1, "error: function_error: "),
        (["-d", "@/nowhere/at/all"], 2, "error: "),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_line(
    acts: Callable[..., Finished], words: list[str], code: int, said: str
) -> None:
    done = acts(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_a_function_s_error_comes_with_its_traceback_and_output(
    acts: Callable[..., Finished],
) -> None:
    err = acts("act=raise").err
    assert re.search(r"^  replica: acts\.\d+\.", err, re.MULTILINE)
    assert 'raise ValueError("too big")' in err
    assert "this is raise" in err


@pytest.mark.parametrize("command", ["call", "inspect", "logs", "scale", "rm", "rebuild"])
def test_a_misspelled_name_is_told_with_the_nearest(add: User, command: str) -> None:
    more = {"scale": ["2"], "rm": ["-y"]}.get(command, [])
    code, out, err = add(command, "ad", *more)
    assert (code, out) == (127, "")
    assert err.splitlines()[-1] == "hint: Did you mean add?"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["deploy", "no-such"], 2, "no such directory: no-such"),
        (["deploy", "--image", "add", "add"], 2, "image: the local backend has no such thing"),
        (["deploy", str(ADD), "--secret", "key"], 2, "hint: Give a local function a variable"),
        (["deploy", str(ADD), "--limit-memory", "64m"], 2, "limit_memory: "),
        (["deploy", str(ADD), "--replicas", "-1"], 2, "--replicas"),
        (["deploy", str(ADD), "not a name"], 2, "not a name"),
        (["build", str(ADD), "-t", "add:1"], 2, "tag: "),
        (["push", "add", "--registry", "ghcr.io/me"], 2, "push: "),
        (["up", "--publish", "5571"], 2, "publish: "),
        (["ls", "--backend", "local", "--context", "default"], 2, "exclude each other"),
        (["ls", "--backend", "swarm"], 125, "can't reach the local Docker engine"),
    ],
)
def test_what_can_t_be_done_is_refused_and_changes_nothing(
    add: User, words: list[str], code: int, said: str
) -> None:
    before = _lasting(add)
    done = add(*words)
    assert done.code == code, done
    assert said in done.err
    assert _lasting(add) == before


def _lasting(add: User) -> Any:
    """What is known of the function, but for what changes from one moment to the next."""
    (shown,) = json.loads(add.ok("inspect", "add", "-o", "json"))
    del shown["live"]
    return shown


def test_variables_for_an_engine_are_passed_over(add: User) -> None:
    variables = {"FUNKER_BASE": "python:3.12-slim", "FUNKER_REGISTRY": "ghcr.io/me"}
    assert add.ok("deploy", ADD, **variables) == "add\n"
    assert re.fullmatch(r"add:[0-9a-f]{12}\n", add.ok("build", ADD, **variables))
    assert "nothing was changed" in add.ok("up", **variables)


def test_a_broken_handler_is_told_with_its_traceback_and_the_old_one_goes_on(up: User) -> None:
    place = up.write("def handle(): return 1", "fragile")
    up.ok("deploy", place)
    (place / "handler.py").write_text("1 / 0\n")
    code, out, err = up("deploy", place)
    assert (code, out) == (1, "")
    assert "ZeroDivisionError" in err
    assert up.ok("call", "fragile") == "1\n"
    (place / "handler.py").write_text("def handle(:\n")
    code, _, err = up("deploy", place)
    assert code == 2
    assert "handler.py:1" in err
    assert up.ok("rm", "fragile", "-y") == "fragile\n"


def test_rebuild_has_nothing_to_do(add: User) -> None:
    code, out, err = add("rebuild", "add")
    assert (code, out) == (0, "")
    assert "add runs no image" in err
    assert "no function is outdated" in add("rebuild", "--outdated").err


def test_the_client_s_key_is_a_program_s_way_in(add: User) -> None:
    file = add.home / "key"
    file.write_text(add.ok("keys", "--show", "client"))
    program = "import funker; print(funker.call('add', x=1, y=2))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**add.env, "XDG_STATE_HOME": "/nowhere", "FUNKER_KEY_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "3\n", done.stderr


def test_the_shell_completes_the_names_of_local_functions(add: User) -> None:
    completing = {
        "_FUNKER_COMPLETE": "complete_bash",
        "COMP_WORDS": "funker call a",
        "COMP_CWORD": "2",
    }
    assert "add" in add.ok(**completing).split()


def test_a_removal_asks_on_a_terminal(add: User) -> None:
    assert add("rm", "add").code == 2  # nobody to ask
    manager, terminal = pty.openpty()
    with os.fdopen(manager, "r+b", buffering=0) as screen:
        asking = subprocess.Popen(
            [*add.command, "rm", "add"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            env=add.env,
        )
        os.close(terminal)
        seen = b""
        while b"[y/N]" not in seen:
            seen += screen.read(1024)
        screen.write(b"y\n")
        out, _ = asking.communicate(timeout=PATIENCE)
    assert (asking.returncode, out) == (0, b"add\n")
    assert "add" not in add.ok("ls", "-q").split()
