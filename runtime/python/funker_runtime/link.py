"""The replica's connection to the router: dialled from here, so a replica needs no open port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import zmq

from funker.rpc.errors import ProtocolError
from funker.rpc.keys import Keys, secure
from funker.rpc.messages import Message, decode, encode
from funker.rpc.sockets import guard
from funker_runtime.replica import ROUTER, Event, Gone, Linked, Received

#: Milliseconds before a failed connection is tried again: at first, and at most. The name is
#: looked up at each try.
RECONNECT_MS, RECONNECT_MAX_MS = 10, 500


class RouterLink:
    """One DEALER, with a ZeroMQ context of its own: a look-up of the router's name that stalls
    must not hold up direct calls.

    `session` names the replica to the router, over reconnects too.
    """

    def __init__(self, address: str, *, session: str, keys: Keys | None, max_body: int) -> None:
        self._endpoint = f"tcp://{address}"
        self._name = b"R" + session.encode()
        self._keys = keys
        self._max_body = max_body
        self._context = zmq.Context()
        self._poller: zmq.Poller | None = None
        self._dial()

    def watch(self, poller: zmq.Poller) -> None:
        """Have `poller` look at the link, whatever sockets it has from now on."""
        self._poller = poller
        for sock in (self._dealer, self._monitor):
            poller.register(sock, zmq.POLLIN)

    def events(self) -> Iterator[Event]:
        """What happened since the last look."""
        linked = False
        while True:
            try:
                self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            linked = True
        # What came over the connection before this one is heard first: what is then said of the
        # calls that are held here is all of them.
        while True:
            try:
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            with contextlib.suppress(ProtocolError):  # a router of another age
                yield Received(ROUTER, decode(frames))
        if linked:
            yield Linked()

    def ready(self, ready: dict[object, int]) -> bool:
        """Whether a poll's result is about the link."""
        return self._dealer in ready or self._monitor in ready

    def send(self, message: Message) -> bool:
        """Whether the message was handed to a connection."""
        try:
            self._dealer.send_multipart(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def redial(self) -> Gone:
        """Drop the connection and make another, to wherever the name leads by now."""
        self._hang_up(linger=0)
        self._dial()
        if self._poller is not None:
            self.watch(self._poller)
        return Gone(ROUTER)

    def close(self, *, linger: int) -> None:
        """Flush for `linger` milliseconds at most and end."""
        self._hang_up(linger=linger)
        self._context.term()

    def _dial(self) -> None:
        dealer = self._dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.ROUTING_ID, self._name)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # no queueing for a connection that isn't there
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        guard(dealer, self._max_body)
        secure(dealer, self._keys)
        self._monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        dealer.connect(self._endpoint)

    def _hang_up(self, *, linger: int) -> None:
        if self._poller is not None:
            for sock in (self._dealer, self._monitor):
                self._poller.unregister(sock)
        self._dealer.disable_monitor()
        self._monitor.close()
        self._dealer.close(linger=linger)
