"""`funker dev`: a function from its source, made again whenever that changes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import failures, foreground, logs, options, terminal
from funker.cli.failures import UsageError
from funker.cli.foreground import Foreground
from funker.rpc.errors import FunkerError

if TYPE_CHECKING:
    from funker.backends.base import LogLine
    from funker.images.source import Source

#: Milliseconds of quiet after which a burst of changes counts as over, and its longest time.
#: Editors write a file in several steps, and `git switch` many files.
_QUIET_MS, _BURST_MS = 100, 1_600
#: Milliseconds until the first look, which shows what has changed before the watch began.
_FIRST_LOOK_MS = 500


def dev(
    command: typer.Context,
    src: Annotated[str, typer.Argument(metavar="SRC", help="A directory or a .py file.")],
    name: foreground.Name = None,
    env: foreground.Environment = None,
    timeout: foreground.Timeout = None,
    replicas: foreground.Replicas = 1,
    handler: options.Handler = None,
    runtime: options.Runtime = None,
    program: options.Program = None,
    base: options.Base = None,
    registry: foreground.Registry = None,
) -> None:
    """Run a function, and run it anew whenever its source changes.

    Shows calls and logs as they come. While the source is broken, its last good version serves.
    It runs on this machine; with --backend swarm, as a service on the swarm.
    """
    path = _local(src)
    read = functools.partial(
        _read, path, name=name, handler=handler, runtime=runtime, command=program
    )
    first = read()
    fields = foreground.fields(env, timeout, replicas)
    with foreground.opened(command.obj, first.name, None, join=True, **fields) as function:
        _show_calls(function)
        for source in _versions(path, first, read):
            told = function.serves
            if not _deploy(function, source, base=base, registry=registry):
                continue
            if told:
                terminal.note(f"{function.name} is up again")
            else:
                function.told(source)


def _local(src: str) -> Path:
    """Raises UsageError for what can't be watched."""
    from funker.images.address import is_git

    if not Path(src).exists() and is_git(src):
        raise UsageError(
            f"{src} is a repository elsewhere: nobody edits it here",
            hint="Clone it and give the directory, or run it as it is: funker run",
        )
    return Path(src)


def _read(path: Path, **told: str | None) -> Source:
    from funker.images.source import read_source

    return read_source(path, **told)


def _versions(path: Path, first: Source, read: Callable[[], Source]) -> Iterator[Source]:
    """The source, and again whenever something in it has changed that counts."""
    from watchfiles import watch

    yield first
    last: object = first
    directory = path if path.is_dir() else path.resolve().parent  # editors replace files
    changes = watch(
        directory,
        watch_filter=None,  # what counts is told by the content
        debounce=_BURST_MS,
        step=_QUIET_MS,
        rust_timeout=_FIRST_LOOK_MS,
        yield_on_timeout=True,
        recursive=path.is_dir(),
    )
    looked = False
    for change in changes:
        if looked and not change:
            continue
        looked = True
        try:
            source = read()
        except FunkerError as error:
            if error.message != last:
                terminal.fail(error)
            last = error.message
            continue
        if source != last:
            last = source
            yield source


def _deploy(
    function: Foreground, source: Source, *, base: str | None, registry: str | None
) -> bool:
    """Make it the function's source; whether that went well. Raises what no edit can mend."""
    from funker.backends.base import NoController

    try:
        function.deploy(source, base=base, registry=registry, show=_show)
    except NoController:
        raise
    except FunkerError as error:
        mendable = failures.exit_code(error) in (failures.USAGE, failures.FUNCTION_FAILED)
        if not (mendable or function.serves):
            raise
        terminal.fail(error)
        serving = "its last good version serves" if function.serves else "nothing serves yet"
        terminal.note(f"{function.name}: {serving}; waiting for a change")
        return False
    return True


def _show_calls(function: Foreground) -> None:
    """Shows calls as they end, in a thread of its own: a deploy takes its time."""

    def show() -> None:
        try:
            for record in function.calls():
                foreground.show_call(record)
        except FunkerError as error:
            if not function.ending:
                terminal.warn(f"calls aren't shown: {error.message}")

    threading.Thread(target=show, name="calls", daemon=True).start()


def _show(line: LogLine) -> None:
    text = logs.one_line(line, timestamps=False)
    if line.stream == "stderr":
        terminal.note(text)
    else:
        terminal.data(f"{text}\n")
