"""`funker rebuild`: the current runtime for functions, without their sources."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import failures, live, options, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session
from funker.rpc.errors import FunkerError

if TYPE_CHECKING:
    from funker.backends.base import Backend, FunctionStatus


def rebuild(
    command: typer.Context,
    names: options.MaybeFunctions = None,
    everything: Annotated[bool, typer.Option("--all", help="All functions.")] = False,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Those that `funker ls` shows as outdated.")
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_REGISTRY",
            metavar="HOST[/PATH]",
            help="Push the new images there, else to where the old ones came from.",
        ),
    ] = None,
) -> None:
    """Renew the runtime in functions' images, and deploy those.

    Nothing else of an image or a function changes, and no source is needed.
    """
    if [bool(names), everything, outdated].count(True) != 1:
        raise UsageError(
            "which functions is not clear", hint="Give names, or --all, or --outdated."
        )
    session: Session = command.obj
    backend = session.backend()
    code = failures.OK
    for function in _chosen(backend, names or [], only_outdated=outdated):
        try:
            _renew(backend, function, registry)
        except FunkerError as error:  # of one function: the others can be renewed all the same
            terminal.fail(error)
            code = code or failures.exit_code(error)
    raise typer.Exit(code)


def _chosen(backend: Backend, names: list[str], *, only_outdated: bool) -> list[FunctionStatus]:
    if names:
        found = {function.name: function for function in map(backend.find, names)}
        return list(found.values())
    functions = backend.functions()
    if not only_outdated:
        return functions
    states = live.of(backend, functions, live.status(backend))
    chosen = [f for f, state in zip(functions, states, strict=True) if state.outdated]
    if not chosen:
        terminal.note("no function is outdated")
    return chosen


def _renew(backend: Backend, function: FunctionStatus, registry: str | None) -> None:
    name = function.name
    if not function.reference:
        terminal.note(
            f"{name} runs no image: the controller gives it the runtime that it was started with "
            "(`funker down`, `funker up`)"
        )
        return
    with terminal.progress() as show:
        image = backend.renew(function, registry=registry, progress=show)
    if image is None:
        terminal.note(f"{name} has the current runtime")
        return
    if function.stack:
        shown = image.image if "@" in image.image else image.image_name
        lines = f"services:\n  {_short(function)}:\n    image: {shown}"
        terminal.warn(
            f"{name} belongs to the stack {function.stack}; in its stack file:\n"
            f"{indent(lines, '    ')}"
        )
        return
    with terminal.progress() as show:
        deployment = backend.set_image(name, image.image, image.image_name, progress=show)
    for warning in deployment.warnings:
        terminal.warn(warning)
    terminal.data(f"{name}\n")
    terminal.note(f"{name} {deployment.outcome}: {image.image_name}")


def _short(function: FunctionStatus) -> str:
    return function.name.removeprefix(f"{function.stack}_")
