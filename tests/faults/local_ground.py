"""The local backend as a place for faults, with a state directory of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from funker.backends.base import ControlPlane
from funker.backends.local import control
from funker.backends.local.backend import Local
from funker.backends.local.process import remove_tree
from funker.backends.local.state import StateDirectory
from tests.faults import processes
from tests.faults.ground import Ground, as_word, python
from tests.faults.processes import Process


class LocalGround(Ground):
    def __init__(self) -> None:
        # Not in pytest's own directories: their paths are too long for sockets.
        self._place = Path(tempfile.mkdtemp(prefix="fk-", dir="/tmp"))
        self.state = StateDirectory(self._place / "state")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
        self.environ = {
            **kept,
            "FUNKER_STATE_DIR": str(self.state.root),
            "XDG_CACHE_HOME": str(self._place / "cache"),
        }
        super().__init__(Local(self.environ))
        self._callers: subprocess.Popen[str] | None = None
        self.backend.up(ControlPlane())

    def call(self, order: dict[str, Any]) -> None:
        self._discard_callers()
        self._callers = subprocess.Popen(
            python(self._load, as_word(order)),
            # There is no other way than by the router here: who finds none has to wait for it.
            env={**self.environ, "FUNKER_ROUTER_WAIT": "60"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def callers_output(self) -> str | None:
        assert self._callers is not None
        if self._callers.poll() is None or self._callers.stdout is None:
            return None
        return self._callers.stdout.read()

    def processes(self) -> dict[int, Process]:
        root = str(self.state.root)
        return {
            pid: process
            for pid, process in processes.everything().items()
            if any(root in value for value in process.variables.values())
            and (self._callers is None or pid != self._callers.pid)
        }

    def hold_down(self, seconds: float, *modules: str) -> None:
        """The agent starts others at once, so these are killed too, and so on.

        It waits longer each time, so the outage takes some seconds longer than was asked for.
        """
        until = time.monotonic() + seconds
        names = [module.rpartition(".")[2] for module in modules]
        while time.monotonic() < until:
            children = control.ask(self.state, "status")["children"]
            for pid in filter(None, map(children.get, names)):
                with contextlib.suppress(ProcessLookupError):  # the agent doesn't know it yet
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def stop_engine(self, seconds: float) -> None:
        """kill -9 of the agent, with which idle replicas and the router end; then `up` again."""
        pid = int(control.ask(self.state, "status")["pid"])
        self.kill(lambda: self.processes()[pid])
        time.sleep(seconds)
        self.backend.up(ControlPlane())

    def stop_a_replica(self, function: str) -> None:
        """SIGTERM, as its agent would send it."""
        while True:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(self.front(function, 0.0).pid, signal.SIGTERM)
                return

    def _discard_callers(self) -> None:
        if self._callers is not None:
            self._callers.kill()
            self._callers.communicate()
            self._callers = None

    def close(self) -> None:
        try:
            self.backend.down()
            left = self.processes()
        finally:
            self._discard_callers()
            log = self.state.agent_log
            print(log.read_text()[-20_000:] if log.exists() else "no log of the agent")
            while still := self.processes():
                for process in still.values():
                    processes.kill(process)
            remove_tree(self._place)
            super().close()
        assert not left, f"left running: {left}"
