"""The relay in the anchor: a process in the container that the control plane keeps on each node.

The anchor is on the network `funker` and has the key of the router's callers, so a relay in it
reaches the router, which one in a container of its own can't; and it starts in a tenth of a
second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import docker.errors

from funker.backends.swarm import parts
from funker.backends.swarm.attached import AttachedStream
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.overlay import NETWORK

_COMMAND = ["python3", "-m", "funker.rpc.relay"]
#: The engine's answers for a container that is gone, or no longer runs.
_GONE = (404, 409)


def open_anchored(
    engine: Engine, *, networks: Collection[str], env: Mapping[str, str]
) -> AnchoredRelay | None:
    """A relay in the anchor of this engine's node, if there is one on one of these networks.

    `networks` are IDs: an anchor may still be on a network that was removed and made again.
    Raises `BackendError`.
    """
    with engine.errors():
        for container in parts.anchors(engine):
            ours = (container["NetworkSettings"]["Networks"] or {}).get(NETWORK) or {}
            if ours.get("NetworkID") not in networks:
                continue
            try:
                return AnchoredRelay(engine, container["Id"], env)
            except docker.errors.APIError as exc:
                if exc.status_code not in _GONE:
                    raise
    return None


class AnchoredRelay(AttachedStream):
    """The relay as a further process of a container that runs already."""

    def __init__(self, engine: Engine, container: str, env: Mapping[str, str]) -> None:
        """Raises `docker.errors.APIError`."""
        made = engine.api.exec_create(container, _COMMAND, stdin=True, environment=dict(env))
        super().__init__(engine.api.exec_start(made["Id"], socket=True))

    def remove(self) -> None:
        """Nothing: the API ends no such process. Its input has ended, and so will it."""
