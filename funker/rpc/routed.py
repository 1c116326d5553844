"""Calls through the router: one connection for a whole process, kept by a thread of its own."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import threading
import time

import zmq

from funker.rpc import session
from funker.rpc.errors import ProtocolError, RouterUnavailable
from funker.rpc.keys import Keys, secure
from funker.rpc.messages import MAX_BODY, Call, Error, Result, decode, encode
from funker.rpc.sockets import guard

#: Milliseconds before a failed connection is tried again: at first, and at most.
RECONNECT_MS, RECONNECT_MAX_MS = 10, 250
#: Milliseconds to flush what was sent (ACKs) when the process ends.
LINGER_MS = 1000


class Routed:
    """The transport over a router. Thread-safe; `address` is "host:port"."""

    def __init__(self, address: str, *, keys: Keys | None, max_body: int = MAX_BODY) -> None:
        self._endpoint = f"tcp://{address}"
        self._keys = keys
        self._max_body = max_body
        self._name = b"C" + os.urandom(16)
        self._context = zmq.Context()
        self._session = session.Session(time.monotonic())
        self._waiting: dict[str, _Waiter] = {}
        self._inbox: collections.deque[session.Event | None] = collections.deque()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._loop, name="funker-router", daemon=True)
        self._thread.start()

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """Make one call and wait for its outcome. Setting `cancel`, or Ctrl-C, cancels it.

        Raises `PayloadTooLarge` for a header that can't be sent.
        """
        encode(call.replace(body=None))  # raises for a header that is too large
        waiter = self._waiting[call.id] = _Waiter()
        self._tell(session.Submitted(call))
        try:
            while not waiter.done.acquire(timeout=-1 if cancel is None else 0.05):
                if cancel is not None and cancel.is_set():
                    cancel = None
                    self._tell(session.CancelAsked(call.id))
        except KeyboardInterrupt:
            self._tell(session.CancelAsked(call.id))
            raise
        finally:
            self._waiting.pop(call.id, None)
        assert waiter.outcome is not None
        return waiter.outcome

    def close(self) -> None:
        """Flush and close; open calls end as `router_unavailable`."""
        self._tell(None)
        self._thread.join()
        self._context.term()
        self._wake.close()
        self._waker.close()

    def _tell(self, event: session.Event | None) -> None:
        self._inbox.append(event)
        with contextlib.suppress(BlockingIOError):  # full: it wakes up anyway
            self._waker.send(b"x")

    # The thread's own

    def _loop(self) -> None:
        dealer, monitor = self._dial()
        while True:
            poller = zmq.Poller()
            for sock in (dealer, monitor, self._wake):
                poller.register(sock, zmq.POLLIN)
            redial = False
            while not redial:
                wait = self._session.wakeup() - time.monotonic()
                ready = dict(poller.poll(None if wait > 3600 else int(max(wait, 0) * 1000) + 1))
                events: list[session.Event] = []
                if self._wake.fileno() in ready:
                    self._wake.recv(4096)
                    while self._inbox:
                        event = self._inbox.popleft()
                        if event is None:
                            self._hang_up(dealer, monitor)
                            return
                        events.append(event)
                if monitor in ready:
                    monitor.recv_multipart()
                    events.append(session.Connected())
                if dealer in ready:
                    events += _hear(dealer)
                for event in events or [session.Tick()]:
                    redial |= self._act(dealer, self._session.on(event, time.monotonic()))
            dealer.disable_monitor()
            monitor.close()
            dealer.close(linger=0)
            dealer, monitor = self._dial()

    def _dial(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        dealer = self._context.socket(zmq.DEALER)
        # Ours for life, so that a router knows us again behind another connection.
        dealer.setsockopt(zmq.ROUTING_ID, self._name)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        guard(dealer, self._max_body)
        dealer.setsockopt(zmq.LINGER, LINGER_MS)
        secure(dealer, self._keys)
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        dealer.connect(self._endpoint)
        return dealer, monitor

    def _act(self, dealer: zmq.Socket[bytes], actions: list[session.Action]) -> bool:
        redial = False
        for action in actions:
            match action:
                case session.Send(message):
                    dealer.send_multipart(encode(message))
                case session.Finish(id, outcome):
                    if (waiter := self._waiting.get(id)) is not None:
                        waiter.outcome = outcome
                        waiter.done.release()
                case session.Reconnect():
                    redial = True
        return redial

    def _hang_up(self, dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        for waiter in list(self._waiting.values()):
            waiter.outcome = Error(**RouterUnavailable("the connection was closed").fields())
            waiter.done.release()
        dealer.disable_monitor()
        monitor.close()
        dealer.close(linger=LINGER_MS)


class _Waiter:
    """One thread's place to wait. A bare lock: an Event costs twice as much to wake."""

    __slots__ = ("done", "outcome")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.outcome: Result | Error | None = None


def _hear(dealer: zmq.Socket[bytes]) -> list[session.Event]:
    events: list[session.Event] = []
    while True:
        try:
            frames = dealer.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return events
        with contextlib.suppress(ProtocolError):  # a router of another age; silence will tell
            events.append(session.Heard(decode(frames)))
