"""What the router takes for itself: calls per second, memory, and what one function costs another.

throughput  all eight messages of a call (CALL, ACCEPT, RESULT, ACK, each in and out) with echo
            peers in place of replicas, beside a bare forwarder in Python that moves the same
            messages between the same peers
memory      of a call that waits and of a replica that is idle
fairness    one function's latency while 10,000 calls wait for another

Needs no engine. Three processes: the router or the forwarder, and its peers (one process, two for
fairness), over TCP on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from benchmarks.report import Report, at_least, at_most, main, percentile

#: Calls of each measurement, those before it that don't count, and how many are open at a time.
CALLS, WARM_UP, WINDOW = 30_000, 3_000, 64
CALLERS = 8
#: Replicas in all, at least: each has one call at a time.
REPLICAS = 64
FUNCTIONS = (1, 100, 1000)
#: Calls that wait for one function while another is called, and how long each of them takes.
WAITING, BUSY_S = 10_000, 0.01
#: Calls whose latency is looked at, the pause before each, and how often that is done. One round's
#: 99 % is the scheduler's as much as the router's: the median round counts.
PROBES, PAUSE_S, ROUNDS = 400, 0.002, 9
IDLE_REPLICAS = 1000
#: Calls a second.
WANTED = 10_000
PATIENCE_S = 60.0


def measure(report: Report) -> None:
    for functions in FUNCTIONS:
        throughput(report, functions)
    throughput(report, FUNCTIONS[0], curve=True)
    memory(report)
    fairness(report)


def throughput(report: Report, functions: int, *, curve: bool = False) -> None:
    each = -(-REPLICAS // functions)
    replicas = {f"f{n}": each for n in range(functions)}
    with forwarder(replicas) as there, peers(there, replicas, pings=False) as callers:
        floor, floor_cpu = pace(there, callers)
    with router(curve=curve) as there, peers(there, replicas) as callers:
        calls, cpu = pace(there, callers)
    what = f"{functions} function{'s' if functions > 1 else ''}, {functions * each} replicas"
    what += ", CURVE" if curve else ""
    report.add(
        f"{what}: calls through the router",
        calls,
        "per second",
        floor=floor,
        floor_is="bare ROUTER forwarder in Python, the same eight messages" + ", no CURVE" * curve,
        target=None if curve else at_least(WANTED, "the router is never what one waits for"),
    )
    report.add(
        f"{what}: computing time of the router for a call",
        cpu,
        "µs",
        floor=floor_cpu,
        floor_is="the forwarder's",
    )


def pace(there: Server, callers: Process) -> tuple[float, float]:
    """Calls per second, and the server's computing time for each in µs, all threads of it."""
    callers.ask(calls=WARM_UP, window=WINDOW)
    before = there.cpu_s()
    seconds = callers.ask(calls=CALLS, window=WINDOW)["seconds"]
    return CALLS / seconds, (there.cpu_s() - before) / CALLS * 1e6


def memory(report: Report) -> None:
    with router() as there:
        there.settle()
        before = there.memory()
        with peers(there, {"idle": IDLE_REPLICAS}):
            there.settle(free=IDLE_REPLICAS)
            idle = there.memory() - before
    report.add("idle replica, memory of the router", idle / IDLE_REPLICAS / 1024, "KiB")
    with router() as there, peers(there, {"none": 0}, body_bytes=100) as callers:
        before = there.memory()
        callers.ask(queue=WAITING)
        there.settle(queued=WAITING)
        waiting = there.memory() - before
    report.add("queued call of 100 bytes, memory of the router", waiting / WAITING / 1024, "KiB")


