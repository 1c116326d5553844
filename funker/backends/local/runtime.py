"""What a local replica runs on: an interpreter, and a directory with what an image has of ours.

That directory is all of this project (and its libraries) that a function sees: `funker.rpc`, the
replica's runtime and zmq. So a function that works here for what happens to be installed beside
the command line doesn't exist, and its own requirements never meet ours.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

import zmq

from funker.backends.local.process import remove_tree
from funker.backends.local.state import StateDirectory
from funker.spec.runtime import runtime_files, runtime_version

#: Variables of the user's that a replica is given as well; a container has such of its own.
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


@dataclass(frozen=True, slots=True)
class Runtime:
    """`version` is that of the files, which a replica tells the router."""

    version: str
    directory: Path


def interpreter() -> str:
    """The Python that functions run on: ours, without the virtual environment that we are in."""
    return getattr(sys, "_base_executable", "") or sys.executable


def install(state: StateDirectory) -> Runtime:
    """The runtime's directory, made unless it is there; those of other versions are removed."""
    files = runtime_files()
    version = runtime_version(files)
    # Which zmq it links to is no part of the version, but of the directory.
    where = hashlib.sha256(f"{zmq.__file__}\0{sys.version}".encode()).hexdigest()[:8]
    directory = state.runtime / f"{version}-{where}"
    with state.errors():
        if not directory.exists():
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=state.runtime))
            for path, content in files.items():
                target = temporary / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            # Or each of the first replicas would compile it, all at once.
            compileall.compile_dir(
                temporary, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
            )
            for link in _zmq():
                (temporary / link.name).symlink_to(link)
            temporary.replace(directory)
        for other in state.runtime.iterdir():
            if other != directory:
                remove_tree(other)
    return Runtime(version, directory)


def environment(runtime: Runtime, interpreter: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What every replica's environment begins with."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    # A function's programs are those of its environment first, as in an image.
    path = os.pathsep.join([str(Path(interpreter).parent), kept.get("PATH", os.defpath)])
    return {
        **kept,
        "PATH": path,
        "PYTHONPATH": str(runtime.directory),
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _zmq() -> Iterator[Path]:
    package = Path(zmq.__file__).parent
    yield package
    libraries = package.with_name("pyzmq.libs")  # beside it in wheels for Linux
    if libraries.exists():
        yield libraries


@contextlib.contextmanager
def new_directory(parent: Path, name: str) -> Iterator[Path]:
    """A directory that appears under its name when it is complete, or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        yield temporary
        with contextlib.suppress(FileExistsError, OSError):
            temporary.replace(parent / name)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)
