"""Calls through the router: one connection for a whole process, kept by a thread of its own."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import socket
import threading
import time
from typing import Any

import zmq

from funker.rpc import session
from funker.rpc.errors import FunkerError, ProtocolError, RouterUnavailable
from funker.rpc.keys import Keys
from funker.rpc.messages import MAX_BODY, Call, Error, Query, Reply, Result, encode
from funker.rpc.sockets import REFUSALS, UNWELCOME, dial, hang_up, heard, incoming

#: Milliseconds between tries to connect, at most.
RECONNECT_MAX_MS = 250
#: Milliseconds to flush what was sent (ACKs) when the process ends.
LINGER_MS = 1000


class Routed:
    """The transport over a router. Thread-safe.

    `address` is "host:port" or a ZeroMQ endpoint; `wait_s` is for how many seconds a call waits
    for a router to appear. Raises `FunkerError` for what is no address.
    """

    def __init__(
        self,
        address: str,
        *,
        keys: Keys | None,
        max_body: int = MAX_BODY,
        wait_s: float = session.ROUTER_WAIT_S,
    ) -> None:
        self._address = address
        self._keys = keys
        self._max_body = max_body
        self._name = b"C" + os.urandom(16)
        self._context = zmq.Context()
        self._session = session.Session(time.monotonic(), router=address, wait_s=wait_s)
        self._waiting: dict[str | int, _Waiter] = {}
        self._numbers = itertools.count(1)
        self._inbox: collections.deque[session.Event | None] = collections.deque()
        # Connections in a row that broke off in the handshake.
        self._hang_ups = 0
        # Why the thread has ended, once it has.
        self._ended: Error | None = None
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        try:
            first = self._dial()
        except BaseException:
            self._context.term()
            self._wake.close()
            self._waker.close()
            raise
        self._thread = threading.Thread(
            target=self._live, args=first, name="funker-router", daemon=True
        )
        self._thread.start()

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """Make one call and wait for its outcome. Setting `cancel`, or Ctrl-C, cancels it.

        Raises `PayloadTooLarge` for a header that can't be sent.
        """
        encode(call.replace(body=None))  # raises for a header that is too large
        waiter = self._expect(call.id, session.Submitted(call))
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
        assert isinstance(waiter.outcome, Result | Error)
        return waiter.outcome

    def ask(self, query: Query) -> Reply:
        """The router's answer as it came, under the query's own number.

        Raises `RouterUnavailable` within seconds where there is none, `Unauthorized` if it
        refuses this process.
        """
        number = next(self._numbers)
        waiter = self._expect(number, session.Asked(query.replace(number=number)))
        try:
            waiter.done.acquire()
        finally:
            self._waiting.pop(number, None)
        if isinstance(waiter.outcome, Error):
            raise waiter.outcome.exception()
        assert isinstance(waiter.outcome, Reply)
        return waiter.outcome.replace(number=query.number)

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """What the router knows, as a JSON value: its `status`, the last `calls`, or one `call`.

        Raises as `ask` does, and `RouterUnavailable` with the router's reason if it can't answer.
        """
        reply = self.ask(Query(number=0, what=what, function=function, id=id, limit=limit))
        if reply.error:
            raise RouterUnavailable(reply.error)
        try:
            return json.loads(reply.body or b"")
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"the router's answer isn't JSON: {error}") from None

    def close(self) -> None:
        """Flush and close; open calls end as `router_unavailable`."""
        self._tell(None)
        self._thread.join()
        self._context.term()
        self._wake.close()
        self._waker.close()

    def _expect(self, key: str | int, event: session.Event) -> _Waiter:
        waiter = self._waiting[key] = _Waiter()
        # After the line above: the thread, when it ends, says so before it looks who waits.
        if self._ended is None:
            self._tell(event)
            return waiter
        untold = _Waiter()
        untold.end(self._ended.replace(retry_safe=True))
        return untold

    def _tell(self, event: session.Event | None) -> None:
        self._inbox.append(event)
        with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: it has ended
            self._waker.send(b"x")

    # The thread's own

    def _live(self, dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        why = "the connection was closed"
        try:
            while self._serve(dealer, monitor):
                hang_up(dealer, monitor, linger=0)
                dealer, monitor = self._dial()
        except (OSError, zmq.ZMQError, FunkerError) as error:  # too many open files, say
            why = f"the connection to {self._address} can't be kept: {error}"
        finally:
            self._ended = Error(**RouterUnavailable(why).fields())
            for waiter in list(self._waiting.values()):
                waiter.end(self._ended)
            if not dealer.closed:
                hang_up(dealer, monitor, linger=LINGER_MS)

    def _serve(self, dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> bool:
        """Keep one connection. Whether another is wanted."""
        poller = zmq.Poller()
        for sock in (dealer, monitor, self._wake):
            poller.register(sock, zmq.POLLIN)
        redial = False
        while not redial:
            wait = self._session.wakeup() - time.monotonic()
            ready = dict(poller.poll(None if wait > 3600 else int(max(wait, 0) * 1000) + 1))
            events: list[session.Event] = []
            # What is heard goes first: a call may have been told just after a router was there.
            if monitor in ready:
                welcome = self._hang_ups < UNWELCOME
                events += self._news(monitor)
                redial = welcome and self._hang_ups >= UNWELCOME
            if dealer in ready:
                events += map(session.Heard, incoming(dealer))
            if self._wake.fileno() in ready:
                self._wake.recv(4096)
                while self._inbox:
                    event = self._inbox.popleft()
                    if event is None:
                        return False
                    events.append(event)
            for event in events or [session.Tick()]:
                redial |= self._act(dealer, self._session.on(event, time.monotonic()))
        return True

    def _dial(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        return dial(
            self._context,
            self._address,
            name=self._name,
            keys=self._keys,
            max_body=self._max_body,
            reconnect_max_ms=RECONNECT_MAX_MS,
            immediate=False,
            unwelcome=self._hang_ups >= UNWELCOME,
        )

    def _news(self, monitor: zmq.Socket[bytes]) -> list[session.Event]:
        events: list[session.Event] = []
        for event in heard(monitor):
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._hang_ups = 0
                events.append(session.Connected())
            elif event == zmq.EVENT_DISCONNECTED:
                events.append(session.Disconnected())
            elif event in REFUSALS:
                events.append(session.Refused(REFUSALS[event]))
            else:
                self._hang_ups += 1
                events.append(session.HungUp())
        return events

    def _act(self, dealer: zmq.Socket[bytes], actions: list[session.Action]) -> bool:
        redial = False
        for action in actions:
            match action:
                case session.Send(message):
                    dealer.send_multipart(encode(message))
                case session.Finish(key, outcome) | session.Answer(key, outcome):
                    if (waiter := self._waiting.pop(key, None)) is not None:
                        waiter.end(outcome)
                case session.Reconnect():
                    redial = True
        return redial


class _Waiter:
    """One thread's place to wait. A bare lock: an Event costs twice as much to wake."""

    __slots__ = ("done", "outcome")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.outcome: Result | Error | Reply | None = None

    def end(self, outcome: Result | Error | Reply) -> None:
        self.outcome = outcome
        self.done.release()
