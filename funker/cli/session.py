"""The way from a command to its backend. Nothing else in the CLI chooses one, or an engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from funker.cli.failures import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

    from funker.backends.base import Backend
    from funker.backends.swarm.engine import Engine


class Which(StrEnum):
    """The backends that a command can be told to use."""

    SWARM = "swarm"
    LOCAL = "local"


class Own(NamedTuple):
    """Where a function runs that lives only as long as its command."""

    backend: Backend
    #: What another terminal needs in its environment to find it.
    variables: Mapping[str, str]
    #: Whether nobody else has functions there.
    private: bool
    #: Has what still runs at the end killed, as far as it is the command's own to kill.
    hurry: Callable[[], None]


class Session:
    """One command's backend, chosen and connected when it is first needed.

    The first of these says which: `--backend` or `--context` on the command line, FUNKER_BACKEND,
    a local controller that runs; else the swarm of the docker context.
    """

    def __init__(
        self,
        *,
        context: str | None = None,
        backend: Which | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`backend` is the one that was asked for, by whatever means."""
        self._context = context
        self._which = backend
        self._environ = environ
        self._engine: Engine | None = None

    @classmethod
    def of(cls, command: typer.Context) -> Session:
        """The session that the global options ask for. Raises `UsageError`."""
        given = command.find_root().params
        context: str | None = given.get("context")
        told: str | None = given.get("backend")
        which = Which(told) if told else None
        if context and _is_typed(command, "context"):
            if which is Which.LOCAL and _is_typed(command, "backend"):
                raise UsageError(
                    "--context and --backend local exclude each other",
                    hint="A context is an engine's, and the local backend has none.",
                )
            which = Which.SWARM
        return cls(context=context, backend=which)

    def which(self) -> Which:
        """The backend of this session. Decided once: a controller may come up meanwhile."""
        if self._which is None:
            self._which = Which.LOCAL if _runs(self._environ) else Which.SWARM
        return self._which

    def backend(self, *, subnet: str | None = None) -> Backend:
        """Where functions run. `subnet` is of a swarm's network, if it has to be made.

        Raises `BackendError`; never another engine than the one that was meant.
        """
        return open_backend(self, subnet=subnet)

    @contextlib.contextmanager
    def own(self, *, join: bool, progress: Callable[[str], None]) -> Iterator[Own]:
        """The backend for a function of this command alone.

        The swarm only if that was asked for; else a local controller of the command's own, so
        that it meets nobody else's; with `join` the one in the background, if that runs.
        Raises `BackendError`.
        """
        if self._which is Which.SWARM:
            variables = {"FUNKER_BACKEND": str(Which.SWARM)}
            if self._context:
                variables["FUNKER_CONTEXT"] = self._context
            yield Own(self.backend(), variables, private=False, hurry=_nothing)
        elif join and self.which() is Which.LOCAL and _runs(self._environ):
            yield Own(self.backend(), {}, private=False, hurry=_nothing)
        else:
            from funker.backends.local.embedded import embedded

            with embedded(self._environ, progress=progress) as made:
                yield Own(made.backend, made.variables, private=True, hurry=made.hurry)

    def engine(self) -> Engine:
        """The swarm's engine; for `open_backend`. Raises `BackendError`."""
        if self._engine is None:
            from funker.backends.swarm.engine import connect

            self._engine = connect(self._context)
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def open_backend(session: Session, *, subnet: str | None) -> Backend:
    """The backend of a session. Imports that one alone: Docker's library takes its time."""
    match session.which():
        case Which.LOCAL:
            from funker.backends.local.backend import Local

            return Local()
        case Which.SWARM:
            from funker.backends.swarm.backend import Swarm

            return Swarm(session.engine(), subnet=subnet)


def _runs(environ: Mapping[str, str]) -> bool:
    """Whether a controller of this user's runs on this machine."""
    from funker.backends.local import running

    return running(environ)


def _nothing() -> None:
    """There is nothing to hurry: what runs is the engine's, or another controller's."""


def _is_typed(command: typer.Context, option: str) -> bool:
    """Whether a global option stands on the command line; else it may come from a variable."""
    source = command.find_root().get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
