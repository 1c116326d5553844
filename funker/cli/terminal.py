"""Where output goes: data to stdout, everything else to stderr; colour and motion on a TTY only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from funker.cli.failures import UsageError, describe
from funker.rpc.errors import FunkerError

_COLOURS = {"error": "31;1", "warning": "33", "hint": "36", "detail": "2"}


def data(text: str) -> None:
    """Text for stdout, flushed: whoever reads the pipe may be waiting for it."""
    sys.stdout.write(text)
    sys.stdout.flush()


def data_bytes(body: bytes) -> None:
    """Bytes for stdout as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    _labelled("warning", text)


def fail(error: FunkerError) -> None:
    """Show an error: its line, its details, its hint."""
    for kind, text in describe(error):
        if kind == "detail":
            note(f"  {_painted('detail', text)}" if text else "")
        else:
            _labelled(kind, text)


def confirm(question: str, *, yes: bool) -> None:
    """Return if the answer is yes. Raises UsageError if it is no, or if nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question}: nobody to ask", hint="Confirm with -y")
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was done")


@contextlib.contextmanager
def progress(*, elsewhere: bool = True) -> Iterator[Callable[[str], None]]:
    """A function that shows what is going on: one moving line on a TTY.

    Elsewhere it prints a line for each step, or nothing.
    """
    if not _lively():
        yield note if elsewhere else _nothing
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, highlight=False).status("") as status:

        def show(text: str) -> None:
            line = " ".join(text.split())
            status.update(Text(line, no_wrap=True, overflow="ellipsis"))  # one line, never more

        yield show


def _nothing(text: str) -> None:
    pass


def _lively() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not _no_colour()


def _no_colour() -> bool:
    return bool(os.environ.get("NO_COLOR"))


def _labelled(kind: str, text: str) -> None:
    note(f"{_painted(kind, kind + ':')} {text}")


def _painted(kind: str, text: str) -> str:
    if not sys.stderr.isatty() or _no_colour() or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"
