"""Where faults are injected: a backend with its controller up, on a machine whose processes it
may kill. What differs between the backends is in `local_ground` and `swarm_ground`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from funker.backends.base import Backend, Prepared
from funker.images.source import read_source
from funker.spec import FunctionSpec
from tests.faults import ledger, processes
from tests.faults.processes import Process
from tests.faults.schedule import KINDS

HERE = Path(__file__).parent
PROGRAM, LOAD = HERE / "program", HERE / "load.py"
#: Seconds. Proves that something ends.
PATIENCE = 90.0
ROUTER, RECONCILER = "funker.controller.router", "funker.controller.reconciler"

#: From all processes, those that may be killed.
Find = Callable[[dict[int, Process]], list[Process]]


class Ground(ABC):
    """One place. The ledger's directory is new for each."""

    #: Seconds for a call's own work, and callers: as much as two cores can do.
    #: The faults that can be injected here.
    kinds = KINDS
    takes = (0.01, 2.0)
    callers = 8
    #: Seconds that a caller waits at most between two calls.
    pause = 0.2
    replicas = 5
    #: Calls per second that can be counted on.
    rate = 5.0

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.directory = Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
        self.directory.chmod(0o777)
        self._prepared: dict[str, Prepared] = {}
        self._load = str(shutil.copy(LOAD, self.directory))
        self.wipe()

    # What is written down

    def wipe(self) -> None:
        """An empty ledger, to which the user of a container may write as well."""
        (self.directory / "enough").unlink(missing_ok=True)
        for name in (ledger.CALLS, ledger.RUNS):
            file = self.directory / name
            file.write_text("")
            file.chmod(0o666)

    def ledger(self) -> ledger.Ledger:
        return ledger.read(self.directory)

    # Functions and their callers

    def deploy(self, name: str, **spec: Any) -> None:
        """The function of `program`; a `generation` makes it another version."""
        if name not in self._prepared:
            self._prepared[name] = self._prepare(name)
        prepared = self._prepared[name]
        variables = {"LEDGER": self.seen_at, "GENERATION": str(spec.pop("generation", 0))}
        fields = {**self.settings, **spec, "name": name, "env": variables}
        fields |= {"image": prepared.image, "image_name": prepared.image_name}
        self.backend.deploy(FunctionSpec(**fields, platform=prepared.platform))

    def _prepare(self, name: str) -> Prepared:
        return self.backend.prepare(read_source(PROGRAM, name=name))

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of a function's spec that are needed here."""
        return {}

    @property
    def seen_at(self) -> str:
        """The ledger's directory as functions and callers see it."""
        return str(self.directory)

    @abstractmethod
    def call(self, order: dict[str, Any]) -> None:
        """Start callers, see `load.Callers`; `until_over` waits for them."""

    @abstractmethod
    def callers_output(self) -> str | None:
        """What the callers have said, once they have ended; None while they go on."""

    def order(self, names: Iterable[tuple[str, bool]], **more: Any) -> dict[str, Any]:
        """For `call`: of functions that are idempotent or not."""
        return {
            "directory": self.seen_at,
            "functions": [{"name": name, "idempotent": again} for name, again in names],
            "callers": self.callers,
            "takes": self.takes,
            "pause": self.pause,
            "deadline": PATIENCE - 10,
            "seed": 0,
            **more,
        }

    def dismiss(self) -> None:
        """The callers begin no more calls."""
        (self.directory / "enough").touch()

    def until_over(self, seconds: float) -> None:
        """Wait for the callers, who begin no more calls by now."""
        give_up = time.monotonic() + seconds
        over = b'{"what": "over"'
        while over not in (self.directory / ledger.CALLS).read_bytes()[-200:]:
            ended = self.callers_output()
            assert ended is None or self.is_over(), f"the callers failed: {ended}"
            assert time.monotonic() < give_up, "the callers go on and on"
            threading.Event().wait(0.1)

    def is_over(self) -> bool:
        return b'"over"' in (self.directory / ledger.CALLS).read_bytes()[-200:]

    # Faults

    @abstractmethod
    def processes(self) -> dict[int, Process]:
        """All processes of this ground: controller and replicas."""

    def front(self, function: str, pick: float) -> Process:
        return self._victim(lambda there: processes.fronts(there, function), pick)

    def worker(self, function: str, pick: float) -> Process:
        return self._victim(
            lambda there: processes.workers(there, processes.fronts(there, function)), pick
        )

    def kill(self, victim: Callable[[], Process]) -> Process:
        """kill -9 of what `victim()` finds, and of another if that has just ended by itself."""
        give_up = time.monotonic() + PATIENCE
        while not processes.kill(process := victim()):
            assert time.monotonic() < give_up
        return process

    def kill_module(self, module: str) -> Process:
        return self.kill(
            lambda: self._victim(lambda there: processes.running(there, module)[:1], 0.0)
        )

    def kill_modules(self, *modules: str) -> None:
        """kill -9 of those that run just now."""
        there = self.processes()
        for module in modules:
            for process in processes.running(there, module):
                processes.kill(process)

    def _victim(self, find: Find, pick: float) -> Process:
        give_up = time.monotonic() + PATIENCE
        while not (found := find(self.processes())):
            assert time.monotonic() < give_up, "there is nothing to kill"
            threading.Event().wait(0.05)
        return found[min(int(pick * len(found)), len(found) - 1)]

    @abstractmethod
    def hold_down(self, seconds: float, *modules: str) -> None:
        """kill -9 of these parts of the controller, and no others in their place for so long."""

    @abstractmethod
    def stop_engine(self, seconds: float) -> None:
        """Whoever starts replicas does nothing for so long."""

    @abstractmethod
    def stop_a_replica(self, function: str) -> None:
        """Ask one replica to leave, behind the controller's back."""

    # What is there

    def status(self, name: str) -> dict[str, Any]:
        """What the router says of a function."""
        with self.backend.controller() as controller:
            status: dict[str, Any] = controller.query("status")["functions"].get(name, {})
            return status

    def until(self, name: str, **counts: int) -> None:
        """Wait until the router counts so many of a function's replicas or calls: free=3."""
        give_up = time.monotonic() + PATIENCE
        while True:
            status = self.status(name)
            if {key: status.get(key) for key in counts} == counts:
                return
            assert time.monotonic() < give_up, f"{name} never came to {counts}: {status}"
            threading.Event().wait(0.05)

    def until_calm(self, name: str) -> None:
        """Wait until a function has as many replicas as are wanted, and none of them a call."""
        give_up = time.monotonic() + PATIENCE
        while True:
            wanted = self.backend.find(name).wanted  # which the autoscaler may be lowering
            status = self.status(name)
            if (status.get("queued"), status.get("busy"), status.get("free")) == (0, 0, wanted):
                return
            assert time.monotonic() < give_up, f"{name} shall have {wanted} replicas: {status}"
            threading.Event().wait(0.2)

    def until_written(self, what: str, count: int) -> None:
        """Wait for so many events of a kind in the ledger."""
        give_up = time.monotonic() + PATIENCE
        while (seen := len(getattr(self.ledger(), what))) < count:
            assert time.monotonic() < give_up, f"{seen} of {count} calls {what}"
            threading.Event().wait(0.02)

    def close(self) -> None:
        shutil.rmtree(self.directory)


def python(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", *words]


def as_word(order: dict[str, Any]) -> str:
    return json.dumps(order)