def fairness(report: Report) -> None:
    with router() as there, peers(there, {"quick": 1}, callers=1, prefix="q") as probe:
        probe.ask(calls=PROBES, pause_s=PAUSE_S)
        alone = rounds(probe)
        with peers(there, {"slow": 4}, delay_s=BUSY_S, prefix="s") as crowd:
            crowd.ask(queue=WAITING, serve_s=PATIENCE_S)
            there.settle(queued=WAITING // 2)
            beside = rounds(probe)
            crowd.kill()
    for share in (50, 99):
        floor = typical(alone, share)
        report.add(
            f"a call beside {WAITING:,} that wait for another function, {share} %",
            typical(beside, share),
            "ms",
            floor=floor,
            floor_is="with nothing beside",
            target=at_most(2 * floor, "twice what it is alone") if share == 99 else None,
        )


def rounds(probe: Process) -> list[list[float]]:
    """Latencies in ms, round by round."""
    return [probe.ask(calls=PROBES, pause_s=PAUSE_S)["latencies_ms"] for _ in range(ROUNDS)]


def typical(latencies: list[list[float]], share: float) -> float:
    """That percentile of the median round."""
    return percentile([percentile(one_round, share) for one_round in latencies], 50)


class Process:
    """A child that says a line when it is ready, and is killed at the end."""

    def __init__(self, *command: str, says_on: str, env: dict[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            text=True,
            **{says_on: subprocess.PIPE},  # type: ignore[call-overload]
        )
        self._says = getattr(self._child, says_on)
        first = self._says.readline()
        if not first:
            raise RuntimeError(f"{command[0]} ended with status {self._child.wait()}")

    def ask(self, **command: Any) -> Any:
        """Give a command to peers; what they say to it."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()
        return json.loads(self._says.readline())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes that are this process' own."""
        lines = Path(f"/proc/{self._child.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))

    def kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.communicate()


class Server(Process):
    """The router or the forwarder, which listens at `url`."""

    def __init__(
        self, url: str, *command: str, key_file: str = "", env: dict[str, str] | None = None
    ) -> None:
        super().__init__(*command, says_on="stderr", env=env)
        self.url, self.key_file = url, key_file

    def settle(self, **wanted: int) -> None:
        """Wait until the router has that many: queued=10, free=100."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
            sock.linger = 0
            sock.connect(self.url)
            for _ in range(round(PATIENCE_S / 0.1)):
                sock.send_multipart([b"QUERY", b'{"number":1,"what":"status"}'])
                functions = json.loads(sock.recv_multipart()[2])["functions"].values()
                if all(sum(f[what] for f in functions) >= n for what, n in wanted.items()):
                    return
                sock.poll(100)
        raise TimeoutError(f"waited {PATIENCE_S:g} s in vain for {wanted}")


@contextlib.contextmanager
def router(*, curve: bool = False) -> Iterator[Server]:
    url = f"tcp://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as place:
        control = f"ipc://{place}/control"
        env = {"FUNKER_LISTEN": url, "FUNKER_CONTROL": control, "FUNKER_INSECURE": "1"}
        client_file = ""
        if curve:
            router_file, client_file = key_files(Path(place))
            env |= {"FUNKER_INSECURE": "", "FUNKER_ROUTER_KEY_FILE": router_file}
        server = Server(url, "funker.controller.router", key_file=client_file, env=env)
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def forwarder(replicas: dict[str, int]) -> Iterator[Server]:
    url = f"tcp://127.0.0.1:{free_port()}"
    names = [f"R.{function}.{n}" for function, number in replicas.items() for n in range(number)]
    server = Server(url, "benchmarks.echo.forwarder", url, str(CALLERS), *names)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def peers(there: Server, replicas: dict[str, int], **options: Any) -> Iterator[Process]:
    arguments = {"url": there.url, "key_file": there.key_file, "callers": CALLERS}
    arguments |= {"replicas": replicas, **options}
    process = Process("benchmarks.echo.peers", json.dumps(arguments), says_on="stdout")
    try:
        yield process
    finally:
        process.kill()


def key_files(place: Path) -> tuple[str, str]:
    (public, secret), (client, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    keys = {"ROUTER_PUBLIC": public, "ROUTER_SECRET": secret}
    clients = {"CLIENT_PUBLIC": client, "CLIENT_SECRET": client_secret}
    for name in ("router", "client"):
        lines = [f"{key}={value.decode()}\n" for key, value in (keys | clients).items()]
        (place / name).write_text("".join(lines))
    return str(place / "router"), str(place / "client")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    main("router", measure)
