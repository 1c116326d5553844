"""The functions of one agent: reads what they shall be, and keeps so many replicas of each."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from funker.backends.local import runtime, snapshot
from funker.backends.local.broom import Broom
from funker.backends.local.journal import Journal
from funker.backends.local.pool import Failure, Pool, Start, Stop
from funker.backends.local.process import Process
from funker.backends.local.state import Record, StateDirectory
from funker.rpc.errors import FunkerError
from funker.spec import isolating

#: Seconds between looks at the functions' directory, should somebody change it without a word.
SCAN_S = 2.0
#: Replicas that start at once, for each core: more would only slow each other down.
STARTS_PER_CORE = 4


@dataclass(slots=True)
class Function:
    """One function: its replicas, and every version of it that any of them may be of."""

    name: str
    pool: Pool = field(default_factory=Pool)
    records: dict[str, Record] = field(default_factory=dict)


class Keeper:
    """Starts, hears and stops replicas, in the agent's loop. `leave` has all of them stopped."""

    def __init__(self, state: StateDirectory, selector: selectors.BaseSelector) -> None:
        self._state = state
        self._selector = selector
        self._runtime = runtime.install(state)
        self._node = socket.gethostname()
        self._functions: dict[str, Function] = {}
        self._processes: dict[str, Process] = {}
        self._health: dict[str, tuple[int, Failure | None]] = {}
        self._generation = self._edition = 0
        self._seen = -1  # the functions' directory's time of change
        self._next_scan = 0.0
        self._leaving = False
        self._limit = STARTS_PER_CORE * (os.cpu_count() or 1)
        self._journal = Journal(state.logs)
        self._broom = Broom()

    @property
    def version(self) -> str:
        """The runtime's, with which every replica starts."""
        return self._runtime.version

    def __len__(self) -> int:
        """How many replicas there are."""
        return len(self._processes)

    def leave(self, *, at_once: bool) -> None:
        """Nothing shall run any more. What does may finish, but not if it is `at_once`."""
        self._leaving = True
        self.scan(now=True)
        if at_once:
            for process in self._processes.values():
                process.kill_at = 0.0

    def close(self) -> None:
        """Everything that has ended is cleared away when this returns."""
        self._journal.close()
        self._broom.finish()

    def wakeup(self) -> float:
        """When `scan`, `carry_out` or `reap` has something to do, on the monotonic clock."""
        now = time.monotonic()
        dues = [self._next_scan, *(process.kill_at for process in self._processes.values())]
        if not self._full():
            dues += [function.pool.wakeup(now) for function in self._functions.values()]
        return min(dues)

    # What shall be

    def scan(self, *, now: bool = False) -> None:
        """Reads the functions' files if any of them has changed. Raises `StateUnusable`."""
        if time.monotonic() < self._next_scan and not now:
            return
        self._next_scan = time.monotonic() + SCAN_S
        with self._state.errors():
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

    def retry(self, name: str) -> None:
        """Tries at once what has failed, as if it were new."""
        if name in self._functions:
            self._functions[name].pool.retry()

    def carry_out(self) -> None:
        """Starts and stops what has to be."""
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
        self._journal.begin(function.name)
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
            **runtime.environment(self._runtime, image.interpreter, os.environ),
            **spec["env"],
            "FUNKER_FUNCTION": record.name,
            "FUNKER_NODE": self._node,
            "FUNKER_TIMEOUT": str(spec["timeout"]),
            "FUNKER_VERSION": self._runtime.version,
            "FUNKER_ROUTER": self._state.router_endpoint,
            "FUNKER_KEY_FILE": str(self._state.client_key),
            "FUNKER_CANDIDATE": "1" if candidate else "",
            "FUNKER_HANDLER": spec["handler"] or image.handler,
            **isolating(spec),
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

    def reap(self) -> None:
        """Buries replicas that have ended, and kills those whose grace is over."""
        now = time.monotonic()
        for process in list(self._processes.values()):
            if now >= process.kill_at:
                process.kill()
                process.kill_at = now + 1.0
            how = process.ended()
            if how is None:
                continue
            del self._processes[process.id]
            last_words = self._selector.get_map().get(process.link)
            if last_words is not None:
                last_words.data(selectors.EVENT_READ)
            for descriptor in (*process.streams, process.link.fileno()):
                with contextlib.suppress(KeyError):  # it had ended before
                    self._selector.unregister(descriptor)
            self._broom.sweep(process.bury(self._journal).clear)
            self._functions[process.function].pool.exited(process.id, how, now)
            self._generation += 1

    # What there is

    def news(self) -> dict[str, int]:
        """Two numbers that grow, see `control`."""
        health = {name: (f.pool.wanted, f.pool.failure) for name, f in self._functions.items()}
        if health != self._health:
            self._health = health
            self._edition += 1
        return {"generation": self._generation, "edition": self._edition}

    def status(self) -> dict[str, Any]:
        """Each function by name, with its replicas."""
        return {name: self._described(f.pool) for name, f in self._functions.items()}

    def _described(self, pool: Pool) -> dict[str, Any]:
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
