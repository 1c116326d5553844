"""What functions in JavaScript run on: the Node.js of this machine, the replica's files with their
library, and what each package.json asks for. Cached like Python's environments.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from funker.backends.base import BackendError, Progress
from funker.backends.local import environments
from funker.spec.runtime import directory_of_node, runtime_files, runtime_version

_QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


class NodeMissing(BackendError):
    """Raised where there is no Node.js, or no npm for what has to be installed."""


def node(environ: Mapping[str, str]) -> str:
    """The Node.js on PATH. Raises `NodeMissing`."""
    found = shutil.which("node", path=environ.get("PATH"))
    if found is None:
        raise NodeMissing(
            "there is no `node` on PATH, and a function in JavaScript needs it",
            hint="Install Node.js 18 or later; or deploy to a swarm, where it is in the image.",
        )
    return found


def replica(environ: Mapping[str, str], progress: Progress) -> Path:
    """The replica's directory, with its library. Raises `NodeMissing` or `RequirementsFailed`."""
    files = runtime_files("node")
    program = node(environ)

    def make(place: Path) -> None:
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        there = directory_of_node() / "node_modules"
        if there.is_dir():  # in a clone, where its tests have it installed
            (place / there.name).symlink_to(there)
        else:
            progress("installing the library of JavaScript replicas: once for all functions")
            _npm(["install", "--ignore-scripts", "--no-package-lock"], place, environ, program)

    return environments.cached(f"{runtime_version(files)}\0{program}", make, environ)


def packages(
    unpack: Callable[[Path], None],
    content: str,
    *,
    lock: bool,
    environ: Mapping[str, str],
    progress: Progress,
) -> Path:
    """The node_modules that a package.json asks for. `unpack` puts it, and its lock file if there
    is one, into a directory; `content` names what counts.

    Raises `NodeMissing` or `RequirementsFailed`.
    """
    program = node(environ)

    def make(place: Path) -> None:
        progress("installing what package.json asks for")
        place.mkdir()
        unpack(place)
        _npm(["ci"] if lock else ["install", "--no-package-lock"], place, environ, program)

    place = environments.cached(f"npm\0{content}\0{program}", make, environ)
    return place / "node_modules"


def _npm(words: list[str], place: Path, environ: Mapping[str, str], program: str) -> None:
    npm = shutil.which("npm", path=environ.get("PATH"))
    # A Node.js that was unpacked somewhere has its npm with it.
    beside = Path(program).resolve().parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    if npm is None and not beside.exists():
        raise NodeMissing("there is no `npm` on PATH", hint="Install it: it comes with Node.js.")
    environments.run(
        [*([npm] if npm else [program, str(beside)]), *words, "--omit=dev", *_QUIET],
        place,
        environ,
        "what package.json asks for can't be installed",
        f"Try it: npm {words[0]}",
    )
