"""The way from a command to the engine. Nothing else in the CLI chooses an engine or a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funker.backends.base import Backend
    from funker.backends.swarm.engine import Engine


class Session:
    """One command's connection to the engine that was meant; made when it is first needed."""

    def __init__(self, *, context: str | None = None) -> None:
        self._context = context
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Raises BackendError; never another engine than the one that was meant."""
        if self._engine is None:
            from funker.backends.swarm.engine import connect

            self._engine = connect(self._context)
        return self._engine

    def backend(self, *, subnet: str | None = None) -> Backend:
        """Where functions run. `subnet` is of their network, if it has to be made."""
        return open_backend(self, subnet=subnet)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def open_backend(session: Session, *, subnet: str | None) -> Backend:
    """The backend for a session: the swarm that its engine manages."""
    from funker.backends.swarm.backend import Swarm

    return Swarm(session.engine, subnet=subnet)
