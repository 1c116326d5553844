"""What an agent that was killed has left behind: processes that are on their way out, and files."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from funker.backends.local.process import Place, kill_group
from funker.backends.local.state import StateDirectory

#: Seconds that a router or a reconciler may take to leave once its agent is gone.
CHILD_GRACE_S = 1.0
#: Seconds between looks at those that are still there. They are no children of ours: nothing
#: portable tells of their end.
POLL_S = 0.05


class Strays:
    """Processes of an earlier agent. They leave by themselves: idle ones at once, busy ones when
    their outcome has been fetched. Those whose grace is over are killed."""

    def __init__(self, state: StateDirectory) -> None:
        self._left: dict[str, tuple[Place, float]] = {}
        self._final = False
        now = time.monotonic()
        with state.errors():
            entries = list(state.run.iterdir()) if state.run.exists() else []
        for entry in entries:
            name = entry.name.removesuffix(".lock")
            place = Place(state, name)
            grace = float(place.noted().get("grace", 0.0))
            self._left[name] = place, now + grace
        self.check()

    def __len__(self) -> int:
        return len(self._left)

    def check(self) -> None:
        """Clears up after those that are gone, kills those whose time is over."""
        for name, (place, kill_at) in list(self._left.items()):
            if place.empty():
                place.clear()
                del self._left[name]
                continue
            leaders = _leaders(place)
            # Without its worker it only keeps an answer, which nobody will fetch any more.
            done = self._final and "worker" not in leaders
            # Without its front nobody will take its worker's answer.
            done = done or ("pid" not in leaders and "worker" in leaders)
            if done or time.monotonic() >= kill_at:
                for leader in leaders.values():
                    kill_group(leader)

    def terminate(self) -> None:
        """They are to leave for good: there will be no router to take their answers."""
        self._final = True
        for place, _ in self._left.values():
            if (pid := _leaders(place).get("pid")) is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)

    def wait(self, *, children_only: bool = False) -> None:
        """Returns when all are gone, or all but replicas."""
        while any(not children_only or "." not in name for name in self._left):
            time.sleep(POLL_S)
            self.check()


def clear(state: StateDirectory) -> None:
    """Removes what is there only while a controller is. The caller holds the lock."""
    for file in (state.client_key, state.router_key, state.controller):
        file.unlink(missing_ok=True)
    for directory in (state.run, state.sockets):
        for entry in _entries(directory):
            entry.unlink(missing_ok=True)
        if directory.exists():
            directory.rmdir()


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


def _leaders(place: Place) -> dict[str, int]:
    """The processes that were noted, as far as they still lead a session as they did."""
    noted = place.noted()
    found = {}
    for key in ("pid", "worker"):
        pid = int(noted.get(key, 0))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid > 1 and os.getsid(pid) == pid:
                found[key] = pid
    return found
