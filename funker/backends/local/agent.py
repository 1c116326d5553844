"""The local engine: the process in the background that keeps functions' replicas running.

    python3 -m funker.backends.local.agent

It holds the state directory's lock, runs the router and the reconciler beside it, and for each
function as many replicas as its file says. SIGTERM: everything leaves in order, the desired state
stays. A second SIGTERM: everything is killed. If it is killed itself, its children notice.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from funker.backends.local import keys, runtime, snapshot
from funker.backends.local.broom import Broom
from funker.backends.local.child import Child
from funker.backends.local.control import Server, Status
from funker.backends.local.journal import Journal
from funker.backends.local.pool import Failure, Pool, Start, Stop
from funker.backends.local.process import Process
from funker.backends.local.state import Record, StateDirectory
from funker.backends.local.sweep import Strays
from funker.rpc.errors import FunkerError

#: Seconds between looks at the functions' directory, should somebody change it without a word.
SCAN_S = 2.0
#: Seconds between looks at what an earlier agent has left running.
STRAYS_S = 0.2
#: Replicas that start at once, for each core: more would only slow each other down.
STARTS_PER_CORE = 4


@dataclass(slots=True)
class Function:
    """One function: its replicas, and every version of it that any of them may be of."""

    name: str
    pool: Pool = field(default_factory=Pool)
    records: dict[str, Record] = field(default_factory=dict)


class Agent:
    """One state directory's agent. `run` returns after SIGTERM."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._runtime = runtime.install(state)
        self._node = socket.gethostname()
        self._started_at = time.time()
        self._selector = selectors.DefaultSelector()
        self._functions: dict[str, Function] = {}
        self._processes: dict[str, Process] = {}
        self._generation = self._edition = 0
        self._health: dict[str, tuple[int, Failure | None]] = {}
        self._seen = -1  # the functions' directory's time of change
        self._next_scan = 0.0
        self._leaving = 0  # SIGTERMs so far
        self._limit = STARTS_PER_CORE * (os.cpu_count() or 1)
        self._signals = _signal_descriptor()
        self._selector.register(self._signals, selectors.EVENT_READ, self._drain_signals)
        self._server = Server(state, self._selector, self._status)
        self._journal = Journal(state.logs)
        self._broom = Broom()
        self._strays = Strays(state)
        self._strays.wait(children_only=True)  # two routers can't have one address
        environment = {
            **os.environ,
            "FUNKER_BACKEND": "local",
            "FUNKER_STATE_DIR": str(state.root),
            "FUNKER_LISTEN": state.router_endpoint,
            "FUNKER_CONTROL": state.control_endpoint,
            "FUNKER_ROUTER_KEY_FILE": str(state.router_key),
        }
        self._children = [
            Child(state, f"funker.controller.{name}", environment)
            for name in ("router", "reconciler")
        ]

    def introduce(self) -> None:
        """Writes down who this is and where it is found, for people."""
        fields = {
            "pid": os.getpid(),
            "started": self._started_at,
            "router": self._state.router_endpoint,
            "control": self._state.control_endpoint,
            "socket": self._state.agent_socket,
        }
        self._state.write(self._state.controller, json.dumps(fields, indent=2) + "\n")

    def run(self) -> None:
        """Until SIGTERM has come and everything has left."""
        while not self._over():
            self._scan()
            self._start_children()
            self._carry_out()
            self._server.changed(self._news())
            wait = self._wakeup() - time.monotonic()
            for key, events in self._selector.select(max(wait, 0.0)):
                key.data(events)
            self._reap()
        for child in reversed(self._children):  # the router last: it hands out answers
            child.stop()
        self._server.close()
        self._journal.close()
        self._broom.finish()

    # What shall be

    def _scan(self, *, now: bool = False) -> None:
        """Reads the functions' files if any of them has changed."""
        if time.monotonic() < self._next_scan and not now:
            return
        self._next_scan = time.monotonic() + SCAN_S
        changed = self._state.functions.stat().st_mtime_ns
        if changed == self._seen and not now:
            return
        self._seen = changed
        records = {} if self._leaving else self._state.records()
        for name, record in records.items():
            function = self._functions.setdefault(name, Function(name))
            function.pool.want(record.revision, record.replicas)
            alive = {r.revision for r in function.pool.replicas.values()}
            alive |= {function.pool.target, function.pool.proven}
            function.records = {rev: r for rev, r in function.records.items() if rev in alive}
            function.records[record.revision] = record
        for name, function in self._functions.items():
            if name not in records:
                function.pool.want("", 0)
        used = {r.snapshot for f in self._functions.values() for r in f.records.values()}
        self._broom.sweep(lambda: snapshot.prune(self._state, used))
        self._generation += 1

    def _carry_out(self) -> None:
        for function in list(self._functions.values()):
            for step in function.pool.plan(time.monotonic()):
                match step:
                    case Start() if not self._full():
                        self._start(function, step)
                    case Stop(id):
                        self._stop(function, id)
            if not function.pool.replicas and not function.pool.target and not self._leaving:
                del self._functions[function.name]
                self._journal.forget(function.name)
                self._generation += 1
        if self._leaving > 1:
            for process in self._processes.values():
                process.kill_at = 0.0

    def _full(self) -> bool:
        pools = (function.pool for function in self._functions.values())
        starting = sum(r.state == "starting" for pool in pools for r in pool.replicas.values())
        return starting >= self._limit

    # Replicas

    def _start(self, function: Function, start: Start) -> None:
        id = secrets.token_hex(6)
        record = function.records[start.revision]
        try:
            image = snapshot.load(self._state, record.snapshot)
            process = Process(
                self._state,
                function=function.name,
                slot=start.slot,
                id=id,
                grace=record.grace,
                command=image.command,
                directory=image.directory,
                environment=self._environment(function.pool, record, image),
            )
        except (OSError, FunkerError) as error:
            function.pool.missed(start.slot, f"can't be started: {error}", time.monotonic())
            return
        self._processes[id] = process
        function.pool.started(id, start)
        for fd in process.streams:
            self._selector.register(fd, selectors.EVENT_READ, self._pumping(process, fd))
        hearing = self._hearing(function, process)
        self._selector.register(process.link, selectors.EVENT_READ, hearing)
        self._generation += 1

    def _environment(self, pool: Pool, record: Record, image: snapshot.Snapshot) -> dict[str, str]:
        spec = record.spec
        candidate = pool.proven not in ("", record.revision)
        environment = {
            **runtime.environment(self._runtime, image.python, os.environ),
            **spec["env"],
            "FUNKER_FUNCTION": record.name,
            "FUNKER_NODE": self._node,
            "FUNKER_TIMEOUT": str(spec["timeout"]),
            "FUNKER_VERSION": self._runtime.version,
            "FUNKER_ROUTER": self._state.router_endpoint,
            "FUNKER_KEY_FILE": str(self._state.client_key),
            "FUNKER_CANDIDATE": "1" if candidate else "",
            "FUNKER_HANDLER": spec["handler"] or image.handler,
        }
        if spec["max_body"] is not None:
            environment["FUNKER_MAX_BODY"] = str(spec["max_body"])
        return environment

    def _stop(self, function: Function, id: str) -> None:
        process = self._processes[id]
        process.terminate()
        process.kill_at = time.monotonic() + process.grace
        function.pool.stopping(id)
        self._generation += 1

    def _pumping(self, process: Process, fd: int) -> Callable[[int], None]:
        def pump(_: int) -> None:
            if not process.pump(fd, self._journal):
                self._selector.unregister(fd)

        return pump

    def _hearing(self, function: Function, process: Process) -> Callable[[int], None]:
        def hear(_: int) -> None:
            for word in process.hear():
                match word:
                    case {"state": "idle"}:
                        function.pool.ready(process.id, time.monotonic())
                    case {"state": "failed", "message": message, "traceback": traceback}:
                        function.pool.failed(process.id, message, traceback)
                self._generation += 1
            if process.silent:
                self._selector.unregister(process.link)

        return hear

    def _reap(self) -> None:
        now = time.monotonic()
        for process in list(self._processes.values()):
            if now >= process.kill_at:
                process.kill()
                process.kill_at = now + 1.0
            how = process.ended()
            if how is None:
                continue
            del self._processes[process.id]
            hear = self._selector.get_map().get(process.link)
            if hear is not None:
                hear.data(selectors.EVENT_READ)
            for descriptor in (*process.streams, process.link.fileno()):
                with contextlib.suppress(KeyError):  # it had ended before
                    self._selector.unregister(descriptor)
            place = process.bury(self._journal)
            self._broom.sweep(place.clear)
            self._functions[process.function].pool.exited(process.id, how, now)
            self._generation += 1
        for child in self._children:
            if told := child.ended():
                print(f"funker-local: {told}", file=sys.stderr, flush=True)
                self._generation += 1
        self._strays.check()

    def _start_children(self) -> None:
        for child in self._children:
            if child.due <= time.monotonic():
                try:
                    child.start()
                except OSError as error:
                    print(f"funker-local: {child.name}: {error}", file=sys.stderr, flush=True)
                    child.due = time.monotonic() + 1.0

    # The loop

    def _wakeup(self) -> float:
        now = time.monotonic()
        dues = [self._next_scan, self._server.wakeup()]
        dues += [child.due for child in self._children]
        dues += [process.kill_at for process in self._processes.values()]
        if not self._full():
            dues += [function.pool.wakeup(now) for function in self._functions.values()]
        if self._strays:
            dues.append(now + STRAYS_S)
        return min(dues)

    def _drain_signals(self, _: int) -> None:
        for number in os.read(self._signals, 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._leaving += 1
                self._strays.terminate()
                self._scan(now=True)

    def _over(self) -> bool:
        return bool(self._leaving) and not self._processes and not self._strays

    def _status(self, look: bool) -> Status:
        if look:
            self._scan(now=True)
            self._carry_out()
        return {
            "pid": os.getpid(),
            "started": self._started_at,
            **self._news(),
            "children": {child.name: child.pid for child in self._children},
            "version": self._runtime.version,
            "leaving": bool(self._leaving),
            "functions": {name: self._described(f) for name, f in self._functions.items()},
        }

    def _news(self) -> dict[str, int]:
        health = {name: (f.pool.wanted, f.pool.failure) for name, f in self._functions.items()}
        if health != self._health:
            self._health = health
            self._edition += 1
        return {"generation": self._generation, "edition": self._edition}

    def _described(self, function: Function) -> dict[str, Any]:
        pool = function.pool
        failure = pool.failure
        return {
            "revision": pool.target,
            "wanted": pool.wanted,
            "running": sum(r.state == "ready" for r in pool.replicas.values()),
            "settled": len(pool.settled),
            "failure": failure and {"message": failure.message, "traceback": failure.traceback},
            "replicas": [
                {
                    "replica": self._processes[replica.id].name,
                    "pid": self._processes[replica.id].pid,
                    "revision": replica.revision,
                    "state": replica.state,
                }
                for replica in sorted(pool.replicas.values(), key=lambda r: (r.slot, r.id))
            ],
        }


def _signal_descriptor() -> int:
    """A descriptor from which the numbers of signals can be read that have come."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reader


def main() -> None:
    """The entry point. Says `ready` to the descriptor FUNKER_READY, if there is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # each replica takes three descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else soft, hard))
    ready = os.environ.pop("FUNKER_READY", "")
    state = StateDirectory.of(os.environ)
    try:
        state.create()
        with state.hold():
            state.make_room()
            keys.ensure(state)
            agent = Agent(state)
            agent.introduce()
            if ready:
                with os.fdopen(int(ready), "w") as told:
                    told.write("ready\n")
            agent.run()
            os._exit(0)  # whoever gets the lock next shall not find this process
    except FunkerError as error:
        print(f"funker-local: {error.message}", error.hint, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
