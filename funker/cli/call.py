"""`funker call`: one call and its answer, or many and their figures."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from funker.cli import failures, load, options, payload, router, terminal
from funker.cli.failures import UsageError
from funker.cli.output import Format, as_json, as_yaml
from funker.cli.payload import Payload
from funker.cli.session import Session
from funker.rpc.errors import CallError

if TYPE_CHECKING:
    from funker.rpc.client import Transport
    from funker.rpc.messages import Result

#: Seconds of silence on stdin after which the person is told what is being waited for.
_STDIN_PATIENCE = 1.0


def call(
    command: typer.Context,
    name: options.Function,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="X=VALUE",
            help="Keyword arguments: JSON where it parses, else text. X=@FILE reads a file.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "-d", "--data", metavar="DATA|@FILE|-", help="The whole body: text, a file, or stdin."
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option("-H", "--content-type", metavar="TYPE", help="The body's type, else guessed."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_TIMEOUT",
            metavar="DURATION",
            help="How long the handler may run: 5, 1m30s.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_DEADLINE",
            metavar="DURATION",
            help="How long to wait, queueing included.",
        ),
    ] = None,
    idempotent: Annotated[
        bool, typer.Option("--idempotent", help="Call again by itself if a replica is lost.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Call this one replica directly, without Docker."),
    ] = None,
    way: options.Router = None,
    repeat: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Make N calls and print their figures.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option("-c", "--concurrency", metavar="C", min=1, help="Calls at a time.")
    ] = 1,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say the call's id and who answered.")
    ] = False,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Call a function and print its answer."""
    form = options.chosen(output, json, default=Format.TABLE)
    sent = _payload(arguments or [], data, content_type)
    limits = _Limits(_seconds(timeout, "timeout"), _seconds(deadline, "deadline"), idempotent)
    with _transport(command.obj, name, address, way) as (transport, full_name):
        if repeat is None:
            try:
                result = _invoke(transport, full_name, sent, limits, cancel=None)
            except CallError as error:
                if verbose and error.id:
                    terminal.note(f"call {error.id} of {full_name}")
                raise
            if verbose:
                answered = f"answered by {result.replica or 'a replica'}"
                terminal.note(f"call {result.id} of {full_name}, {answered}")
            print_answer(result.body or b"", result.content_type, form)
            return
        samples = _measured(
            lambda cancel: _invoke(transport, full_name, sent, limits, cancel=cancel),
            repeat,
            concurrency,
            form,
        )
    raise typer.Exit(_exit_code(samples))


class _Limits(NamedTuple):
    timeout: float | None  # seconds
    deadline: float | None  # seconds
    idempotent: bool


def _seconds(text: str | None, flag: str) -> float | None:
    from funker.spec.values import parse_duration

    return None if text is None else parse_duration(text, field=flag)


def _invoke(
    transport: Transport,
    name: str,
    sent: Payload,
    limits: _Limits,
    *,
    cancel: threading.Event | None,
) -> Result:
    from funker.rpc import client

    return client.invoke(
        transport,
        name,
        sent.body,
        sent.content_type,
        timeout=limits.timeout,
        deadline=limits.deadline,
        idempotent=limits.idempotent,
        cancel=cancel,
    )


@contextlib.contextmanager
def _transport(
    session: Session, name: str, address: str | None, way: str | None
) -> Iterator[tuple[Transport, str]]:
    """The way to the replicas, and the function's name there.

    One replica's address, else a router's, else whatever the backend has.
    """
    if address is None and (told := router.address(way)):
        with router.opened(told) as ways:
            yield ways, name
        return
    if address is None:
        backend = session.backend()
        full_name = backend.find(name).name
        with backend.transport(full_name) as transport:
            yield transport, full_name
        return
    router.checked(address, "--address")
    from funker.rpc.direct import Direct, max_body

    direct = Direct(address=address, max_body=max_body())
    try:
        yield direct, name
    finally:
        direct.close()


def _payload(words: list[str], data: str | None, content_type: str | None) -> Payload:
    """What to send. Raises UsageError where there are two answers to that."""
    typed = None if content_type is None else payload.header_type(content_type)
    if data is not None:
        if words:
            raise UsageError(
                f"{words[0]!r} and -d exclude each other", hint="The body is one or the other."
            )
        if data in ("-", "@-"):
            return payload.from_bytes(sys.stdin.buffer.read(), content_type=typed)
        return payload.from_data(data, content_type=typed)
    if words:
        built = payload.from_words(words)
        return built._replace(content_type=typed or built.content_type)
    body = _piped()
    if body or typed:
        return payload.from_bytes(body, content_type=typed)
    return payload.NOTHING


def _piped() -> bytes:
    """What a pipe or a file on stdin holds; nothing on a TTY, and from /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # stdin is closed, or isn't a descriptor at all
        return b""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return b""
    if not select.select([sys.stdin], [], [], _STDIN_PATIENCE)[0]:
        terminal.note("reading the body from stdin (for a call without one: < /dev/null)")
    return sys.stdin.buffer.read()


def print_answer(body: bytes, content_type: str, form: Format) -> None:
    if form is Format.JSON:
        terminal.data(as_json(payload.as_value(body, content_type)))
    elif form is Format.YAML:
        terminal.data(as_yaml(payload.as_value(body, content_type)))
    elif not sys.stdout.isatty():
        terminal.data_bytes(payload.for_pipe(body, content_type))
    elif (text := payload.for_terminal(body, content_type)) is not None:
        terminal.data(text)
    else:
        terminal.warn(f"the answer is {len(body)} bytes of {content_type}: redirect it to a file")


def _measured(
    once: Callable[[threading.Event], object], repeat: int, concurrency: int, form: Format
) -> list[load.Sample]:
    """Make the calls and print their figures; an interrupted run prints what it has."""
    samples: list[load.Sample] = []
    started = time.monotonic()
    try:
        with terminal.progress(elsewhere=False) as show:

            def finished(sample: load.Sample) -> None:
                samples.append(sample)
                show(f"{len(samples)} of {repeat} calls")

            load.run(once, repeat=repeat, concurrency=concurrency, finished=finished)
    finally:
        summary = load.summarise(samples, elapsed=time.monotonic() - started)
        first = next((sample.error for sample in samples if sample.error), None)
        if first is not None:
            terminal.fail(first)
        if form is Format.JSON:
            terminal.data(as_json(summary._asdict()))
        elif form is Format.YAML:
            terminal.data(as_yaml(summary._asdict()))
        else:
            terminal.data("".join(f"{line}\n" for line in load.as_lines(summary)))
    return samples


def _exit_code(samples: list[load.Sample]) -> int:
    """0 if all were answered; the failures' own code if they agree on one; else 1."""
    codes = {failures.exit_code(sample.error) for sample in samples if sample.error}
    return codes.pop() if len(codes) == 1 else int(bool(codes))
