"""What every suite may use: the command line as users run it, and functions written on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FUNKER = Path(sys.executable).with_name("funker")
#: Seconds. The longest that one command takes: a first build with the shared layer in it.
COMMAND_TIMEOUT = 300

WriteFunction = Callable[..., Path]


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str
    stdout_bytes: bytes

    @property
    def json(self) -> Any:
        """The standard output, decoded."""
        return json.loads(self.stdout)

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Funker:
    """The installed `funker` command, run as a process of its own."""

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = COMMAND_TIMEOUT,
    ) -> Finished:
        """Run it to its end, whatever that is. `env` goes on top of the environment."""
        done = subprocess.run(
            [FUNKER, *arguments],
            input=b"" if stdin is None else stdin,
            capture_output=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
        stdout = done.stdout.decode(errors="replace")
        return Finished(done.returncode, stdout, done.stderr.decode(errors="replace"), done.stdout)

    def ok(self, *arguments: str | Path, **options: Any) -> Finished:
        """Run it, and fail the test unless it exits with 0."""
        finished = self(*arguments, **options)
        assert finished.code == 0, f"funker {' '.join(map(str, arguments))}: {finished}"
        return finished


@pytest.fixture(scope="session", autouse=True)
def _no_controller_of_the_users() -> Iterator[None]:
    """Whoever runs the tests may have a local controller up, and commands would find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNKER_STATE_DIR", "/nonexistent")
        patch.delenv("FUNKER_BACKEND", raising=False)
        yield


@pytest.fixture(scope="session")
def funker() -> Funker:
    """`funker("call", "add", "x=1")` gives code, stdout and stderr; `funker.ok(...)` insists."""
    return Funker()


@pytest.fixture
def write_function(tmp_path: Path) -> WriteFunction:
    """Write a function's directory: write_function(handler, name=..., files={path: content})."""

    def write(
        handler: str, *, name: str = "function", files: Mapping[str, str | bytes] | None = None
    ) -> Path:
        directory = tmp_path / name
        contents: dict[str, str | bytes] = {"handler.py": handler, **(files or {})}
        for path, content in contents.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return directory

    return write


@pytest.fixture(scope="session")
def examples() -> Path:
    """The directory of the examples."""
    return ROOT / "examples"
