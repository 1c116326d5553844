"""A function that lives as long as a command does: what `funker run` and `funker dev` share."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli import calls, terminal
from funker.cli.session import Own, Session
from funker.cli.signature import example
from funker.rpc.errors import FunctionNotFound, FunkerError, RouterUnavailable

if TYPE_CHECKING:
    from funker.backends.base import Deployment, LogLine
    from funker.images.source import Source
    from funker.spec import FunctionSpec

#: Seconds between questions to the router for calls that have ended: it tells nobody by itself.
POLL_S = 0.1
#: Calls that are asked for at a time.
_LIMIT = 50
#: Seconds without an answer from the router after which it is given up.
_SILENCE_S = 10.0
#: Seconds for replicas of the version before to leave after the new ones have come up.
_CHANGE_S = 10.0
#: Seconds for the last lines of a log whose function is gone.
_LAST_LINES_S = 2.0
#: Seconds of waiting for a busy replica before the person is told.
_PATIENCE_S = 1.0
#: Random digits of a name of the command's own, and the characters that a name may have.
_DIGITS, _LONGEST_NAME = 6, 63

Environment = Annotated[
    list[str] | None,
    typer.Option("-e", "--env", metavar="NAME=VALUE", help="Set a variable; NAME alone: as here."),
]
Name = Annotated[
    str | None, typer.Option("-n", "--name", metavar="NAME", help="The function's name.")
]
Replicas = Annotated[int, typer.Option(metavar="N", min=1, help="Replicas that wait for calls.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        envvar="FUNKER_TIMEOUT", metavar="DURATION", help="How long a call may run, else 60s."
    ),
]
Registry = Annotated[
    str | None,
    typer.Option(
        envvar="FUNKER_REGISTRY",
        metavar="HOST[/PATH]",
        help="Push the image there, so that every node can run it.",
    ),
]


class Foreground:
    """One function on one backend. `deploy` as often as it changes."""

    def __init__(self, own: Own, spec: FunctionSpec) -> None:
        self.name = spec.name
        self.backend = own.backend
        self._variables = own.variables
        self._before = self._known()
        self._spec = spec
        self._output: _Output | None = None
        #: Whether a version of it serves, or has.
        self.serves = False
        #: Whether it is about to go, so that whoever loses touch with it needn't say so.
        self.ending = False

    def deploy(
        self,
        source: Source,
        *,
        base: str | None,
        registry: str | None,
        show: Callable[[LogLine], None],
    ) -> Deployment:
        """Make this source the function's; what its replicas write is shown from here on.

        Raises `SourceError`, `BuildError` or `BackendError`; then it is as it was before.
        """
        from funker.images.source import check_syntax

        check_syntax(source)
        old = self._idle() if self.serves else set()
        with terminal.progress() as tell:
            made = self.backend.prepare(source, base=base, registry=registry, progress=tell)
            spec = self._spec.changed(
                image=made.image, image_name=made.image_name, platform=made.platform
            )
            deployment = self.backend.deploy(spec, progress=tell)
            if deployment.restarted:
                self._wait_for_the_end_of(old)
        self.serves = True
        for warning in deployment.warnings:
            terminal.warn(warning)
        if self._output is None or not self._output.is_alive():
            self._output = _Output(self.backend.logs(self.name, follow=True), show)
            self._output.start()
        return deployment

    def require_controller(self) -> None:
        """Raises `NoController` where nobody could tell what becomes of a call."""
        with self.backend.controller():
            pass

    def told(self, source: Source) -> None:
        """Say how to call it from elsewhere."""
        shown = example(self.name, source)
        words = "".join(f"{name}={shlex.quote(value)} " for name, value in self._variables.items())
        terminal.note(f"{self.name} is up. Call it, from another terminal:")
        terminal.note(f"  {words}{shown.command}")
        where = "with the same environment" if words else "on its network"
        terminal.note(f"  {shown.python}   # in Python, {where}")

    def calls(self) -> Iterator[Mapping[str, Any]]:
        """The records of calls as they end, for ever; none of a namesake from before.

        Raises `NoController`, at once where there is none.
        """
        seen = self._before
        heard = time.monotonic()
        while True:
            with self.backend.controller() as controller:
                try:
                    while True:
                        records = controller.query("calls", function=self.name, limit=_LIMIT)
                        yield from (r for r in reversed(records) if r["id"] not in seen)
                        seen = {record["id"] for record in records}
                        heard = time.monotonic()
                        time.sleep(POLL_S)
                except RouterUnavailable:  # it may be just starting again
                    if time.monotonic() - heard > _SILENCE_S:
                        raise
            time.sleep(POLL_S)

    def _wait_for_the_end_of(self, old: set[str]) -> None:
        """Until none of these replicas would take a call: who edits and calls means the new ones.

        A swarm stops the old ones once the new ones are up, and nothing tells when.
        """
        give_up = time.monotonic() + _CHANGE_S
        while old & self._idle() and time.monotonic() < give_up:
            time.sleep(POLL_S)

    def _idle(self) -> set[str]:
        """The replicas that would take a call, as far as the router knows."""
        from funker.backends.base import NoController

        try:
            with self.backend.controller() as controller:
                functions = controller.query("status")["functions"]
        except (NoController, RouterUnavailable):
            return set()
        replicas = functions.get(self.name, {}).get("replicas", [])
        return {replica["replica"] for replica in replicas if replica["state"] == "free"}

    def _known(self) -> set[str]:
        """The calls of this name that the router knows already."""
        from funker.backends.base import NoController

        try:
            with self.backend.controller() as controller:
                records = controller.query("calls", function=self.name)
        except (NoController, RouterUnavailable):
            return set()
        return {record["id"] for record in records}

    def remove(self) -> None:
        """The function goes; what is busy finishes first."""
        self.ending = True
        ending = threading.Timer(_PATIENCE_S, terminal.note, [_ENDING.format(name=self.name)])
        ending.daemon = True
        ending.start()
        try:
            with contextlib.suppress(FunctionNotFound):
                self.backend.remove(self.name)
        finally:
            ending.cancel()

    def last_lines(self) -> None:
        """Wait for what the replicas wrote at the end."""
        if self._output is not None:
            self._output.join(_LAST_LINES_S)


_ENDING = "{name}: waiting for its replicas to finish; Ctrl-C again ends them now"


class _Output(threading.Thread):
    """Shows a log, line by line, until its function is gone."""

    def __init__(self, lines: Iterator[LogLine], show: Callable[[LogLine], None]) -> None:
        super().__init__(name="output", daemon=True)
        self._lines = lines
        self._show = show

    def run(self) -> None:
        try:
            for line in self._lines:
                self._show(line)
        except BrokenPipeError:
            return  # its reader is gone; the calls go on
        except FunkerError as error:
            terminal.warn(f"there are no more lines from here on: {error.message}")


@contextlib.contextmanager
def opened(
    session: Session, source: str, name: str | None, *, join: bool, **fields: Any
) -> Iterator[Foreground]:
    """The function named by its source, or `name`; it is removed when the context ends.

    `join`: a local controller in the background is used where one is up. Where others have
    functions, too, the name has to be a free one (`NameTaken`); `run` makes one up.
    """
    from funker.spec import FunctionSpec
    from funker.spec.values import check_name

    with _hangups_end(), session.own(join=join, progress=terminal.note) as own:
        if name is None and not own.private and not join:
            suffix = f"-{secrets.token_hex(_DIGITS // 2)}"
            name = f"{source[: _LONGEST_NAME - len(suffix)]}{suffix}"
        spec = FunctionSpec(name=check_name(name or source), image=_NO_IMAGE, **fields)
        if not own.private:
            _require_free(own, spec.name)
        function = Foreground(own, spec)
        try:
            yield function
        finally:
            try:
                function.remove()
            except KeyboardInterrupt:  # the second one
                own.hurry()
                raise
            finally:
                function.last_lines()


#: Takes the image's place until it is made.
_NO_IMAGE = "sha256:" + "0" * 64


def _require_free(own: Own, name: str) -> None:
    from funker.backends.base import NameTaken

    if any(function.name == name for function in own.backend.functions()):
        raise NameTaken(
            f"there is a function {name} already",
            hint=f"Choose another name with -n, or remove it: funker rm {name}",
        )


@contextlib.contextmanager
def _hangups_end() -> Iterator[None]:
    """A terminal that closes ends the command as Ctrl-C does, unless it shall outlive it."""
    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def fields(env: list[str] | None, timeout: str | None, replicas: int) -> dict[str, Any]:
    """The fields of a spec that the shared options say. Raises SpecError."""
    from funker.spec.values import parse_env

    told: dict[str, Any] = {"env": parse_env(env or []), "replicas": replicas}
    return told if timeout is None else told | {"timeout": timeout}


def show_call(record: Mapping[str, Any]) -> None:
    """What became of a call, on stderr."""
    for line in calls.described(record, now=time.time()):
        terminal.note(line)
