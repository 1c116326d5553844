"""Direct calls: straight to a function's replicas, found by service name in the network's DNS.

The decisions are `calls.DirectCall`'s; this module has the sockets, the look-ups and the loop.
Each call runs in the thread that makes it, on connections of its own.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import socket
import struct
import threading
import time

import zmq

from funker.rpc import calls
from funker.rpc.errors import FunkerError, ProtocolError
from funker.rpc.messages import (
    MAX_BODY,
    REPLICA_PORT,
    Call,
    Error,
    Message,
    Ping,
    Pong,
    Result,
    decode,
    encode,
)
from funker.rpc.sockets import guard

#: Milliseconds for the TCP connection. A dead container's address gives no answer at all.
CONNECT_MS = 300
#: Milliseconds to flush the last message (an ACK) after the call has returned.
LINGER_MS = 1000
#: Seconds between looks at whether the caller has cancelled.
CANCEL_POLL_S = 0.1
#: Seconds between a probe's look-ups.
PROBE_LOOKUP_S = 0.1
#: What one replica's state says about a function's, most telling first.
TELLING = ("failed", "idle", "busy", "boot")

_MONITOR_EVENT = struct.Struct("=H")  # then its value, which nothing here needs


class Direct:
    """The transport for callers on the function's own network. Thread-safe.

    `address` ("host:port" or "host") names one place to call instead of looking names up;
    `max_body` (bytes) bounds what is received.
    """

    def __init__(
        self, *, address: str = "", port: int = REPLICA_PORT, max_body: int = MAX_BODY
    ) -> None:
        self._address = address
        self._port = port
        self._max_body = max_body
        self._context = zmq.Context()

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """Make one call and wait for its outcome; `call.deadline_ms` bounds the wait.

        Setting `cancel` ends it as `cancelled`; a KeyboardInterrupt tells the replica and is
        raised again.
        """
        machine = calls.DirectCall(
            call, now=time.monotonic(), jitter=random.random, fixed=bool(self._address)
        )
        with self._links(call.function) as links:
            try:
                return self._drive(machine, links, cancel)
            except KeyboardInterrupt:
                self._act(machine.on(calls.CancelAsked(), time.monotonic()), links)
                raise

    def _drive(
        self, machine: calls.DirectCall, links: _Links, cancel: threading.Event | None
    ) -> Result | Error:
        events: list[calls.Event] = [calls.Tick()]
        while True:
            if cancel is not None and cancel.is_set():
                events.append(calls.CancelAsked())
            for event in events:
                actions = machine.on(event, time.monotonic())
                if (outcome := self._act(actions, links)) is not None:
                    return outcome
            wait = machine.wakeup() - time.monotonic()
            events = links.poll(wait if cancel is None else min(wait, CANCEL_POLL_S))
            events = events or [calls.Tick()]

    def _act(self, actions: list[calls.Action], links: _Links) -> Result | Error | None:
        for action in actions:
            match action:
                case calls.Resolve():
                    links.resolve()
                case calls.Connect(address):
                    links.connect(address)
                case calls.Disconnect(address):
                    links.disconnect(address)
                case calls.Send(address, message):
                    links.send(address, message)
                case calls.Finish(outcome):
                    return outcome
        return None

    def probe(self, function: str, *, patience: float) -> Pong:
        """The most telling PONG of a function's replicas (`TELLING`), within `patience` seconds.

        Its state is `absent` if there is none.
        """
        give_up = time.monotonic() + patience
        with self._links(function) as links:
            best = Pong(number=0, function=function, state="absent")
            pending = {""}  # the look-up itself, then the addresses that haven't answered
            links.resolve()
            while pending and time.monotonic() < give_up:
                for event in links.poll(give_up - time.monotonic()):
                    match event:
                        case calls.Resolved(addresses):
                            pending = set(addresses)
                            for address in addresses:
                                links.connect(address)
                        case calls.Connected(address):
                            links.send(address, Ping(number=1, function=function))
                        case calls.Disconnected(address):
                            pending.discard(address)
                        case calls.Heard(address, Pong() as pong):
                            pending.discard(address)
                            if function in pong.names and _rank(pong) < _rank(best):
                                best = pong
                        case _:
                            pass
            return best

    def close(self) -> None:
        """Flush and close. Calls that are under way must have ended."""
        self._context.term()

    def _links(self, function: str) -> contextlib.closing[_Links]:
        return contextlib.closing(
            _Links(self._context, function, self._address, self._port, self._max_body)
        )


def _rank(pong: Pong) -> int:
    return TELLING.index(pong.state) if pong.state in TELLING else len(TELLING)


class _Links:
    """One call's connections, one DEALER for each address, and its look-ups of the name."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        function: str,
        address: str,
        port: int,
        max_body: int,
    ) -> None:
        self._context = context
        self._function = function
        self._address = address
        self._port = port
        self._max_body = max_body
        self._poller = zmq.Poller()
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._monitors: dict[str, zmq.Socket[bytes]] = {}
        self._answers: collections.deque[tuple[str, ...]] = collections.deque()
        # A descriptor instead of a ZeroMQ socket: a look-up may outlive the call.
        self._wake, self._waker = socket.socketpair()
        self._poller.register(self._wake, zmq.POLLIN)

    def resolve(self) -> None:
        """Look the name up in a thread: a DNS server that doesn't answer stalls it for seconds."""
        threading.Thread(target=self._look_up, daemon=True).start()

    def _look_up(self) -> None:
        found = _addresses(self._address or self._function, self._port)
        self._answer(found)
        # One address may be a service's virtual one; its tasks then have a name of their own.
        # Never asked otherwise: what Docker's DNS doesn't know it asks of others, who may be slow.
        if len(found) == 1 and not self._address:
            tasks = _addresses(f"tasks.{self._function}", self._port)
            if tasks and tasks != found:
                self._answer(tasks)

    def _answer(self, found: tuple[str, ...]) -> None:
        self._answers.append(found)
        with contextlib.suppress(OSError):  # the call has ended meanwhile
            self._waker.send(b"x")

    def connect(self, address: str) -> None:
        self.disconnect(address)
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # no queueing for a connection that isn't there
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)  # who answers next may be somebody else
        dealer.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        guard(dealer, self._max_body)
        # CLOSED is how a refused connection shows, DISCONNECTED how an open one ends.
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
        )
        for sock in (dealer, monitor):
            self._poller.register(sock, zmq.POLLIN)
        self._dealers[address], self._monitors[address] = dealer, monitor
        dealer.connect(f"tcp://{address}")

    def disconnect(self, address: str) -> None:
        dealer = self._dealers.pop(address, None)
        if dealer is None:
            return
        monitor = self._monitors.pop(address)
        for sock in (dealer, monitor):
            self._poller.unregister(sock)
        dealer.disable_monitor()
        monitor.close(linger=0)
        dealer.close(linger=LINGER_MS)

    def send(self, address: str, message: Message) -> None:
        """Send if connected. If not, the news of the disconnection is on its way already."""
        if (dealer := self._dealers.get(address)) is not None:
            with contextlib.suppress(zmq.Again):
                dealer.send_multipart(encode(message), zmq.NOBLOCK)

    def poll(self, seconds: float) -> list[calls.Event]:
        """What happened within the next `seconds`; returns at the first events."""
        events: list[calls.Event] = []
        ready = [sock for sock, _ in self._poller.poll(int(max(seconds, 0) * 1000) + 1)]
        if self._wake.fileno() in ready:
            self._wake.recv(64)
            while self._answers:
                events.append(calls.Resolved(self._answers.popleft()))
        # What a replica said before it left comes before the news that it left.
        for address, dealer in list(self._dealers.items()):
            if dealer in ready:
                events += self._hear(address, dealer)
        for address, monitor in list(self._monitors.items()):
            if monitor in ready:
                events += self._watch(address, monitor)
        return events

    def _hear(self, address: str, dealer: zmq.Socket[bytes]) -> list[calls.Event]:
        events: list[calls.Event] = []
        while True:
            try:
                frames = dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return events
            # A peer that breaks the rules is no replica; silence will tell about its call.
            with contextlib.suppress(ProtocolError):
                events.append(calls.Heard(address, decode(frames)))

    def _watch(self, address: str, monitor: zmq.Socket[bytes]) -> list[calls.Event]:
        # Parsed here: importing zmq.utils.monitor imports asyncio, 25 ms of every caller's start.
        (event,) = _MONITOR_EVENT.unpack_from(monitor.recv_multipart(zmq.NOBLOCK)[0])
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return [calls.Connected(address)]
        last_words = self._hear(address, self._dealers[address])
        self.disconnect(address)
        return [*last_words, calls.Disconnected(address)]

    def close(self) -> None:
        for address in list(self._dealers):
            self.disconnect(address)
        self._wake.close()
        self._waker.close()


def _addresses(name: str, port: int) -> tuple[str, ...]:
    """`host:port` for each address of a name, in random order; none if it is unknown."""
    host, _, explicit = name.rpartition(":") if ":" in name else (name, "", "")
    try:
        port = int(explicit) if explicit else port
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, ValueError):  # ValueError: no host may have such a name, or no such port is
        return ()
    addresses = list({f"{info[4][0]!s}:{port}" for info in found})
    random.shuffle(addresses)
    return tuple(addresses)


def max_body() -> int:
    """The limit that FUNKER_MAX_BODY sets for this process, in bytes. Raises `FunkerError`."""
    told = os.environ.get("FUNKER_MAX_BODY") or str(MAX_BODY)
    if not (told.isdecimal() and len(told) < 16):
        raise FunkerError(f"FUNKER_MAX_BODY: expected a number of bytes, got {told[:40]!r}")
    return int(told)
