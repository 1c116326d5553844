"""The runtimes that the suite holds to the contract (docs/runtimes.md): one entry for each.

A new one needs an entry here and a function in its language that does what `acts/python/handler.py`
does. Where an entry differs from the defaults below, that difference is documented.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACTS = Path(__file__).parent / "acts"


@dataclass(frozen=True)
class Runtime:
    """How a replica of one runtime and isolation is started, and what is its own way."""

    name: str
    isolation: str
    #: Starts one replica, in a directory with the acts in it.
    command: tuple[str, ...]
    #: The acts' directory; the values of FUNKER_HANDLER for what can't be loaded.
    acts: str
    environment: dict[str, str] = field(default_factory=dict)
    #: What FUNKER_HANDLER (or what `unloadable_in` names) is to be for a handler that raises when
    #: it is loaded, and for one that isn't there.
    handler_variable: str = "FUNKER_HANDLER"
    broken: str = ""
    absent: str = ""
    #: Answers have the content type of the value that was returned.
    typed: bool = True
    #: The code of a call whose handler ends its process with a status that isn't 0.
    exits: str = "function_crashed"
    #: Ending with status 0 before anything was answered is no answer.
    silence_is_a_crash: bool = True
    #: An error has the name of the exception and the stack.
    raises: bool = True

    @property
    def id(self) -> str:
        return f"{self.name}-{self.isolation}"

    @property
    def once(self) -> bool:
        """One call, and the replica's process ends."""
        return self.isolation == "container"

    def missing(self) -> str:
        """What this machine lacks for it; empty: nothing."""
        program = self.command[0]
        return "" if shutil.which(program) else f"there is no {program}"


PYTHON = {
    "command": (sys.executable, "-m", "funker_runtime"),
    "acts": "python",
    "environment": {"PYTHONPATH": f"{ROOT}:{ROOT / 'runtime' / 'python'}"},
    "broken": "broken:handle",
    "absent": "absent:handle",
}

NODE = {
    "command": ("node", str(ROOT / "runtime" / "node" / "main.js")),
    "acts": "node",
    "broken": "broken:handle",
    "absent": "absent:handle",
}

RUNTIMES = [
    Runtime("python", "container", **PYTHON),  # type: ignore[arg-type]
    Runtime("node", "container", **NODE),  # type: ignore[arg-type]
    Runtime("node", "process", **NODE),  # type: ignore[arg-type]
]
