"""`funker logs`: what a function's replicas wrote."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli import calls, options, router, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session
from funker.rpc.errors import FunkerError, RouterUnavailable

if TYPE_CHECKING:
    from funker.backends.base import Backend, LogLine

#: Seconds by which a node's clock may go before the controller's.
CLOCKS_S = 60.0


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
    json: Annotated[bool, typer.Option("--json", help="An object for each line.")] = False,
) -> None:
    """Show what a function's replicas wrote.

    What they wrote to stderr goes to stderr. With --call, all that the call printed goes to stdout,
    as long as it is in the log; else the end of it, which the controller remembers.
    """
    last = lines_wanted(tail)
    start = None if since is None else moment(since, now=time.time())
    session: Session = command.obj
    if one is not None:
        _exclude({"--follow": follow, "--since": since, "--timestamps": timestamps})
        _show_call(session, name, one, way, tail=last, json=json)
        return
    lines = session.backend().logs(
        name, follow=follow, tail=last, since=start, timestamps=timestamps or json
    )
    for line in lines:
        if json:
            terminal.data(as_object(line))
            continue
        text = one_line(line, timestamps=timestamps)
        if line.stream == "stderr":
            terminal.note(text)
        else:
            terminal.data(f"{text}\n")


def _show_call(
    session: Session, name: str, id: str, way: str | None, *, tail: int | None, json: bool
) -> None:
    """What one call printed, on stdout, and what became of it, on stderr."""
    from funker.backends.base import NoController

    record: Mapping[str, Any] = {}
    problem: FunkerError | None = None
    try:
        with calls.asking(session, name, way) as (controller, full_name):
            record = calls.find(controller, full_name, id)
    except (NoController, RouterUnavailable, calls.Forgotten) as error:
        if router.address(way):
            raise
        problem = error
    lines = [] if router.address(way) else _printed(session.backend(), name, id.lower(), record)
    if problem and not lines:
        raise problem
    lines = lines or _remembered(record)
    for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
        terminal.data(as_object(line) if json else f"{line.text}\n")
    for text in calls.described(record, now=time.time()) if record else ():
        terminal.note(text)


def _printed(backend: Backend, name: str, id: str, record: Mapping[str, Any]) -> list[LogLine]:
    """The lines of a call that are in the log. Raises UsageError if `id` fits several calls'."""
    since = None
    if "at" in record and "run_ms" in record:
        taken = sum(record[part] for part in ("queue_ms", "start_ms", "run_ms"))
        since = record["at"] - taken / 1000 - CLOCKS_S
    wanted = record.get("id", id)
    lines = [
        line
        for line in backend.logs(name, since=since, timestamps=True)
        if line.call and line.call.startswith(wanted)
    ]
    found = {line.call for line in lines}
    if len(found) > 1:
        raise UsageError(f"--call: {id} fits {len(found)} calls", hint="Give more digits.")
    return lines


def _remembered(record: Mapping[str, Any]) -> list[LogLine]:
    """The end of what a call printed, as the controller has it."""
    from funker.backends.base import LogLine

    return [
        LogLine(text=text, stream="stdout", replica=record.get("replica") or "", call=record["id"])
        for text in str(record.get("output") or "").splitlines()
    ]


def as_object(line: LogLine) -> str:
    """A line of JSON, with the same keys always."""
    import json

    fields = {
        "time": line.time or None,
        "replica": line.replica,
        "node": line.node,
        "call": line.call or None,
        "stream": line.stream,
        "text": line.text,
    }
    return f"{json.dumps(fields, ensure_ascii=False)}\n"


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
