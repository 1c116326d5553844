"""What functions may import: a virtual environment for each requirements.txt, cached.

Those without requirements share an empty one: no function sees what is installed beside the
command line, or in the system, and breaks where that isn't.

Under $XDG_CACHE_HOME/funker/envs; safe to delete while nothing is deployed. One is made in place,
under a lock, and counts when it has its mark: what pip writes holds absolute paths, so that an
environment can't be made elsewhere and moved.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from funker.backends.base import BackendError, Progress
from funker.backends.local.runtime import interpreter

#: Lines of pip's output that an error shows.
_TAIL = 20
_COMPLETE = ".complete"
#: Variables that would make the new environment's Python another one.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


class RequirementsFailed(BackendError):
    """Raised when a function's requirements can't be installed. `output` is what pip said last."""

    def __init__(self, message: str, *, hint: str = "", output: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output


def python_with(
    unpack: Callable[[Path], None] | None,
    content: str,
    *,
    environ: Mapping[str, str],
    progress: Progress,
) -> str:
    """An interpreter that has what a requirements.txt asks for; `content` names what counts.

    `unpack` puts that file, and what it refers to, into a directory, which pip may write to.
    Without it, the interpreter has nothing.
    Raises `RequirementsFailed`.
    """
    about = "\0".join([content, sys.version, interpreter()])
    key = hashlib.sha256(about.encode()).hexdigest()[:20]
    place = _cache(environ) / key
    python = place / "bin" / "python3"
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / _COMPLETE).exists():
                _make(place, unpack, environ, progress)
    except OSError as error:
        raise RequirementsFailed(
            f"the cache of environments can't be used: {error}",
            hint="Make it writable, free space, or choose another with XDG_CACHE_HOME.",
        ) from error
    return str(python)


def _make(
    place: Path,
    unpack: Callable[[Path], None] | None,
    environ: Mapping[str, str],
    progress: Progress,
) -> None:
    environ = {name: value for name, value in environ.items() if name not in _FOREIGN}
    if place.exists():  # half of one
        shutil.rmtree(place)
    _run(
        [interpreter(), "-m", "venv", *([] if unpack else ["--without-pip"]), str(place)],
        place.parent,
        environ,
        "a virtual environment can't be made",
        "The Python that runs this needs its module venv (on Debian: python3-venv).",
    )
    if unpack is not None:
        progress("installing the requirements")
        with tempfile.TemporaryDirectory(prefix=".source-", dir=place.parent) as source:
            unpack(Path(source))
            _install(place, Path(source), environ)
    (place / _COMPLETE).touch()


def _install(place: Path, source: Path, environ: Mapping[str, str]) -> None:
    pip = [str(place / "bin" / "python3"), "-m", "pip", "install", "--disable-pip-version-check"]
    _run(
        [*pip, "--no-input", "--quiet", "--requirement", "requirements.txt"],
        source,
        environ,
        "the requirements can't be installed",
        "Try it: pip install -r requirements.txt",
    )


def _run(
    command: list[str], directory: Path, environ: Mapping[str, str], failure: str, hint: str
) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        output = "\n".join(done.stdout.splitlines()[-_TAIL:])
        raise RequirementsFailed(f"{failure}:\n{output}", hint=hint, output=output)


def _cache(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CACHE_HOME") or ""
    if not home.startswith("/"):  # relative ones are to be ignored, says the XDG
        home = f"{environ.get('HOME') or Path.home()}/.cache"
    return Path(os.path.abspath(home)) / "funker" / "envs"  # noqa: PTH100
