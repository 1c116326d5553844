"""The runtimes that the suite holds to the contract (docs/runtimes.md): one entry for each.

A new one needs an entry here and a function in its language that does what `acts/python/handler.py`
does. Where an entry differs from the defaults below, that difference is documented.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACTS = Path(__file__).parent / "acts"
NODE = ROOT / "runtime" / "node"


@dataclass(frozen=True)
class Runtime:
    """How a replica of one runtime and isolation is started, and what is its own way."""

    name: str
    isolation: str
    #: Starts one replica, in a directory with the files of `acts` in it.
    command: tuple[str, ...]
    #: Directories in `acts/`.
    acts: tuple[str, ...]
    #: The variable that names the handler, and its values for one that raises when it is loaded
    #: and for one that isn't there.
    handler_variable: str
    broken: str
    absent: str
    environment: Mapping[str, str] = field(default_factory=dict)
    #: It has the same front as another entry: what only the front does is tested there.
    borrows_front: bool = False
    #: What has to be there beside the command; else the runtime is skipped.
    needs: Path | None = None
    #: Answers have the content type of the value that was returned.
    typed: bool = True
    #: An error has the exception's name and stack.
    raises: bool = True
    #: The code of a call whose handler ends its process with a status that isn't 0.
    exits: str = "function_crashed"
    #: Ending with status 0 before anything was answered is no answer.
    silence_is_a_crash: bool = True

    @property
    def id(self) -> str:
        return f"{self.name}-{self.isolation}"

    @property
    def once(self) -> bool:
        """One call, and the replica's process ends."""
        return self.isolation == "container"

    def missing(self) -> str:
        """What this machine lacks for it; empty: nothing."""
        if shutil.which(self.command[0]) is None:
            return f"there is no {self.command[0]}"
        if self.needs is not None and not self.needs.exists():
            return f"there is no {self.needs}: scripts/test installs it"
        return ""


def _python(isolation: str) -> Runtime:
    return Runtime(
        name="python",
        isolation=isolation,
        command=(sys.executable, "-m", "funker_runtime"),
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'runtime' / 'python'}"},
        acts=("python",),
        handler_variable="FUNKER_HANDLER",
        broken="broken:handle",
        absent="absent:handle",
    )


def _exec(isolation: str) -> Runtime:
    python = _python(isolation)
    return replace(
        python,
        name="exec",
        borrows_front=True,
        environment={**python.environment, "FUNKER_COMMAND": "./act"},
        acts=("python", "exec"),
        handler_variable="FUNKER_COMMAND",
        broken="./broken",
        absent="./absent",
        typed=False,  # bytes are all that a program writes
        raises=False,
        exits="function_error",
        silence_is_a_crash=False,
    )


def _node(isolation: str) -> Runtime:
    node = Path(sys.executable).with_name("node")  # the clone's own, if it is there
    return Runtime(
        name="node",
        isolation=isolation,
        command=(str(node) if node.exists() else "node", str(NODE / "main.js")),
        acts=("node",),
        handler_variable="FUNKER_HANDLER",
        broken="broken:handle",
        absent="absent:handle",
        needs=NODE / "node_modules" / "zeromq",
    )


RUNTIMES = [
    _python("container"),
    _python("process"),
    _exec("container"),
    _exec("process"),
    _node("container"),
    _node("process"),
]
