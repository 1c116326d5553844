"""When containers started and ended, and waiting for what isn't announced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import docker

#: Seconds for containers to come or go.
PATIENCE = 60.0


class Events:
    """When containers of the rig's services started and ended, by the engine's clock."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._seen: list[tuple[str, str, float]] = []
        self._docker = docker.from_env()
        # A live stream: the engine remembers the last 256 events only, a few seconds' worth.
        self._stream = self._docker.api.events(
            filters={"type": "container", "event": ["start", "die"]}, decode=True
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def starts(self, name: str) -> list[float]:
        """Unix times, in order, at which containers of the service `name` started."""
        return self._times("start", name)

    def ends(self, name: str) -> list[float]:
        """Unix times, in order, at which containers of the service `name` ended."""
        return self._times("die", name)

    def close(self) -> None:
        self._stream.close()
        self._thread.join()
        self._docker.close()

    def _times(self, kind: str, name: str) -> list[float]:
        wanted = (kind, self._prefix + name)
        return sorted(at for what, whose, at in list(self._seen) if (what, whose) == wanted)

    def _listen(self) -> None:
        for event in self._stream:
            service = event["Actor"]["Attributes"].get("com.docker.swarm.service.name", "")
            if service.startswith(self._prefix):
                self._seen.append((event["Action"], service, event["timeNano"] / 1e9))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the engine doesn't announce. Raises `TimeoutError`."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.1)


def pace(times: list[float]) -> float:
    """How many a second, from the first of these times to the last.

    Counting by a window's length instead would round to one in some thirty. Raises `ValueError`
    for fewer than two.
    """
    if len(times) < 2:
        raise ValueError(f"{len(times)} events are no pace")
    return (len(times) - 1) / (max(times) - min(times))
