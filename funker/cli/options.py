"""Options that several commands share, so that they are spelled and explained the same."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from funker.cli.failures import UsageError
from funker.cli.output import Format
from funker.cli.session import Session
from funker.rpc.errors import FunkerError


def functions(context: typer.Context, incomplete: str) -> list[str]:
    """Names for the shell's completion; none if they can't be had, since Tab can't show why."""
    try:
        with contextlib.closing(Session.of(context)) as session:
            names = [function.name for function in session.backend().functions()]
    except FunkerError:
        return []
    return [name for name in names if name.startswith(incomplete)]


Function = Annotated[
    str, typer.Argument(metavar="NAME", help="The function.", autocompletion=functions)
]
Functions = Annotated[
    list[str], typer.Argument(metavar="NAME", help="The functions.", autocompletion=functions)
]
MaybeFunction = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The function, else all.", autocompletion=functions),
]
MaybeFunctions = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="The functions.", autocompletion=functions),
]
Router = Annotated[
    str | None,
    typer.Option(
        "--router",
        envvar="FUNKER_ROUTER",
        metavar="HOST:PORT",
        help="The router, without Docker; FUNKER_KEY_FILE is its key.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(envvar="FUNKER_BASE", metavar="IMAGE", help="The image to build on."),
]
Handler = Annotated[
    str | None,
    typer.Option(metavar="MODULE:CALLABLE", help="The callable to serve, else handler:handle."),
]
Runtime = Annotated[
    str | None,
    typer.Option(metavar="python|exec|node", help="What runs it, if the files don't tell."),
]
Program = Annotated[
    str | None,
    typer.Option(
        "--command", metavar="COMMAND", help="Run this program: words, or a JSON array of them."
    ),
]
Update = Annotated[
    bool, typer.Option("-u", "--update", help="Fetch a repository's newest, if SRC is one.")
]
Output = Annotated[
    Format | None,
    typer.Option(
        "-o",
        "--output",
        envvar="FUNKER_OUTPUT",
        metavar="FORMAT",
        help="table, json, yaml or name.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Short for -o json.")]


def chosen(output: Format | None, json: bool, *, default: Format) -> Format:
    """The format that was asked for. Raises UsageError if two different ones were."""
    if not json:
        return output or default
    if output not in (None, Format.JSON):
        raise UsageError(f"--json and -o {output} exclude each other")
    return Format.JSON
