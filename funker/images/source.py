"""What a function is made of: reads a directory (or a single file) into a `Source`, builds nothing.

What counts is content: sorted paths, bytes, link targets and the executable bit. Times, owners
and the other permission bits don't, so that every clone of a repository is the same source, and
so that a private umask can't make a file that the function's own user may not read.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import stat
import warnings
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from funker.images.entry import (
    DEFAULT_HANDLER,
    SUFFIXES,
    Runtime,
    SourceError,
    check_handler,
    check_runtime,
    find_entry,
    parse_command,
)
from funker.images.script import dependencies
from funker.spec.values import check_name

#: Left out wherever it lies, unless `.dockerignore` asks for it with `!`: what tools write beside
#: the source. A stale `__pycache__` would also be trusted by an interpreter that doesn't look at
#: times, and each local run would make the function another one.
ALWAYS_IGNORED = (
    "**/__pycache__",
    "**/.git",
    "**/.venv",
    "**/.mypy_cache",
    "**/.pytest_cache",
    "**/.ruff_cache",
    "**/.DS_Store",
)

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.\-]+(?::[a-z0-9]+)?(?:[=/][A-Za-z0-9.+:~\-]+)?")
_NEEDS_FILES = re.compile(r"(?m)^\s*(?:-[cefr]|--(?:constraint|editable|find-links|requirement)\b"
                          r"|\.{0,2}/|\.\s*$|\.\[|file:|[^#\n]*@\s*file:)")  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """One entry of a source. `digest` is the SHA-256 of a file's content, or a link's target.

    `content` is that of a file that lies nowhere: what another file, `location`, asks for.
    """

    path: str  # relative to the source, with slashes
    kind: Literal["file", "directory", "link"]
    executable: bool
    digest: str
    location: Path
    content: bytes | None = None

    def read(self) -> bytes:
        """The content of a file."""
        return self.location.read_bytes() if self.content is None else self.content


@dataclass(frozen=True)
class Source:
    """A function as its author wrote it."""

    location: Path  # as its user spelled it, for messages
    name: str
    handler: str  # `module:callable`
    handler_file: str | None  # relative to the source; None only with a Dockerfile of its own
    files: tuple[SourceFile, ...]  # sorted by path
    packages: tuple[str, ...]  # Debian packages
    requirements: bool
    requirements_need_files: bool  # `-r base.txt`, `./wheels/x.whl`: more than the one file
    own_dockerfile: bool
    runtime: Runtime = "python"
    command: tuple[str, ...] = ()  # of an `exec` source; empty: its Dockerfile's
    npm: tuple[str, ...] = ()  # what npm installs from: package.json, package-lock.json


def read_source(
    path: Path | str,
    *,
    name: str | None = None,
    handler: str | None = None,
    runtime: str | None = None,
    command: str | None = None,
) -> Source:
    """The source at `path`: a directory with a handler or a Dockerfile, or one file.

    What is run is found by the files (see `entry`), or said. The function's name defaults to that
    of the directory or file. Raises `SourceError`, or `SpecError` for a name that can't be a
    function's.
    """
    location = Path(path)
    if location.is_file():
        told = check_runtime(runtime, command)
        if location.suffix == ".py" and told in (None, "python") and command is None:
            return _read_file(location, name=name, handler=handler)
        if location.suffix in SUFFIXES["node"] and told in (None, "node") and command is None:
            return _read_module(location, name=name, handler=handler)
        if told in (None, "exec"):
            return _read_program(location, name=name, command=command)
    if not location.is_dir():
        raise _missing(location)
    name = check_name(name or location.resolve().name)
    try:
        files = select_files(location)
    except OSError as exc:
        raise SourceError(f"can't read {exc.filename}: {exc.strerror}") from exc
    paths = {file.path for file in files if file.kind != "directory"}
    own_dockerfile = "Dockerfile" in paths
    entry = find_entry(
        location,
        {file.path: file.executable for file in files if file.kind != "directory"},
        handler=handler,
        runtime=runtime,
        command=command,
    )
    if not own_dockerfile:  # the engine needs it; in an image that we write it has no job
        files = tuple(file for file in files if file.path != ".dockerignore")
    npm = _npm(location, paths) if entry.runtime == "node" else ()
    if npm:  # they are installed in the image, for its system
        files = tuple(file for file in files if file.path.partition("/")[0] != "node_modules")
    requirements = _read_text(location / "requirements.txt") if "requirements.txt" in paths else ""
    packages = _read_text(location / "packages.txt") if "packages.txt" in paths else ""
    return Source(
        location=location,
        name=name,
        handler=entry.handler,
        handler_file=entry.file,
        files=files,
        packages=parse_packages(packages, where=str(location / "packages.txt")),
        requirements=bool(requirements.strip()),
        requirements_need_files=_NEEDS_FILES.search(requirements) is not None,
        own_dockerfile=own_dockerfile,
        runtime=entry.runtime,
        command=entry.command,
        npm=npm,
    )


def select_files(root: Path) -> tuple[SourceFile, ...]:
    """What `.dockerignore` lets through, sorted. Sockets, pipes and devices are no source."""
    from docker.utils.build import exclude_paths  # only who reads a source waits for it

    patterns = [*ALWAYS_IGNORED, *_ignore_patterns(root / ".dockerignore")]
    selected = sorted(exclude_paths(str(root), patterns))
    files = (_describe(root / path, path.replace(os.sep, "/")) for path in selected)
    return tuple(file for file in files if file is not None)


def parse_packages(text: str, *, where: str) -> tuple[str, ...]:
    """Names of Debian packages, several a line if you like; `#` starts a comment."""
    packages: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].split():
            if not _PACKAGE.fullmatch(word):
                raise SourceError(
                    f'{where}:{number}: "{word}" is no name of a Debian package',
                    hint="Write names like `ffmpeg`, or `ffmpeg=7:5.1.6-0+deb12u1` for a version.",
                )
            packages.append(word)
    return tuple(packages)


def check_syntax(source: Source) -> None:
    """Raise `SourceError` with file, line and column if the handler's file doesn't compile."""
    if source.runtime != "python":
        return
    handler = next((file for file in source.files if file.path == source.handler_file), None)
    if handler is None:
        return
    # A name as the user would write it to open it in an editor.
    shown = source.location if source.location.is_file() else source.location / handler.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is no error
            compile(handler.read(), str(shown), "exec", dont_inherit=True)
    except SyntaxError as exc:
        place = f"{shown}:{exc.lineno}:{exc.offset}" if exc.lineno else str(shown)
        line = f"\n    {exc.text.strip()}" if exc.text else ""
        raise SourceError(f"{place}: {exc.msg}{line}") from exc
    except ValueError as exc:  # a NUL byte, before Python 3.12
        raise SourceError(f"{shown}: {exc}") from exc


def _read_file(location: Path, *, name: str | None, handler: str | None) -> Source:
    """One Python file becomes the handler's module, whatever it is called.

    `json.py` must not hide the library of that name, nor need `my-job.py` be an identifier. What
    it depends on is said in the file itself.
    """
    if handler is not None and ":" in handler:
        stem, _, callable_name = handler.partition(":")
        if stem != location.stem:
            raise SourceError(
                f"{location}: the handler {handler} is in another module",
                hint=f"Give the directory, or a handler of this file: {location.stem}:handle.",
            )
        handler = f"handler:{callable_name}"
    handler = handler or DEFAULT_HANDLER
    check_handler(handler)
    try:
        file = _describe(location.resolve(), "handler.py")
    except OSError as exc:
        raise SourceError(f"can't read {location}: {exc.strerror}") from exc
    assert file is not None  # a regular file, or the link to one resolved
    text = file.read().decode("utf-8-sig", errors="replace")  # the compiler judges the encoding
    try:
        requirements = "".join(f"{line}\n" for line in dependencies(text))
    except ValueError as exc:
        raise SourceError(
            f"{location}: {exc}",
            hint='Write `# dependencies = ["pillow==11.0"]` between `# /// script` and `# ///`.',
        ) from exc
    files = (file, _generated("requirements.txt", requirements, file)) if requirements else (file,)
    return Source(
        location=location,
        name=check_name(name or location.stem),
        handler=handler,
        handler_file=file.path,
        files=files,
        packages=(),
        requirements=bool(requirements),
        requirements_need_files=False,
        own_dockerfile=False,
    )


def _read_module(location: Path, *, name: str | None, handler: str | None) -> Source:
    """One JavaScript file becomes the handler's module, whatever it is called."""
    export = (handler or DEFAULT_HANDLER).rpartition(":")[2]
    check_handler(f"handler:{export}")
    file = _describe(location.resolve(), f"handler{location.suffix}")
    assert file is not None  # a regular file, or the link to one resolved
    return Source(
        location=location,
        name=check_name(name or location.stem),
        handler=f"handler:{export}",
        handler_file=file.path,
        files=(file,),
        packages=(),
        requirements=False,
        requirements_need_files=False,
        own_dockerfile=False,
        runtime="node",
    )


