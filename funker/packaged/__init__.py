"""Files that stand at the top of a clone, and in this directory where the package is installed.

They are for people as much as for this package: `docker build .` and `docker stack deploy` read
the very same ones.
"""

from __future__ import annotations

from pathlib import Path

from funker.rpc.errors import FunkerError

_HERE = Path(__file__).resolve().parent
_TOP = _HERE.parent.parent


def text(name: str) -> str:
    """The contents of one of these files, like `compose.yaml`. Raises `FunkerError`."""
    for directory in (_HERE, _TOP):
        if (file := directory / name).is_file():
            return file.read_text(encoding="utf-8")
    raise FunkerError(
        f"{name} is missing from this installation",
        hint="Install funker-swarm again; in a clone, run from its own environment.",
    )
