"""Callers and replicas of a router that do nothing but speak the protocol, all in one process.

    python -m benchmarks.echo.peers '{"url": …, "callers": 8, "replicas": {"f0": 64}}'

Each caller and each replica has a connection and an identity of its own, but all of them share
one socket and one loop: a process for each would take the machine from what is measured. Replicas
answer at once, or after `delay_s`. Commands come as lines of JSON on stdin, each answered by one
on stdout when it is done:

    {"calls": n, "window": w}   make n calls, w at a time: {"seconds", "latencies_ms"}
    {"calls": n, "pause_s": s}  one at a time, with a pause before each
    {"queue": n, "serve_s": s}  put n calls into the queue, and go on keeping them there for s
                                seconds after the answer: {"queued": n}
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import Any

import zmq

from benchmarks.echo.wire import Wire
from funker.rpc.keys import client_keys, secure
from funker.rpc.messages import Error, Ping, Pong, Ready, decode, encode

#: Seconds between a peer's PINGs.
PING_S = 0.5
#: Seconds for the router to answer everybody's first PING.
PATIENCE_S = 60.0


class Peers:
    """`pings`: whether to go on with them; a bare forwarder hears the first ones only."""

    def __init__(
        self,
        *,
        url: str,
        replicas: dict[str, int],
        callers: int = 1,
        key_file: str = "",
        pings: bool = True,
        delay_s: float = 0.0,
        body_bytes: int = 8,
        prefix: str = "",
    ) -> None:
        context = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 8192)
        self._wire = Wire(context)
        self._say = self._wire.send
        self._keys = client_keys({"FUNKER_KEY_FILE": key_file}) if key_file else None
        self._url, self._pings, self._delay_s = url, pings, delay_s
        self._body = b"x" * body_bytes
        self._functions = [function.encode() for function in replicas]
        # Of the ids of this process' calls.
        self._mark = prefix.encode().hex().encode().rjust(6, b"0")
        self._callers = [f"{prefix}C{n}".encode() for n in range(callers)]
        self._replicas = {
            f"{prefix}R.{function}.{n}".encode(): function
            for function, number in replicas.items()
            for n in range(number)
        }
        self._stamps = dict.fromkeys(self._callers, 0)
        self._ping_at = 0.0
        self._number = 0
        # When which call was made; and what replicas are still to answer, soonest first.
        self._open: dict[bytes, float] = {}
        self._late: deque[tuple[float, bytes, bytes]] = deque()
        self.latencies_ms: list[float] = []

    def join(self) -> None:
        """Connect everybody; replicas say READY, callers echo."""
        for n, name in enumerate([*self._callers, *self._replicas]):
            # How it is called there, and how its connection is called here.
            self._wire.socket.setsockopt(zmq.ROUTING_ID, name)
            self._wire.socket.setsockopt(zmq.CONNECT_ROUTING_ID, name)
            secure(self._wire.socket, self._keys)
            self._wire.socket.connect(self._url)
            if (function := self._replicas.get(name)) is not None:
                ready = Ready(function=function, replica=name.decode(), session=f"{n:032x}")
                self._say(name, *encode(ready))
        self._ping()
        give_up = time.monotonic() + PATIENCE_S
        while not all(self._stamps.values()):
            self._hear_all()
            if time.monotonic() > give_up:
                raise TimeoutError("the router doesn't answer")
        if self._pings:
            self._ping()

    def call(self, calls: int, *, window: int = 1, pause_s: float = 0.0) -> dict[str, Any]:
        """Make calls, `window` at a time, to all functions in turn."""
        self.latencies_ms = []
        started, sent = time.monotonic(), 0
        while len(self.latencies_ms) < calls:
            while sent < calls and len(self._open) < window:
                if pause_s:
                    self._idle(pause_s)
                self._make_call()
                sent += 1
            self._hear_all()
        return {"seconds": time.monotonic() - started, "latencies_ms": self.latencies_ms}

    def queue(self, calls: int) -> dict[str, Any]:
        """Have that many calls wait."""
        while len(self._open) < calls:
            self._make_call()
            if len(self._open) % 64 == 0:
                self._hear_all(0)
        return {"queued": len(self._open)}

    def serve(self, seconds: float) -> None:
        """Go on, with as many calls open as there are now."""
        until, wanted = time.monotonic() + seconds, len(self._open)
        while time.monotonic() < until:
            self._hear_all(5)
            while len(self._open) < wanted:
                self._make_call()

    def _make_call(self) -> None:
        self._number += 1
        caller = self._callers[self._number % len(self._callers)]
        function = self._functions[self._number % len(self._functions)]
        id = b"%s%026x" % (self._mark, self._number)
        self._open[id] = time.monotonic()
        header = b'{"id":"%s","function":"%s","deadline_ms":600000}' % (id, function)
        self._say(caller, b"CALL", header, self._body)

    def _idle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._hear_all(int(left * 1000) + 1)

    def _hear_all(self, patience_ms: int = 100) -> None:
        """Whatever has come, and what is due; waits if there is nothing."""
        if self._late:
            due = int((self._late[0][0] - time.monotonic()) * 1000) + 1
            patience_ms = max(0, min(patience_ms, due))
        if patience_ms == 0 or self._wire.socket.poll(patience_ms):
            for _ in range(256):
                try:
                    self._hear(*self._wire.receive())
                except zmq.Again:
                    break
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            _, replica, id = self._late.popleft()
            self._answer(replica, id)
        if self._pings and now >= self._ping_at:
            self._ping()

    def _hear(self, me: bytes, kind: bytes, header: bytes, _: bytes = b"") -> None:
        if kind == b"CALL":
            id = header[7:39]
            self._say(me, b"ACCEPT", b'{"id":"%s","replica":"%s"}' % (id, me))
            if self._delay_s:
                self._late.append((time.monotonic() + self._delay_s, me, id))
            else:
                self._answer(me, id)
        elif kind == b"RESULT":
            id = header[7:39]
            self.latencies_ms.append((time.monotonic() - self._open.pop(id)) * 1000)
            self._say(me, b"ACK", b'{"id":"%s"}' % id)
        elif kind in (b"PONG", b"ERROR"):
            message = decode([kind, header])
            if isinstance(message, Pong) and me in self._stamps:
                self._stamps[me] = message.stamp
            elif isinstance(message, Error):
                raise RuntimeError(f"{me!r} heard {message}")

    def _answer(self, replica: bytes, id: bytes) -> None:
        header = b'{"id":"%s","replica":"%s","times":{"run":1}}' % (id, replica)
        self._say(replica, b"RESULT", header, self._body)

    def _ping(self) -> None:
        self._ping_at = time.monotonic() + PING_S
        for caller, stamp in self._stamps.items():
            self._say(caller, *encode(Ping(number=1, echo=stamp)))
        for replica in self._replicas:
            self._say(replica, b"PING", b'{"number":1}')


def main() -> None:
    peers = Peers(**json.loads(sys.argv[1]))
    peers.join()
    print(json.dumps({"joined": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        serve_s = command.pop("serve_s", 0.0)
        if "queue" in command:
            done = peers.queue(command["queue"])
        else:
            done = peers.call(command.pop("calls"), **command)
        print(json.dumps(done), flush=True)
        peers.serve(serve_s)


if __name__ == "__main__":
    main()