def _read_program(location: Path, *, name: str | None, command: str | None) -> Source:
    """One executable file: it is run as it is, under its own name."""
    try:
        file = _describe(location.resolve(), location.name)
    except OSError as exc:
        raise SourceError(f"can't read {location}: {exc.strerror}") from exc
    assert file is not None  # a regular file, or the link to one resolved
    if command is None and not file.executable:
        raise _missing(location)
    return Source(
        location=location,
        name=check_name(name or location.stem),
        handler=DEFAULT_HANDLER,
        handler_file=None,
        files=(file,),
        packages=(),
        requirements=False,
        requirements_need_files=False,
        own_dockerfile=False,
        runtime="exec",
        command=(f"./{location.name}",) if command is None else parse_command(command),
    )


def _describe(location: Path, path: str) -> SourceFile | None:
    mode = location.lstat().st_mode
    if stat.S_ISDIR(mode):
        return SourceFile(path, "directory", True, "", location)
    if stat.S_ISLNK(mode):
        return SourceFile(path, "link", True, os.readlink(location), location)  # noqa: PTH115
    if not stat.S_ISREG(mode):
        return None
    with location.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return SourceFile(path, "file", bool(mode & stat.S_IXUSR), digest, location)


def _generated(path: str, text: str, origin: SourceFile) -> SourceFile:
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    return SourceFile(path, "file", False, digest, origin.location, content)


