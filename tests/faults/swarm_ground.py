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

from docker.errors import APIError, NotFound
from docker.models.containers import Container

from funker.backends.base import ControlPlane, Prepared
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import Engine
from funker.images.source import read_source
from tests.faults import processes
from tests.faults.ground import PATIENCE, PROGRAM, Ground, as_word
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
    callers = 6
    pause = 1.0
    replicas = 3
    rate = 1.0

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

    def hold_down(self, seconds: float, *modules: str) -> None:
        """The swarm would start others at once: so their services are scaled to none."""
        until = time.monotonic() + seconds
        self.kill_modules(*modules)
        try:
            for module in modules:
                self._scale(module, 0)
            while time.monotonic() < until:
                self.kill_modules(*modules)  # one that was started in between
                time.sleep(0.05)
        finally:
            for module in modules:
                self._scale(module, 1)

    def _scale(self, module: str, replicas: int) -> None:
        name = f"funker_{module.rpartition('.')[2]}"
        while True:
            try:
                services: Any = self._engine.client.services
                services.get(name).scale(replicas)
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

    def stop_a_replica(self, function: str) -> None:
        """`docker stop`, with the patience that the function's service has."""
        while True:
            label = f"com.docker.swarm.service.name={function}"
            there = self._engine.client.containers.list(
                filters={"label": label}, ignore_removed=True
            )
            for container in there:
                with contextlib.suppress(NotFound):  # it has just ended by itself
                    container.stop(timeout=round(PATIENCE))
                    return

    def drain(self, seconds: float) -> None:
        """The only node takes no tasks for so long: functions and controller have to leave."""
        self._make_node("drain")
        try:
            time.sleep(seconds)
        finally:
            self._make_node("active")

    def _make_node(self, availability: str) -> None:
        (node,) = self._engine.client.nodes.list()
        node.update({**node.attrs["Spec"], "Availability": availability})

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
