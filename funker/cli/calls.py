"""`funker calls` and `funker logs --call`: what became of each call."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli import options, router, terminal
from funker.cli.failures import UsageError
from funker.cli.output import Format, age, milliseconds, render
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.backends.base import Controller

#: Digits of an id in a table.
DIGITS = 12

_COLUMNS = {
    "ID": "id",
    "FUNCTION": "function",
    "OUTCOME": "outcome",
    "QUEUED": "queued",
    "START": "start",
    "RUN": "run",
    "REPLICA": "replica",
    "AGE": "age",
}


def calls(
    command: typer.Context,
    name: options.MaybeFunction = None,
    last: Annotated[
        int, typer.Option("-n", "--last", metavar="N", min=1, help="The last N calls.")
    ] = 20,
    way: options.Router = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """List the latest calls and what became of them, newest first."""
    form = options.chosen(output, json, default=Format.TABLE)
    with asking(command.obj, name, way) as (controller, full_name):
        records = controller.query("calls", function=full_name, limit=last)
    now = time.time()
    items = [_row(record, now=now) for record in records] if form is Format.TABLE else records
    terminal.data(render(items, form, columns=_COLUMNS, key="id"))


@contextlib.contextmanager
def asking(session: Session, name: str | None, way: str | None) -> Iterator[tuple[Controller, str]]:
    """Who knows of calls, and the full name of the function that is meant ("": none is named)."""
    if address := router.address(way):
        with router.opened(address) as ways:
            yield ways, _full_name(ways.query("status"), name) if name else ""
        return
    backend = session.backend()
    full_name = backend.find(name).name if name else ""
    with backend.controller() as controller:
        yield controller, full_name


class Forgotten(UsageError):
    """Raised when the controller remembers no such call."""


def find(controller: Controller, function: str, id: str) -> Mapping[str, Any]:
    """The record of the function's call with this id, or with an id that begins like this.

    Raises `Forgotten`, or UsageError for no id, one of several calls, or of another function's.
    """
    wanted = id.lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", wanted):
        raise UsageError(
            f"--call: {id!r} is no id of a call", hint=f"`funker calls {function}` lists them."
        )
    if len(wanted) == 32:
        record = controller.query("call", id=wanted)
        found = [record] if record else []
    else:
        records = controller.query("calls", function=function)
        found = [record for record in records if record["id"].startswith(wanted)]
    if not found:
        raise Forgotten(
            f"no call {id} of {function} is remembered",
            hint=f"`funker calls {function}` lists those that are.",
        )
    if len(found) > 1:
        some = ", ".join(record["id"][:DIGITS] for record in found[:5])
        raise UsageError(f"--call: {id} fits {len(found)} calls: {some}", hint="Give more digits.")
    (record,) = found
    if record["function"] != function:
        raise UsageError(
            f"the call {id} is one of {record['function']}, not of {function}",
            hint=f"`funker logs {record['function']} --call {id}`",
        )
    return dict(record)


def described(record: Mapping[str, Any], *, now: float) -> list[str]:
    """What became of a call, in a line, and its error's message if it has one."""
    where = f" on {record['replica']}" if record.get("replica") else ""
    head = f"call {record['id']} of {record['function']}: {record['outcome']}{where}"
    if "run_ms" in record:
        head += f", {age(now - record['at'])} ago"
        head += f" (queued {milliseconds(record['queue_ms'])}"
        head += f", start {milliseconds(record['start_ms'])}"
        head += f", run {milliseconds(record['run_ms'])})"
    message = str(record.get("message") or "")
    return [head, *(f"  {line}" for line in message.splitlines())]


def _full_name(status: Mapping[str, Any], name: str) -> str:
    """Which function a router means by a name."""
    from funker.backends.names import choose

    functions: Mapping[str, Mapping[str, Any]] = status["functions"]
    meant = [full for full, about in functions.items() if name in (about.get("names") or ())]
    if name not in functions and len(meant) == 1:
        return meant[0]
    return choose(name, dict.fromkeys(functions, ""))


def _row(record: Mapping[str, Any], *, now: float) -> dict[str, object]:
    at = record.get("at")
    return {
        "id": record["id"][:DIGITS],
        "function": record["function"],
        "outcome": record["outcome"],
        "queued": milliseconds(record.get("queue_ms")),
        "start": milliseconds(record.get("start_ms")),
        "run": milliseconds(record.get("run_ms")),
        "replica": record.get("replica") or "-",
        "age": "-" if at is None else age(now - at),
    }
