"""A local controller of the test's own, with real processes; nothing may be left of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from funker.backends.base import ControlPlane, Deployment
from funker.backends.local import control
from funker.backends.local.backend import Local
from funker.backends.local.state import StateDirectory
from funker.images.source import read_source
from funker.rpc.client import decode_value, encode_value, invoke
from funker.rpc.errors import CallError
from funker.spec import FunctionSpec

#: Seconds. Proves that something ends; nothing here takes nearly as long.
PATIENCE = 30.0
FUNKER = Path(sys.executable).with_name("funker")


class Machine:
    """The backend for one state directory, and a look at what runs for it."""

    def __init__(self, root: Path, sources: Path) -> None:
        self.root = root
        self.sources = sources
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
        self.environ = {
            **kept,
            "FUNKER_STATE_DIR": str(root),
            "XDG_CACHE_HOME": str(sources / "cache"),
        }
        self.state = StateDirectory(root)
        self.backend = Local(self.environ)

    def up(self) -> list[str]:
        return self.backend.up(ControlPlane())

    def down(self) -> list[str]:
        return self.backend.down()

    def write(self, code: str, name: str = "add", **files: str) -> Path:
        """A function's source; `files` are more of it, by name without dots: requirements_txt."""
        place = self.sources / name
        place.mkdir(exist_ok=True)
        (place / "handler.py").write_text(textwrap.dedent(code))
        for file, text in files.items():
            (place / file.replace("_", ".")).write_text(text)
        return place

    def deploy(self, code: str, name: str = "add", **spec: Any) -> Deployment:
        return self.deploy_source(self.write(code, name), name, **spec)

    def deploy_source(self, place: Path, name: str = "add", **spec: Any) -> Deployment:
        prepared = self.backend.prepare(read_source(place, name=name))
        return self.backend.deploy(
            FunctionSpec(name=name, image=prepared.image, image_name=prepared.image_name, **spec)
        )

    def call(
        self,
        function: str = "add",
        value: Any = None,
        /,
        deadline: float = PATIENCE,
        **arguments: Any,
    ) -> Any:
        with self.backend.transport() as transport:
            content_type, body = encode_value(arguments if value is None else value)
            answer = invoke(transport, function, body, content_type, deadline=deadline)
        return decode_value(answer.content_type, answer.body or b"")

    def call_later(self, function: str = "add", /, **arguments: Any) -> Callable[[], Any]:
        """Makes a call in a thread; what is returned waits for its answer."""
        answers: list[Any] = []

        def call() -> None:
            try:
                answers.append(self.call(function, **arguments))
            except CallError as error:
                answers.append(error)

        thread = threading.Thread(target=call)
        thread.start()

        def wait() -> Any:
            thread.join(PATIENCE)
            assert answers, "the call has no answer"
            return answers[0]

        return wait

    def status(self) -> dict[str, Any]:
        return control.ask(self.state, "status")

    def replicas(self, name: str = "add") -> list[dict[str, Any]]:
        replicas: list[dict[str, Any]] = self.status()["functions"][name]["replicas"]
        return replicas

    def until(self, condition: Callable[[], object], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, f"never came: {what}"
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """All that have the state directory in their environment, but for this one."""
        return processes_with(os.fsencode(self.root))

    def kill_all(self) -> None:
        """kill -9 of everything."""
        while processes := self.processes():
            for pid in processes:
                kill(pid)

    def is_clear(self) -> bool:
        """Whether nothing is left of a controller: no process, socket, key or scratch."""
        places = (self.state.run, self.state.sockets, self.state.client_key, self.state.controller)
        return not self.processes() and not any(place.exists() for place in places)


class Command:
    """A `funker` command in the foreground, with directories of its own for all that it keeps."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._started: list[subprocess.Popen[str]] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
        self.environ = {
            **kept,
            "TMPDIR": str(place / "tmp"),
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_STATE_HOME": str(place / "state"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "PYTHONUNBUFFERED": "1",
        }
        for name in ("tmp", "cache", "state"):
            (place / name).mkdir()

    def write(self, code: str, name: str = "add", file: str = "handler.py") -> Path:
        directory = self.place / name
        directory.mkdir(exist_ok=True)
        (directory / file).write_text(textwrap.dedent(code))
        return directory

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [FUNKER, *words],
            env={**self.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """A command that goes on, once it has said how to call the function."""
        process = self.spawn(*words)
        self.told("Call it", "in Python")
        return process

    def spawn(self, *words: str | Path) -> subprocess.Popen[str]:
        """A command that goes on."""
        with (self.place / "stdout").open("w") as out, (self.place / "stderr").open("w") as err:
            process = subprocess.Popen(
                [FUNKER, *words],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
            )
        self._started.append(process)
        return process

    @property
    def stdout(self) -> str:
        return (self.place / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.place / "stderr").read_text()

    def told(self, *texts: str, times: int = 1) -> None:
        """Waits until it has said all this to the person."""
        give_up = time.monotonic() + PATIENCE
        while any(self.stderr.count(text) < times for text in texts):
            assert time.monotonic() < give_up, f"never said: {texts}\n{self.stderr}"
            time.sleep(0.02)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`funker call` as it said that it can be typed elsewhere."""
        (variable,) = re.findall(r"^  (FUNKER_STATE_DIR=\S+) funker call ", self.stderr, re.M)
        name, _, value = variable.partition("=")
        return self.run("call", *words, **{name: value})

    def ended(self, process: subprocess.Popen[str]) -> int:
        """The exit code; nothing may be left by then."""
        code = process.wait(PATIENCE)
        assert self.is_clear(), (self.processes(), list((self.place / "tmp").iterdir()))
        return code

    def processes(self) -> list[int]:
        return processes_with(os.fsencode(self.place / "tmp"))

    def is_clear(self) -> bool:
        """Whether neither processes nor files are left. (The cache may stay.)"""
        places = (self.place / "tmp", self.place / "state")
        return not self.processes() and not any(any(place.iterdir()) for place in places)

    def clear(self) -> None:
        while processes := self.processes():
            for pid in processes:
                kill(pid)
        for process in self._started:
            process.wait()


def processes_with(needle: bytes) -> list[int]:
    """All with this in their environment, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environ = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has just ended
            continue
        if needle in environ and state != "Z":
            found.append(int(entry.name))
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Not in pytest's own directories: their paths are too long for sockets."""
    with _machine() as machine:
        yield machine


class _machine:  # noqa: N801
    def __enter__(self) -> Machine:
        self._place = Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))
        self._machine = Machine(self._place / "state", self._place)
        return self._machine

    def __exit__(self, *_: object) -> None:
        machine = self._machine
        try:
            machine.down()
            clear = machine.is_clear()
            left = machine.processes()
        finally:
            log = machine.state.agent_log
            print(log.read_text() if log.exists() else "no log")
            machine.kill_all()
            shutil.rmtree(self._place)
        assert clear, f"left behind: {left}"


@pytest.fixture
def up(machine: Machine) -> Machine:
    """A controller that is up."""
    machine.up()
    return machine


@pytest.fixture
def command() -> Iterator[Command]:
    """`funker run` and `funker dev`, of which nothing may be left."""
    place = Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))
    command = Command(place)
    try:
        yield command
    finally:
        command.clear()
        shutil.rmtree(place)
