"""`funker logs`: what a function's replicas wrote."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import calls, options, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.backends.base import LogLine


def logs(
    command: typer.Context,
    name: options.Function,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")
    ] = False,
    tail: Annotated[
        str, typer.Option("-n", "--tail", metavar="N|all", help="The last N lines only.")
    ] = "all",
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Lines since a time (2026-01-31T12:00), or 10m back."),
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("-t", "--timestamps", help="Show when each line was written.")
    ] = False,
    one: Annotated[
        str | None,
        typer.Option("--call", metavar="ID", help="What became of this call, and what it printed."),
    ] = None,
    way: options.Router = None,
) -> None:
    """Show what a function's replicas wrote.

    What they wrote to stderr goes to stderr. With --call the controller tells, also of a call
    whose replica is gone.
    """
    last = lines_wanted(tail)
    start = None if since is None else moment(since, now=time.time())
    session: Session = command.obj
    if one is not None:
        _exclude({"--follow": follow, "--since": since, "--timestamps": timestamps})
        with calls.asking(session, name, way) as (controller, full_name):
            calls.show(controller, full_name, one, tail=last)
        return
    lines = session.backend().logs(
        name, follow=follow, tail=last, since=start, timestamps=timestamps
    )
    for line in lines:
        text = one_line(line, timestamps=timestamps)
        if line.stream == "stderr":
            terminal.note(text)
        else:
            terminal.data(f"{text}\n")


def _exclude(flags: Mapping[str, object]) -> None:
    """Raises UsageError if one of these was given beside --call."""
    for flag, value in flags.items():
        if value:
            raise UsageError(
                f"--call and {flag} exclude each other", hint="What a call printed is kept whole."
            )


def one_line(line: LogLine, *, timestamps: bool) -> str:
    """As `docker service logs` shows it: time, replica and node, then the text."""
    source = f"{line.replica}@{line.node}" if line.node else line.replica
    head = f"{line.time} " if timestamps and line.time else ""
    return f"{head}{source}    | {line.text}" if source else f"{head}{line.text}"


def lines_wanted(text: str) -> int | None:
    """`--tail`: a count, or None for all of them."""
    if text == "all":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(f"--tail: {text!r} is no count", hint="Write a number of lines, or `all`.")


def moment(text: str, *, now: float) -> float:
    """`--since` as a Unix time: a duration back from `now`, a Unix time, or a date and time.

    A date without a zone is local, as docker has it.
    """
    from funker.spec.values import SpecError, parse_duration

    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        return now - parse_duration(text, field="since")
    except SpecError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        raise UsageError(
            f"--since: {text!r} is no time",
            hint="Write how long ago (`10m`, `1h30m`), or a time (`2026-01-31T12:00:00`).",
        ) from None
