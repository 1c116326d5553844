"""`funker new`: a directory that is a small working function."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from funker.cli import terminal
from funker.cli.failures import UsageError

_HANDLER = '''\
"""The function `{name}`. Each call runs in a fresh container and gets one answer."""


def handle(name: str = "world") -> str:
    """`funker call {name} name=Ada` answers: Hello, Ada!

    Arguments arrive as keywords. Return what JSON can hold, or `str`, or `bytes`; raise to fail.
    """
    return f"Hello, {{name}}!"


# Files that may stand beside this one:
#   requirements.txt   Python packages, installed with pip
#   packages.txt       system packages, one a line, installed with apt-get
#   .dockerignore      what must not go into the image
#   Dockerfile         your own image instead of all this (FROM funker-python)
'''


def new(
    path: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="The function's name, or a directory to make."),
    ],
) -> None:
    """Make a directory with a small working function."""
    from funker.spec.values import check_name

    directory = Path(path).expanduser()
    name = check_name(directory.resolve().name)
    handler = directory / "handler.py"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with handler.open("x", encoding="utf-8") as file:
            file.write(_HANDLER.format(name=name))
    except FileExistsError:
        taken = handler if handler.exists() else directory
        raise UsageError(
            f"{taken} exists", hint="Choose another name; nothing is overwritten."
        ) from None
    except OSError as error:
        raise UsageError(f"can't write {handler}: {error.strerror}") from error
    terminal.data(f"{handler}\n")
    terminal.note("Next:")
    terminal.note(f"  funker deploy {shlex.quote(path)}")
    terminal.note(f"  funker call {name} name=Ada")
