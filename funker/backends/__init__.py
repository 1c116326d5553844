"""Where replicas run. Everything above this package sees only `base.Backend` and `base.Fleet`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funker.backends.base import Fleet


def open_fleet(environ: Mapping[str, str]) -> Fleet:
    """The functions of the backend that FUNKER_BACKEND names (default: `swarm`).

    Raises `BackendError`. What a backend needs is imported with it alone.
    """
    match environ.get("FUNKER_BACKEND") or "swarm":
        case "swarm":
            from funker.backends.swarm import fleet

            return fleet.open_fleet(environ)
        case "local":
            from funker.backends.local import fleet as local

            return local.open_fleet(environ)
        case other:
            from funker.backends.base import BackendError

            raise BackendError(
                f"no backend {other!r} has a controller",
                hint="Set FUNKER_BACKEND to swarm or local.",
            )
