"""`funker build`, `funker push`: a directory becomes an image, an image goes to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import options, terminal
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.images.source import Source


def build(
    command: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="SRC", help="A directory, a .py file, or a git address.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The function's name, else the directory's.")
    ] = None,
    base: options.Base = None,
    tag: Annotated[
        str | None,
        typer.Option("-t", "--tag", metavar="NAME:TAG", help="One more name for the image."),
    ] = None,
    handler: options.Handler = None,
    runtime: options.Runtime = None,
    program: options.Program = None,
    update: options.Update = False,
) -> None:
    """Build a function and print its image's name."""
    source = opened(
        command, path, name=name, handler=handler, runtime=runtime, program=program, update=update
    )
    session: Session = command.obj
    with terminal.progress() as show:
        made = session.backend().prepare(source, base=base, tag=tag, progress=show)
    terminal.data(f"{made.image_name}\n")


def push(
    command: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="A function's directory, or its image's name."),
    ],
    registry: Annotated[
        str,
        typer.Option(envvar="FUNKER_REGISTRY", metavar="HOST[/PATH]", help="Where to push it."),
    ],
    base: options.Base = None,
) -> None:
    """Push a function's image and print its name by digest."""
    session: Session = command.obj
    backend = session.backend()
    if not is_source(source):
        with terminal.progress() as show:
            pushed = backend.push(source, registry, progress=show)
        terminal.data(f"{pushed}\n")
        return
    found = opened(command, source)
    with terminal.progress() as show:
        made = backend.prepare(found, base=base, progress=show)
        pushed = backend.push(made.image, registry, progress=show)
    terminal.data(f"{pushed}\n")


def is_source(text: str) -> bool:
    """Whether a word means a source and no image.

    `add/`, `./add`, whatever exists under the name, or a git address.
    """
    from funker.images.address import is_git

    is_path = text.startswith((".", "/", "~")) or text.endswith(("/", ".py"))
    return is_path or Path(text).exists() or is_git(text)


def opened(
    command: typer.Context,
    path: str,
    *,
    name: str | None = None,
    handler: str | None = None,
    runtime: str | None = None,
    program: str | None = None,
    update: bool = False,
) -> Source:
    """The source at SRC. What was fetched for it stays in place until the command ends."""
    from funker.images.fetch import open_source

    opening = open_source(
        path,
        name=name,
        handler=handler,
        runtime=runtime,
        command=program,
        update=update,
        progress=terminal.note,
    )
    return command.with_resource(opening)
