"""The router and the reconciler as processes beside the agent: the same modules as everywhere."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from funker.backends.local.process import Place
from funker.backends.local.state import StateDirectory
from funker.backends.local.sweep import CHILD_GRACE_S

#: Seconds before one that has died early is started again: the first time, and at most.
BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
#: Seconds after which it has proved that it can live. Callers wait 3 s for a router.
STEADY_S = 1.0


class Child:
    """A module that is kept running. `name` is the last part of its module's."""

    def __init__(self, state: StateDirectory, module: str, environment: Mapping[str, str]) -> None:
        self.module = module
        self.name = module.rpartition(".")[2]
        self.starts = 0
        #: When it is to be started; infinity while it runs, or shall run no more.
        self.due = 0.0
        self._environment = environment
        self._place = Place(state, self.name)
        self._popen: subprocess.Popen[bytes] | None = None
        self._tether = -1
        self._started_at = 0.0
        self._wait = 0.0

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    def start(self) -> None:
        """Raises `OSError`."""
        reader, self._tether = os.pipe()
        alive = os.open(self._place.alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            command = ["funker.backends.local.tether", str(reader), self.module]
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(reader, alive),
                start_new_session=True,
            )
        except OSError:
            os.close(self._tether)
            raise
        finally:
            os.close(reader)
            os.close(alive)
        self._place.note(self._popen.pid, 0, CHILD_GRACE_S)
        self._started_at = time.monotonic()
        self.starts += 1
        self.due = float("inf")

    def ended(self) -> str:
        """How it ended, if it did just now; it is due again then. Else empty."""
        if self._popen is None or self._popen.poll() is None:
            return ""
        status = self._popen.returncode
        lived = time.monotonic() - self._started_at
        self._wait = (
            0.0 if lived >= STEADY_S else min(max(self._wait * 2, BACKOFF_S), BACKOFF_MAX_S)
        )
        # The first time at once: it was killed, and had lived for a while or been just made.
        self.due = time.monotonic() + (self._wait if self.starts > 1 else 0.0)
        self._popen = None
        os.close(self._tether)
        self._place.clear()
        return f"{self.name} ended with status {status}"

    def stop(self) -> None:
        """Ends it for good; returns when it is gone."""
        self.due = float("inf")
        if self._popen is None:
            return
        self._popen.terminate()
        try:
            self._popen.wait(CHILD_GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None
        os.close(self._tether)
        self._place.clear()
