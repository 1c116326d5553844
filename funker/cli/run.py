"""`funker run`: a function from its source, for as long as the command lives."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from funker.cli import failures, foreground, images, options, payload, terminal
from funker.cli.call import print_answer
from funker.cli.failures import UsageError
from funker.cli.foreground import Foreground
from funker.cli.output import Format

if TYPE_CHECKING:
    from funker.backends.base import LogLine
    from funker.cli.payload import Payload


def run(
    command: typer.Context,
    src: Annotated[
        str, typer.Argument(metavar="SRC", help="A directory, a .py file, or a git address.")
    ],
    restart: Annotated[
        bool, typer.Option("-r", "--restart", help="Serve call after call, until Ctrl-C.")
    ] = False,
    update: options.Update = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--call", metavar="DATA", help="Make one call with this (or @FILE), print the answer."
        ),
    ] = None,
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
    """Run a function here and now, without installing or deploying anything.

    Without -r it serves one call and exits: 0 for an answer, 1 for a function's error. It runs
    with a controller of its own; with --backend swarm, as a service on the swarm.
    """
    if restart and data is not None:
        raise UsageError("--call and -r exclude each other", hint="--call makes one call.")
    sent = None if data is None else payload.from_data(data)
    source = images.opened(
        command, src, handler=handler, runtime=runtime, program=program, update=update
    )
    fields = foreground.fields(env, timeout, replicas)
    with foreground.opened(command.obj, source.name, name, join=False, **fields) as function:
        if not restart and sent is None:
            function.require_controller()
        function.deploy(
            source, base=base, registry=registry, show=_show if sent is None else _show_aside
        )
        if sent is not None:
            _call(function, sent)
            return
        function.told(source)
        code = _serve(function, restart=restart)
    raise typer.Exit(code)


def _serve(function: Foreground, *, restart: bool) -> int:
    """Until a call has been served, whose exit code this is; or for ever."""
    from funker.backends.base import NoController

    try:
        for record in function.calls():
            foreground.show_call(record)
            if record["replica"] and not restart:  # else no replica has seen it
                return failures.outcome_code(record["outcome"])
    except NoController:
        if not restart:
            raise
        terminal.warn("calls aren't shown: no controller is up (funker up)")
    threading.Event().wait()
    raise AssertionError("nobody sets it")


def _call(function: Foreground, sent: Payload) -> None:
    """One call. Raises `CallError`."""
    from funker.rpc.client import invoke

    with function.backend.transport(function.name) as transport:
        result = invoke(transport, function.name, sent.body, sent.content_type)
    print_answer(result.body or b"", result.content_type, Format.TABLE)


def _show(line: LogLine) -> None:
    """As `docker run` does it: each stream on its own, and nothing added."""
    if line.stream == "stderr":
        terminal.note(line.text)
    else:
        terminal.data(f"{line.text}\n")


def _show_aside(line: LogLine) -> None:
    """Stdout is for the answer alone."""
    terminal.note(line.text)
