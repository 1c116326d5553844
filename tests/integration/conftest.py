"""Replicas as real processes on loopback, under a process manager, and raw peers that talk to them.

Every process that a test starts has a token in its environment. After each test nothing that has
it may still run.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

import funker
from funker.rpc import client
from funker.rpc.direct import Direct
from funker.rpc.messages import Call, Message, Ping, Pong, decode, encode
from funker.rpc.ways import Ways
from tests import processes
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
#: Seconds. Proves that something ends; nothing here takes nearly as long.
PATIENCE = 30.0
#: No directory: whoever runs the tests may have a router of his own.
NOWHERE = "/nonexistent"

#: What a handler uses to tell its test that it has come to some point.
NEWS = """
import os, socket

def tell(text):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(str(text).encode(), ("127.0.0.1", int(os.environ["FUNKER_TEST_NEWS"])))
"""


class Exited(NamedTuple):
    """One life of a replica: its front's process, and its exit status (negative: a signal)."""

    pid: int
    status: int


class News:
    """What handlers tell, in order. `from news import tell` in a handler."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE)
        self.port: int = self._socket.getsockname()[1]

    def wait(self) -> str:
        return self._socket.recv(65536).decode()

    def close(self) -> None:
        self._socket.close()


class Served:
    """A function under a process manager, which starts the next process when one exits."""

    def __init__(
        self, name: str, command: list[str], directory: Path, port: int, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.directory = directory
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.exits: queue.Queue[Exited] = queue.Queue()
        self._command = command
        self._env = env
        self._starting = threading.Lock()
        self._stopping = False
        self.restarts = True
        self._process: subprocess.Popen[bytes]
        self._start()
        self._supervisor = threading.Thread(target=self._supervise)
        self._supervisor.start()

    def __call__(self, value: Any = None, /, **kwargs: Any) -> Any:
        """One call with generous bounds, by keywords or by one value."""
        function = self.function()
        return function(**kwargs) if value is None else function(value)

    def function(self, **options: Any) -> funker.Function:
        options = {"address": self.address, "deadline": PATIENCE, **options}
        return funker.function(self.name, **options)

    @property
    def front(self) -> int:
        with self._starting:
            return self._process.pid

    @property
    def worker(self) -> int:
        (worker,) = _children(self.front)
        return worker

    def next_exit(self) -> Exited:
        """The next life that ends, or has ended."""
        return self.exits.get(timeout=PATIENCE)

    def stdout(self) -> str:
        return (self.directory / "stdout").read_text(errors="replace")

    def stderr(self) -> str:
        return (self.directory / "stderr").read_text(errors="replace")

    def stop(self) -> None:
        with self._starting:
            self._stopping = True
            if self._process.returncode is None:  # not reaped, so the number is still its own
                os.killpg(self._process.pid, signal.SIGKILL)
        self._supervisor.join(PATIENCE)
        assert not self._supervisor.is_alive()
        print(f"--- {self.name} wrote\n{self.stdout()[-4000:]}\n{self.stderr()[-4000:]}")

    def _start(self) -> None:
        with (
            (self.directory / "stdout").open("ab") as stdout,
            (self.directory / "stderr").open("ab") as stderr,
        ):
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def _supervise(self) -> None:
        while True:
            process = self._process
            # Not reaped until nobody is about to send signals to its number.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with self._starting:
                self.exits.put(Exited(process.pid, process.wait()))
                if self._stopping or not self.restarts:
                    return
                self._start()


class Peer:
    """A bare DEALER that talks to one address as a caller does, or as none should."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], served: Served) -> None:
        self._function = served.name
        self._pings = 0
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self.socket.connect(f"tcp://{served.address}")

    def send(self, message: Message) -> None:
        self.socket.send_multipart(encode(message))

    def receive(self, *kinds: type[Message]) -> Any:
        """The next message; of certain kinds, if they are given, skipping others."""
        give_up = time.monotonic() + PATIENCE
        while self.socket.poll(max(0, int((give_up - time.monotonic()) * 1000))):
            message = decode(self.socket.recv_multipart())
            if not kinds or isinstance(message, kinds):
                return message
        raise TimeoutError(f"no {' or '.join(kind.kind for kind in kinds) or 'message'}")

    def quiet(self, seconds: float) -> bool:
        """Whether nothing comes within the next `seconds`."""
        return not self.socket.poll(int(seconds * 1000))

    def state(self, *states: str) -> Pong:
        """The PONG of a replica that has come to one of these states."""
        give_up, state = time.monotonic() + PATIENCE, "silent"
        while time.monotonic() < give_up:
            self._pings += 1
            self.send(Ping(number=self._pings, function=self._function))
            # A PING is lost that was meant for a process which has just ended.
            while self.socket.poll(100):
                match decode(self.socket.recv_multipart()):
                    case Pong(number=self._pings) as pong if pong.state in states:
                        return pong
                    case Pong(number=self._pings, state=state):
                        break
            self.socket.poll(5)
        raise TimeoutError(f"the replica is {state}, not {' or '.join(states)}")

    def call(self, body: bytes | None = b"{}", **fields: Any) -> Call:
        """Wait for an idle replica and send it a CALL, which is returned."""
        session = self.state("idle").session
        fields = {"id": secrets.token_hex(16), "session": session, **fields}
        call = Call(**{"function": self._function, "body": body, **fields})
        self.send(call)
        return call

    def close(self) -> None:
        self.socket.close(linger=0)


