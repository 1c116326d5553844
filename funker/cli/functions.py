"""`funker ls`, `funker inspect`, `funker rm`: what there is, what it is, and away with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli import options, terminal
from funker.cli.failures import UsageError
from funker.cli.output import Format, age, as_json, as_yaml, render
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.backends.base import Backend, FunctionStatus

_COLUMNS = {"NAME": "name", "REPLICAS": "replicas", "IMAGE": "image", "AGE": "age"}


def list_functions(
    command: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Short for -o name.")] = False,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """List functions."""
    form = options.chosen(output, json, default=Format.NAME if quiet else Format.TABLE)
    functions = _backend(command).functions()
    if form is Format.TABLE:
        now = time.time()
        items = [_row(function, now=now) for function in functions]
        for function in functions:
            for warning in function.warnings:
                terminal.warn(f"{function.name}: {warning}")
    else:
        items = [_fields(function) for function in functions]
    terminal.data(render(items, form, columns=_COLUMNS))


def inspect(
    command: typer.Context,
    names: options.Functions,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Show all that is known of functions, with advice."""
    form = options.chosen(output, json, default=Format.JSON)
    if form is Format.TABLE:
        raise UsageError("a table can't hold it", hint="Use -o json or -o yaml.")
    backend = _backend(command)
    items = [backend.inspect(name) for name in names]
    for name, item in zip(names, items, strict=True):
        for text in advice_lines(item):
            terminal.warn(f"{name}: {text}")
    match form:
        case Format.NAME:
            terminal.data("".join(f"{item['name']}\n" for item in items))
        case Format.YAML:
            terminal.data(as_yaml(items))
        case _:
            terminal.data(as_json(items))


def remove(
    command: typer.Context,
    names: options.Functions,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
) -> None:
    """Remove functions. Calls that are running may finish."""
    backend = _backend(command)
    found = [backend.find(name).name for name in names]  # all of them, before anything is removed
    terminal.confirm(f"Remove {', '.join(found)}", yes=yes)
    for name in found:
        with terminal.progress() as show:
            backend.remove(name, progress=show)
        terminal.data(f"{name}\n")


def _backend(command: typer.Context) -> Backend:
    session: Session = command.obj
    return session.backend()


def advice_lines(item: Mapping[str, Any]) -> list[str]:
    """What `inspect` warns of, then what it advises with the lines to paste, each thing once."""
    advice = {each["problem"]: each["lines"] for each in item.get("advice", ())}
    others = [warning for warning in item.get("warnings", ()) if warning not in advice]
    return [
        *others,
        *(
            f"{problem}; in its stack file:\n{indent(lines, '    ')}"
            for problem, lines in advice.items()
        ),
    ]


def _row(function: FunctionStatus, *, now: float) -> dict[str, object]:
    return {
        "name": function.name,
        "replicas": f"{function.running}/{function.wanted}",
        "image": function.image,
        "age": age(function.age(now)),
    }


def _fields(function: FunctionStatus) -> dict[str, object]:
    return {
        "name": function.name,
        "image": function.image,
        "wanted": function.wanted,
        "running": function.running,
        "created": _iso(function.created),
        "updated": _iso(function.updated),
        "stack": function.stack,
        "warnings": list(function.warnings),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
