"""What of a source is run: a callable in Python or JavaScript, or a program.

    handler.py                      python: the callable `handle` in it
    handler.mjs  .js  .cjs          node: the function `handle` that it exports
    handler, an executable file     exec: it is run, with the body on stdin

or what `--handler`, `--runtime` and `--command` say. With a Dockerfile of its own, nothing of the
kind need be there: its CMD is the program, or it puts a handler into the image.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from funker.rpc.errors import FunkerError

DEFAULT_HANDLER = "handler:handle"

#: The executable that is run where nothing else is found or named.
PROGRAM = "handler"

Runtime = Literal["python", "exec", "node"]
RUNTIMES: tuple[Runtime, ...] = ("python", "exec", "node")

#: What a module's path is followed by.
SUFFIXES: Mapping[Runtime, tuple[str, ...]] = {
    "python": (".py", "/__init__.py"),
    "node": (".mjs", ".js", ".cjs"),
}

#: A module has dots in Python, and is a path in JavaScript.
_CALLABLE = r":[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*"
_HANDLERS: Mapping[Runtime, re.Pattern[str]] = {
    "python": re.compile(rf"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*){_CALLABLE}"),
    "node": re.compile(rf"((?:[\w-][\w.-]*/)*[\w-][\w.-]*){_CALLABLE}"),
}


class SourceError(FunkerError):
    """Raised when a function's source can't be used as it stands: its author has to change it."""


@dataclass(frozen=True)
class Entry:
    """What a replica runs. `file` holds the handler; None: there is none, or an image makes it."""

    runtime: Runtime
    handler: str
    file: str | None = None
    command: tuple[str, ...] = ()


def find_entry(
    location: Path,
    files: Mapping[str, bool],
    *,
    handler: str | None,
    runtime: str | None,
    command: str | None,
) -> Entry:
    """The entry of a directory's files: paths, and whether each is executable.

    The rest is what its user says. Raises `SourceError`.
    """
    handler = handler or DEFAULT_HANDLER
    told = check_runtime(runtime, command)
    if command is not None:
        return Entry("exec", handler, command=parse_command(command))
    own_dockerfile = "Dockerfile" in files
    program = Entry("exec", handler, command=(f"./{PROGRAM}",)) if files.get(PROGRAM) else None
    if told == "exec":
        if program is None and not own_dockerfile:
            raise SourceError(
                f"{location}: which program is to be run isn't said",
                hint=f"Give --command, or name the executable `{PROGRAM}`.",
            )
        return program if program and not own_dockerfile else Entry("exec", handler)
    candidates = {path: language for language, path in _candidates(handler, told)}
    for path, language in candidates.items():
        if path in files:
            return Entry(language, handler, path)
    if own_dockerfile:
        return Entry(told or "python", handler)
    if program is not None and told is None and handler == DEFAULT_HANDLER:
        return program
    raise _no_handler(location, list(candidates), files)


def check_runtime(runtime: str | None, command: str | None) -> Runtime | None:
    """What is said of the runtime; None: nothing. Raises `SourceError`."""
    if runtime is not None and runtime not in RUNTIMES:
        raise SourceError(
            f"--runtime: there is no runtime {runtime!r}", hint=f"It is {', '.join(RUNTIMES)}."
        )
    if command is not None and runtime not in (None, "exec"):
        raise SourceError(f"--runtime {runtime} and --command exclude each other")
    return next((known for known in RUNTIMES if known == runtime), None)


def parse_command(text: str) -> tuple[str, ...]:
    """A command's words, as a JSON array or as a shell has them. Raises `SourceError`."""
    hint = """Write words like './run.sh -v', or a JSON array like '["sh", "-c", "sort | uniq"]'."""
    try:
        words = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
    except ValueError as error:
        raise SourceError(f"--command: {text!r}: {error}", hint=hint) from None
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise SourceError(f"--command: {text!r} is no command", hint=hint)
    return tuple(words)


def check_handler(handler: str) -> None:
    """Raises `SourceError` for what is no handler of any runtime."""
    list(_candidates(handler, None))


def _candidates(handler: str, told: Runtime | None) -> Iterator[tuple[Runtime, str]]:
    """The files in which a handler may be, and the runtime that each is for."""
    found = False
    for language in ("python", "node") if told is None else (told,):
        if match := _HANDLERS[language].fullmatch(handler):
            found = True
            module = match[1].replace(".", "/") if language == "python" else match[1]
            yield from ((language, f"{module}{suffix}") for suffix in SUFFIXES[language])
    if not found:
        raise SourceError(
            f'handler: "{handler}" names no callable',
            hint="Write MODULE:CALLABLE, like `handler:handle` or `app.images:thumbnail`.",
        )


def _no_handler(
    location: Path, candidates: Sequence[str], files: Mapping[str, bool]
) -> SourceError:
    wanted = candidates[0]
    if any((location / candidate).exists() for candidate in candidates):
        left_out = next(path for path in candidates if (location / path).exists())
        return SourceError(
            f"{location}: .dockerignore leaves {left_out} out",
            hint=f"Take the pattern away, or add the line `!{left_out}`.",
        )
    endings = tuple({Path(path).suffix for path in candidates})
    scripts = sorted(path for path in files if path.endswith(endings) and "/" not in path)
    close = [script for script in scripts if script.lower() == wanted.lower()]
    close = close or difflib.get_close_matches(wanted, scripts, n=1)
    if close:
        stem = close[0].rpartition(".")[0]
        hint = f"Did you mean {close[0]}? Rename it, or name the handler: {stem}:handle."
    elif scripts:
        hint = f"If it is in {scripts[0]}, name it: {scripts[0].rpartition('.')[0]}:CALLABLE."
    elif PROGRAM in files and wanted == f"{PROGRAM}.py":
        hint = f"If it is {location / PROGRAM}, make that executable (chmod +x)."
    elif wanted.endswith(".py"):
        hint = f"Write one with a `def handle(...)`, or a Dockerfile; `funker new` makes {wanted}."
    else:
        hint = "Write one that exports a function `handle`, or a Dockerfile."
    return SourceError(f"{location} has no {wanted} and no Dockerfile", hint=hint)