def _children(pid: int) -> list[int]:
    # Not from /proc/PID/task/…/children, which may lack some while others come or go (proc(5)).
    return [child for child, parent in _parents() if parent == pid]


def _parents() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            # The name, in parentheses, may hold anything.
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
            yield int(directory.name), int(stat[1])


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Whether a process, not necessarily a child, has ended or is about to: is_gone(pid)."""
    return processes.is_gone


@pytest.fixture
def environment(news: News) -> Iterator[dict[str, str]]:
    """The environment for processes of this test; they must have ended with it."""
    token = secrets.token_hex(8)
    yield _environment(token, news)
    _check_gone(token)


@pytest.fixture(scope="module")
def shared_environment(shared_news: News) -> Iterator[dict[str, str]]:
    """The same for what a whole file starts."""
    token = secrets.token_hex(8)
    yield _environment(token, shared_news)
    _check_gone(token)


def _environment(token: str, news: News) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FUNKER_")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "runtime" / "python")])
    return {
        **kept,
        processes.TOKEN: token,
        "FUNKER_TEST_NEWS": str(news.port),
        "FUNKER_STATE_DIR": NOWHERE,
        "FUNKER_LOG": "plain",
        "PYTHONPATH": path,
    }


def _check_gone(token: str) -> None:
    left = [pid for pid in processes.bearers(token) if not processes.is_gone(pid, within=5)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "the test has left processes running"


@pytest.fixture
def news() -> Iterator[News]:
    news = News()
    yield news
    news.close()


@pytest.fixture(scope="module")
def shared_news() -> Iterator[News]:
    news = News()
    yield news
    news.close()


@pytest.fixture
def serve(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Served]]:
    """Start a supervised replica: serve(code of handler.py, name=…, command=…, **variables).

    `variables` are more of its environment: FUNKER_TIMEOUT="1s".
    """
    with _serving(tmp_path, environment) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(
    tmp_path_factory: pytest.TempPathFactory, shared_environment: dict[str, str]
) -> Iterator[Callable[..., Served]]:
    """The same for a function that all tests of a file call."""
    with _serving(tmp_path_factory.mktemp("served"), shared_environment) as start:
        yield start


@contextlib.contextmanager
def _serving(place: Path, environment: dict[str, str]) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(
        code: str, *, name: str = "echo", command: list[str] | None = None, **variables: str
    ) -> Served:
        directory = place / f"{name}-{len(started)}"
        directory.mkdir()
        (directory / "handler.py").write_text(textwrap.dedent(code))
        (directory / "news.py").write_text(NEWS)
        port = free_port()
        own = {"FUNKER_FUNCTION": name, "FUNKER_LISTEN": f"tcp://127.0.0.1:{port}"}
        env = {k: v for k, v in {**environment, **own, **variables}.items() if v}
        command = command or [sys.executable, "-m", "funker_runtime"]
        started.append(Served(name, command, directory, port, env))
        return started[-1]

    try:
        yield start
    finally:
        for served in started:
            served.stop()


@pytest.fixture
def peer() -> Iterator[Callable[[Served], Peer]]:
    """Connect a raw peer: peer(served)."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    connected: list[Peer] = []

    def connect(served: Served) -> Peer:
        connected.append(Peer(context, served))
        return connected[-1]

    yield connect
    for one in connected:
        one.close()
    context.term()


@pytest.fixture(autouse=True)
def _no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNKER_STATE_DIR", NOWHERE)


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    """The client keeps its transports as long as its process lives; here that's one test."""
    yield
    made = list(client._made.values())
    client._made.clear()
    for threads in (one for one in made if isinstance(one, ThreadPoolExecutor)):
        threads.shutdown()
    for transport in (one for one in made if isinstance(one, Direct | Ways)):
        transport.close()
