"""`funker scale`: how many replicas of a function wait for calls; or as many as it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import options, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.backends.base import FunctionStatus

_USAGE = "Usage: funker scale NAME=N [NAME=auto]..."
#: Instead of a number: as many as are needed.
_AUTO = "auto"


def scale(
    command: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=N",
            help="A function and its replicas; auto: as many as it needs.",
            autocompletion=options.functions,
        ),
    ],
) -> None:
    """Set the number of replicas, and wait until so many run.

    One that is scaled by load stays at that number until `funker scale NAME=auto`.
    `funker scale NAME N` does it, too.
    """
    from funker.backends.base import NoPolicy

    wanted = pairs(words)
    session: Session = command.obj
    backend = session.backend()
    found = [(backend.find(name), count) for name, count in wanted]  # all, before one is changed
    for function, count in found:
        if count is None and function.scale is None:
            raise NoPolicy(function.name, stack=function.stack)
    for function, count in found:
        if count is None:
            backend.unpin(function.name)
        else:
            with terminal.progress() as show:
                backend.scale(function.name, count, progress=show)
        if function.stack:
            terminal.warn(
                f"{function.name} belongs to the stack {function.stack}: "
                "the next `docker stack deploy` sets what its file says"
            )
        terminal.data(f"{function.name}\n")
        terminal.note(_told(function, count))


def _told(function: FunctionStatus, count: int | None) -> str:
    if count is None:
        assert function.scale is not None
        between = f"between {function.scale.min} and {function.scale.max}"
        return f"{function.name} is scaled by load, {between} replicas"
    told = f"{function.name} scaled to {count} replica{'' if count == 1 else 's'}"
    if function.scale is None:
        return told
    return f"{told}, and pinned there; `funker scale {function.name}=auto` lets it go"


def pairs(words: list[str]) -> list[tuple[str, int | None]]:
    """`add=3 sub=auto` or `add 3` as names and counts; None for auto. Raises UsageError."""
    if len(words) == 2 and "=" not in words[0] and "=" not in words[1]:
        words = ["=".join(words)]
    found: dict[str, int | None] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise UsageError(f"{word!r} says no number of replicas", hint=_USAGE)
        if text != _AUTO and not (text.isascii() and text.isdigit()):
            raise UsageError(f"{name}: {text!r} is no number of replicas", hint=_USAGE)
        if name in found:
            raise UsageError(f"{name} was given twice", hint=_USAGE)
        found[name] = None if text == _AUTO else int(text)
    return list(found.items())