def _npm(location: Path, paths: Container[str]) -> tuple[str, ...]:
    """The files that npm installs a function's libraries from; none: it asks for none."""
    package = location / "package.json"
    if package.name not in paths:
        return ()
    try:
        found = json.loads(_read_text(package))
    except ValueError as exc:
        raise SourceError(f"{package}: {exc}") from exc
    if not isinstance(found, dict) or not found.get("dependencies"):
        return ()
    return ("package.json", *(["package-lock.json"] if "package-lock.json" in paths else []))


def _ignore_patterns(dockerignore: Path) -> list[str]:
    lines = _read_text(dockerignore).splitlines() if dockerignore.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path} is not UTF-8 text: {exc.reason}") from exc
    except OSError as exc:
        raise SourceError(f"can't read {path}: {exc.strerror}") from exc


def _missing(location: Path) -> SourceError:
    if location.is_file():
        return SourceError(
            f"{location} is neither a directory nor a Python file nor executable",
            hint="Give the function's directory, a file whose name ends in .py, or a program "
            f"(chmod +x {location}).",
        )
    parent = location.parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    close = difflib.get_close_matches(location.name, beside, n=1)
    hint = f"Did you mean {parent / close[0]}?" if close else "Give a directory or a git address."
    return SourceError(f"no such directory: {location}", hint=hint)
