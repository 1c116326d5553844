"""A function's files as they were when it was deployed: what an image is to the swarm.

A snapshot is named by the hash of all that counts, and never changes: editing the source doesn't
touch what runs, and the same source is the same version.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import py_compile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funker.backends.base import BackendError, ImageMissing, Progress
from funker.backends.local import dockerfile, javascript
from funker.backends.local.environments import python_with
from funker.backends.local.process import remove_tree
from funker.backends.local.runtime import new_directory
from funker.backends.local.state import StateDirectory

if TYPE_CHECKING:
    from funker.images.source import Source, SourceFile

#: Seconds for which a snapshot is kept though no function uses it: its deploy may be under way.
KEEP_S = 3600.0

#: The arguments with which an interpreter is a replica; a command may follow.
_SERVE = ("-m", "funker_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a replica needs to run one."""

    directory: Path
    handler: str
    #: The interpreter that has its requirements: Python's, or Node.js.
    interpreter: str
    command: list[str]
    #: Debian packages that it asks for, which nobody installs here.
    packages: tuple[str, ...] = ()


class SourceChanged(BackendError):
    """Raised when a file is not what it was when the source was read."""


def take(
    state: StateDirectory, source: Source, *, environ: Mapping[str, str], progress: Progress
) -> str:
    """The hash of the source's snapshot, which is made unless it is there.

    Raises `BackendError` for what can't run here, or `RequirementsFailed`.
    """
    files = [[f.path, f.kind, f.executable, f.digest] for f in source.files]
    if source.runtime == "node":
        interpreter = javascript.node(environ)
        arguments = [str(javascript.replica(environ, progress) / "main.js")]
        modules = _modules(source, environ, progress)
    else:
        interpreter = _python(source, json.dumps(files), environ, progress)
        arguments = _arguments(source)
        modules = None
    about = {
        "handler": source.handler,
        "interpreter": interpreter,
        "arguments": arguments,
        "packages": list(source.packages),
    }
    text = json.dumps({"files": files, **about}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    manifest = state.code / f"{name}.json"
    with state.errors():
        state.write(manifest, json.dumps(about), mode=0o400)
        if not (state.code / name).exists():
            progress(f"copying {source.name}")
            with new_directory(state.code, name) as directory:
                _copy(directory, source.files)
                if modules is not None:
                    (directory / modules.name).symlink_to(modules)
                _seal(directory)
    return name


def load(state: StateDirectory, name: str) -> Snapshot:
    """Raises `ImageMissing`."""
    directory = state.code / name
    try:
        about: dict[str, Any] = json.loads((state.code / f"{name}.json").read_text("utf-8"))
        snapshot = Snapshot(
            directory=directory,
            handler=str(about["handler"]),
            interpreter=str(about["interpreter"]),
            command=[str(about["interpreter"]), *about["arguments"]],
            packages=tuple(about["packages"]),
        )
    except (OSError, ValueError, KeyError, TypeError):  # or of a version with another form
        raise _missing(directory) from None
    for path in (directory, Path(snapshot.interpreter)):
        if not path.exists():
            raise _missing(path)
    return snapshot


def _missing(path: Path) -> ImageMissing:
    return ImageMissing(f"a part of the function is gone: {path}", hint="Deploy it again.")


def prune(state: StateDirectory, used: set[str]) -> None:
    """Removes snapshots that no function uses."""
    for manifest in state.code.glob("*.json"):
        if manifest.stem not in used and time.time() - manifest.stat().st_mtime > KEEP_S:
            manifest.unlink(missing_ok=True)
            remove_tree(state.code / manifest.stem)


def _python(source: Source, files: str, environ: Mapping[str, str], progress: Progress) -> str:
    if not source.requirements:
        return python_with(None, "", environ=environ, progress=progress)
    file = next(file for file in source.files if file.path == "requirements.txt")
    # A file that names others depends on them; which ones, only pip can tell.
    everything = source.requirements_need_files
    return python_with(
        lambda place: _copy(place, source.files if everything else [file]),
        files if everything else file.digest,
        environ=environ,
        progress=progress,
    )


def _modules(source: Source, environ: Mapping[str, str], progress: Progress) -> Path | None:
    """What a function in JavaScript finds as node_modules; None: it has it all, or needs none."""
    if source.own_dockerfile:
        raise dockerfile.DockerfileTooMuch(
            f"{source.location / 'Dockerfile'}: no engine is here to build it",
            hint="Deploy it to a swarm; or take the Dockerfile away: a handler needs none.",
        )
    if not source.npm:
        return None
    files = [file for file in source.files if file.path in source.npm]
    return javascript.packages(
        lambda place: _copy(place, files),
        json.dumps([file.digest for file in files]),
        lock=len(files) > 1,
        environ=environ,
        progress=progress,
    )


def _arguments(source: Source) -> list[str]:
    """What its interpreter is given."""
    if source.command or not source.own_dockerfile:
        return [*_SERVE, *source.command]
    file = next(file for file in source.files if file.path == "Dockerfile")
    text = file.read().decode(errors="replace")
    entrypoint, command = dockerfile.command(text, where=str(file.location))
    return entrypoint or [*_SERVE, *command]


def _copy(directory: Path, files: Sequence[SourceFile]) -> None:
    for file in files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        match file.kind:
            case "directory":
                target.mkdir(exist_ok=True)
            case "link":
                target.symlink_to(file.digest)
            case _:
                content = file.read()
                if hashlib.sha256(content).hexdigest() != file.digest:
                    raise SourceChanged(f"{file.location} has just changed", hint="Deploy again.")
                target.write_bytes(content)
                target.chmod(0o755 if file.executable else 0o644)


def _seal(directory: Path) -> None:
    """Compiles what is there and makes it all read-only, as an image's files are."""
    # Without this, every replica would compile what it imports: it can't write here.
    compileall.compile_dir(
        directory, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    for place, _, files in os.walk(directory, topdown=False):
        for path in (Path(place, name) for name in files):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
        Path(place).chmod(0o555)
