"""The local backend under measurement: a controller of its own, and bare processes beside it.

    with LocalRig() as rig:
        rig.function("add", replicas=1)
        rig.run("load.py", "add", 16, 20, env=rig.environment)

What is compared runs on the same interpreter with the same modules and variables, those that the
agent gives to a replica, and so do the callers. The controller is one as `funker run` has it, in a
temporary directory, and never meets the user's. Leaving the block ends everything. So does the
death of this process, however it comes; a program that is under way then gives up when its own
patience is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.rig.swarm import PROGRAMS
from funker.backends.base import silent
from funker.backends.local import control, runtime
from funker.backends.local.embedded import embedded
from funker.backends.local.environments import python_with
from funker.backends.local.state import StateDirectory
from funker.images.source import read_source
from funker.rpc.client import encode_value, invoke
from funker.spec import FunctionSpec

#: Seconds for a replica to come or to go.
PATIENCE = 30.0
#: What any replica over ZeroMQ needs at the least, as a program.
IMPORT_ZMQ = "import zmq"


@dataclass(frozen=True)
class Replica:
    name: str
    pid: int


class LocalRig:
    """One benchmark's controller, functions and programs."""

    def __init__(self) -> None:
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # What the user's shell says of routers and keys is for other calls.
        own = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
        with contextlib.ExitStack() as stack:
            cache = tempfile.TemporaryDirectory(prefix="funker-bench-")
            own["XDG_CACHE_HOME"] = stack.enter_context(cache)
            controller = stack.enter_context(embedded(own, progress=silent))
            self._backend = controller.backend
            self._state = StateDirectory.of(controller.variables)
            # That of functions without requirements.
            self._python = python_with(None, "", environ=own, progress=silent)
            self._bare = runtime.environment(runtime.install(self._state), self._python, own)
            self._transport = stack.enter_context(self._backend.transport())
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # Functions

    def function(self, name: str, *, replicas: int, **isolation: Any) -> None:
        """Deploy the function of `programs`; returns when its replicas are up.

        `isolation` and `slots` as in its spec.
        """
        made = self._backend.prepare(read_source(PROGRAMS, name=name))
        image: dict[str, Any] = {"image": made.image, "image_name": made.image_name}
        self._backend.deploy(FunctionSpec(name=name, replicas=replicas, **image, **isolation))

    def scale(self, name: str, replicas: int) -> None:
        """Change the number of replicas. To 0: waits until all of them have ended."""
        self._backend.scale(name, replicas)
        for function in self._news(name):
            if replicas or not function["replicas"]:
                return

    def use_up(self, name: str, replica: Replica) -> float:
        """Call the function's only replica; the time of its end, by `perf_counter`."""
        content_type, body = encode_value({"x": 1, "y": 2})
        descriptor = os.pidfd_open(replica.pid)
        try:
            invoke(self._transport, name, body, content_type, deadline=PATIENCE)
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                raise TimeoutError(f"{replica.name} doesn't end")
            return time.perf_counter()
        finally:
            os.close(descriptor)

    def idle(self, name: str, *, after: Replica | None = None) -> Replica:
        """Returns when a replica other than that one is idle."""
        for function in self._news(name):
            for about in function["replicas"]:
                replica = Replica(about["replica"], about["pid"])
                if about["state"] == "ready" and replica != after:
                    return replica
        raise AssertionError

    def calls(self, name: str, limit: int) -> list[dict[str, Any]]:
        """The last calls that the router knows of."""
        with self._backend.controller() as controller:
            known: list[dict[str, Any]] = controller.query("calls", function=name, limit=limit)
        return known

    def _news(self, name: str) -> Any:
        """What the agent says of the function, each time that something has happened."""
        generation = -1
        while True:
            status = control.ask(
                self._state, "wait", of="generation", since=generation, seconds=PATIENCE
            )
            if status["generation"] == generation:
                raise TimeoutError(f"nothing happens to {name}")
            generation = status["generation"]
            yield status["functions"][name]

    # Programs

    @property
    def environment(self) -> dict[str, str]:
        """A caller's variables."""
        return {
            "FUNKER_ROUTER": self._state.router_endpoint,
            "FUNKER_KEY_FILE": str(self._state.client_key),
        }

    def forwarder(self, name: str, *, peers: int, secure: bool) -> dict[str, str]:
        """What a router costs at the least, and fresh processes behind it: see `forwarder.py`.

        With the keys of the router, or none. The variables of its callers.
        """
        callers, behind = (f"ipc://{self._state.sockets}/{name}-{side}" for side in ("in", "out"))
        own = {"FUNKER_ROUTER_KEY_FILE": str(self._state.router_key)} if secure else {}
        theirs = {"FUNKER_KEY_FILE": str(self._state.client_key)} if secure else {}
        self.keep(1, PROGRAMS / "forwarder.py", callers, behind, env=own)
        self.keep(peers, PROGRAMS / "peer.py", behind, env=theirs)
        return {"FUNKER_ROUTER": callers, **theirs}

    def run(self, program: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
        """Run one of `programs` to its end; what it printed, as JSON."""
        command = [self._python, str(PROGRAMS / program), *map(str, arguments)]
        done = subprocess.run(
            command, env={**self._bare, **(env or {})}, stdout=subprocess.PIPE, check=True
        )
        return json.loads(done.stdout)

    def keep(
        self, number: int, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> Kept:
        """Have so many processes of Python with these arguments, always: see `keep.py`."""
        command = [self._python, str(PROGRAMS / "keep.py"), str(number), *map(str, arguments)]
        kept = Kept(command, {**self._bare, **(env or {})})
        self._cleanup.callback(kept.end)
        return kept

    def start_python(self) -> float:
        """Milliseconds from the start of a process to its having imported zmq."""
        began = time.perf_counter()
        command = [self._python, "-c", f"{IMPORT_ZMQ}, os; os.write(1, b'.')"]
        with subprocess.Popen(
            command, env=self._bare, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stdout is not None
            if process.stdout.read(1) != b".":
                raise RuntimeError("zmq can't be imported")
            return (time.perf_counter() - began) * 1000


class Kept:
    """Processes that are started again and again."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # its end, also by our death, is theirs
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._starts: list[float] | None = None

    def end(self) -> list[float]:
        """Ends them all; the Unix times of their starts. May be called again."""
        if self._starts is None:
            said, _ = self._process.communicate()
            if self._process.returncode:
                raise RuntimeError(f"keep.py ended with status {self._process.returncode}")
            self._starts = json.loads(said)
        return self._starts
