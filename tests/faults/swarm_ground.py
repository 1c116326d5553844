"""The lab's swarm as a place for faults: its engine and containers are processes of this machine.

The functions' containers and that of their callers have the ledger's directory mounted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

from docker.errors import APIError
from docker.models.containers import Container

from funker.backends.base import ControlPlane, Prepared
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import Engine
from funker.images.source import read_source
from tests.faults import processes
from tests.faults.ground import PROGRAM, ROUTER, Ground, as_word
from tests.faults.processes import Process

#: What the lab's engines and all that they started have in their environment.
MARK = "FUNKER_LAB_NODE"
#: Where containers have the ledger's directory.
SEEN_AT = "/ledger"
KEY_FILE = "client-key"


class NoLab(Exception):
    """The engine is none whose processes may be killed."""


class SwarmGround(Ground):
    """Raises `NoLab`."""

    #: The engine starts about three containers a second on two cores.
    callers = 3
    pause = 1.0
    replicas = 4
    rate = 1.5

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._node = Path(os.environ.get("DOCKER_HOST", "").removeprefix("unix://")).parent
        self._dockerd()
        super().__init__(Swarm(engine))
        plane = ControlPlane(base=os.environ.get("FUNKER_BASE", ""))
        self._was_up = not self.backend.up(plane)
        (self.directory / KEY_FILE).write_text(self.backend.client_key())
        (self.directory / KEY_FILE).chmod(0o644)
        self._callers: Container | None = None

    def _dockerd(self) -> Process:
        for process in processes.everything().values():
            if process.variables.get(MARK) == str(self._node) and process.words[0] == "dockerd":
                return process
        raise NoLab(f"no engine of a lab listens in {self._node}")

    def _prepare(self, name: str) -> Prepared:
        return self.backend.prepare(
            read_source(PROGRAM, name=name), base=os.environ.get("FUNKER_BASE")
        )

    @property
    def settings(self) -> dict[str, Any]:
        mount = {"type": "bind", "source": str(self.directory), "target": SEEN_AT}
        return {"mounts": [mount]}

    @property
    def seen_at(self) -> str:
        return SEEN_AT

    def call(self, order: dict[str, Any]) -> None:
        prepared = next(iter(self._prepared.values()))
        self._discard_callers()
        self._callers = self._engine.client.containers.run(
            prepared.image,
            ["-W", "error", f"{SEEN_AT}/load.py", as_word(order)],
            name=f"callers-{secrets.token_hex(4)}",
            entrypoint=["python3"],
            network="funker",
            environment={"FUNKER_KEY_FILE": f"{SEEN_AT}/{KEY_FILE}"},
            volumes={str(self.directory): {"bind": SEEN_AT, "mode": "rw"}},
            detach=True,
        )

    def callers_output(self) -> str | None:
        assert self._callers is not None
        self._callers.reload()
        if self._callers.status == "running":
            return None
        return self._callers.logs().decode(errors="replace")

    def processes(self) -> dict[int, Process]:
        """Those under the shims of this node's engine. The callers aren't a function's."""
        there = processes.everything()
        engine = {pid for pid, each in there.items() if each.variables.get(MARK) == str(self._node)}
        return processes.under(there, engine)

    def hold_router_down(self, seconds: float) -> None:
        """The swarm would start another one at once: so its service is scaled to none."""
        self.kill_module(ROUTER)
        until = time.monotonic() + seconds
        self._scale_router(0)
        try:
            while time.monotonic() < until:
                for process in processes.running(self.processes(), ROUTER):
                    processes.kill(process)
                time.sleep(0.05)
        finally:
            self._scale_router(1)

    def _scale_router(self, replicas: int) -> None:
        while True:
            try:
                self._engine.client.services.get("funker_router").scale(replicas)
                return
            except APIError as error:
                if "out of sequence" not in str(error):  # somebody else has changed it meanwhile
                    raise

    def stop_engine(self, seconds: float) -> None:
        """The engine stands still: it answers nobody and starts nothing. Containers go on."""
        engine = self._dockerd()
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(engine.pid, signal.SIGCONT)

    def _discard_callers(self) -> None:
        if self._callers is not None:
            self._callers.remove(force=True)
            self._callers = None

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(super().close)
            stack.callback(self._engine.close)
            stack.callback(self._discard_callers)
            if not self._was_up:
                self.backend.down()
