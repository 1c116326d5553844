"""What a function's own Dockerfile says, as far as it can be followed without an engine.

A program needs no more than its files and its command: one that the runtime runs (CMD), or one that
says `funker.handle(...)` (ENTRYPOINT). What would
change the image (RUN, other bases) can't be done here, and is said.
"""

from __future__ import annotations

import json
import re

from funker.backends.base import BackendError

#: What has no meaning for a process: settings of an image.
_PASSED_OVER = {"ARG", "LABEL", "EXPOSE", "STOPSIGNAL", "USER"}
_BASE = re.compile(r"(\$\{?FUNKER_BASE\}?|funker-python(:\S*)?)(\s+AS\s+\S+)?", re.IGNORECASE)
_HERE = {".", "./", "/app", "/app/"}
_INIT = ("/usr/bin/tini", "--")
_PYTHONS = {"python", "python3"}


class DockerfileTooMuch(BackendError):
    """Raised when a Dockerfile asks for what needs an engine. The message names the line."""


def command(text: str, *, where: str) -> tuple[list[str], list[str]]:
    """The arguments for an interpreter that it starts with, or else the program for the runtime.

    Both are empty where the runtime calls a handler. Raises `DockerfileTooMuch`.
    """
    entrypoint: list[str] = []
    arguments: list[str] = []
    for number, instruction, rest in _instructions(text):
        try:
            match instruction:
                case "ENTRYPOINT":
                    entrypoint, arguments = _words(rest), []
                case "CMD":
                    arguments = _words(rest) if rest[:1] == "[" else ["/bin/sh", "-c", rest]
                case _ if not _understood(instruction, rest):
                    raise ValueError(f"{instruction} {rest}")
        except ValueError as error:
            raise DockerfileTooMuch(
                f"{where}:{number}: no engine is here to do this: {error}",
                hint="Deploy it to a swarm; or take the Dockerfile away: a handler needs none.",
            ) from None
    if not entrypoint:
        return [], arguments
    words = [*entrypoint, *arguments]
    if tuple(words[: len(_INIT)]) == _INIT:
        words = words[len(_INIT) :]
    if not words or words[0] not in _PYTHONS:
        raise DockerfileTooMuch(
            f"{where}: its ENTRYPOINT isn't python3 with a program",
            hint='Write ENTRYPOINT ["/usr/bin/tini", "--", "python3", "PROGRAM.py"].',
        )
    return words[1:], []


def _instructions(text: str) -> list[tuple[int, str, str]]:
    """Line number, name and the rest of each, with what goes on in the next line."""
    found: list[tuple[int, str, str]] = []
    open_line = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("#"):
            continue
        open_line += line.strip()
        if open_line.endswith("\\"):
            open_line = f"{open_line[:-1]} "
            continue
        if open_line:
            name, _, rest = open_line.partition(" ")
            found.append((number, name.upper(), rest.strip()))
        open_line = ""
    return found


def _understood(instruction: str, rest: str) -> bool:
    match instruction:
        case "FROM":
            return _BASE.fullmatch(rest) is not None
        case "WORKDIR":
            return rest in _HERE
        case "COPY":
            *sources, target = rest.split()
            # Each to where it is anyway: a file of the top directory, or everything.
            return target in _HERE and all(
                source in ("./", ".") or re.fullmatch(r"(\./)?[\w.-]+", source) is not None
                for source in sources
            )
        case _:
            return instruction in _PASSED_OVER


def _words(rest: str) -> list[str]:
    words = json.loads(rest)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(rest)
    return words
