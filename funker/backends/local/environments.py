"""What functions may import: a virtual environment for each requirements.txt, cached; for those in
JavaScript, what npm installs for each package.json.

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
    place = cached(about, lambda place: _make(place, unpack, environ, progress), environ)
    return str(place / "bin" / "python3")


def cached(about: str, make: Callable[[Path], None], environ: Mapping[str, str]) -> Path:
    """The directory of what `about` names, made there unless it is complete.

    Raises `RequirementsFailed`, or what `make` raises.
    """
    key = hashlib.sha256(about.encode()).hexdigest()[:20]
    place = _cache(environ) / key
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / _COMPLETE).exists():
                if place.exists():  # half of one
                    shutil.rmtree(place)
                make(place)
                (place / _COMPLETE).touch()
    except OSError as error:
        raise RequirementsFailed(
            f"the cache of environments can't be used: {error}",
            hint="Make it writable, free space, or choose another with XDG_CACHE_HOME.",
        ) from error
    return place


def _make(
    place: Path,
    unpack: Callable[[Path], None] | None,
    environ: Mapping[str, str],
    progress: Progress,
) -> None:
    environ = {name: value for name, value in environ.items() if name not in _FOREIGN}
    run(
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


def _install(place: Path, source: Path, environ: Mapping[str, str]) -> None:
    pip = [str(place / "bin" / "python3"), "-m", "pip", "install", "--disable-pip-version-check"]
    run(
        [*pip, "--no-input", "--quiet", "--requirement", "requirements.txt"],
        source,
        environ,
        "the requirements can't be installed",
        "Try it: pip install -r requirements.txt",
    )


def run(
    command: list[str], directory: Path, environ: Mapping[str, str], failure: str, hint: str
) -> None:
    """Run what installs something. Raises `RequirementsFailed`, with what it said last."""
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
