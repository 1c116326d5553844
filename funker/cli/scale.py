"""`funker scale`: how many replicas of a function wait for calls."""

from __future__ import annotations

from typing import Annotated

import typer

from funker.cli import options, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session

_USAGE = "Usage: funker scale NAME=N [NAME=N]..."


def scale(
    command: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=N", help="A function and its replicas.", autocompletion=options.functions
        ),
    ],
) -> None:
    """Set the number of replicas, and wait until so many run.

    `funker scale NAME N` does it, too.
    """
    wanted = pairs(words)
    session: Session = command.obj
    backend = session.backend()
    found = [(backend.find(name), count) for name, count in wanted]  # all, before one is changed
    for function, count in found:
        with terminal.progress() as show:
            backend.scale(function.name, count, progress=show)
        if function.stack:
            terminal.warn(
                f"{function.name} belongs to the stack {function.stack}: "
                "the next `docker stack deploy` sets what its file says"
            )
        terminal.data(f"{function.name}\n")
        terminal.note(f"{function.name} scaled to {count} replica{'' if count == 1 else 's'}")


def pairs(words: list[str]) -> list[tuple[str, int]]:
    """`add=3 sub=1` or `add 3` as names and counts. Raises UsageError."""
    if len(words) == 2 and "=" not in words[0] and "=" not in words[1]:
        words = ["=".join(words)]
    found: dict[str, int] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{word!r} says no number of replicas", hint=_USAGE)
        if not (text.isascii() and text.isdigit()):
            raise UsageError(f"{name}: {text!r} is no number of replicas", hint=_USAGE)
        if name in found:
            raise UsageError(f"{name} was given twice", hint=_USAGE)
        found[name] = int(text)
    return list(found.items())
