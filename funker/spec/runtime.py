"""What replicas need of this project, whatever runs them, and the version of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import funker
from funker.rpc.errors import FunkerError

#: The variable that tells a replica the version of its runtime.
VARIABLE = "FUNKER_VERSION"
#: Hex digits of a version: 48 bits.
_DIGITS = 12


def runtime_files(language: str = "python") -> dict[str, bytes]:
    """The runtime's files of a language (`exec` is of Python's): nothing of the command line.

    By path: under site-packages for Python, under the runtime's own directory for node.
    """
    if language == "node":
        root = directory_of_node()
        files = sorted([*root.glob("*.js"), root / "package.json"])
        return {path.name: path.read_bytes() for path in files}
    package = Path(funker.__file__).parent
    spec = importlib.util.find_spec("funker_runtime")
    if spec is None or spec.origin is None:
        raise _missing("funker_runtime")
    replica = Path(spec.origin).parent
    paths = {"funker/__init__.py": package / "__init__.py"}
    for root, prefix in ((package / "rpc", "funker/rpc"), (replica, "funker_runtime")):
        for path in sorted(root.rglob("*.py")):
            paths[f"{prefix}/{path.relative_to(root).as_posix()}"] = path
    return {name: path.read_bytes() for name, path in paths.items()}


def directory_of_node() -> Path:
    """Where the runtime's files in JavaScript are: in this package, or beside it in a clone."""
    package = Path(funker.__file__).parent
    for root in (package / "packaged" / "node", package.parent / "runtime" / "node"):
        if root.is_dir():
            return root
    raise _missing("runtime/node")


def _missing(what: str) -> FunkerError:
    return FunkerError(
        f"the replica's runtime ({what}) is missing from this installation",
        hint="Install funker-swarm again; in a clone, run from its own environment.",
    )


def runtime_version(files: Mapping[str, bytes]) -> str:
    """The version of these files: the beginning of a hash over their paths and contents."""
    digests = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:_DIGITS]


@cache
def current_version(language: str = "python") -> str:
    """The version of the runtime that functions get here and now. A replica tells it as its own."""
    return runtime_version(runtime_files(language))


def is_current(version: str) -> bool:
    """Whether a replica's version is that of the runtime which it would get here and now."""
    return version in (current_version(), current_version("node"))
