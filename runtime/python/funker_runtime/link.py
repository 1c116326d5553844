"""The replica's connection to the router: dialled from here, so a replica needs no open port."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import zmq

from funker.rpc.keys import Keys
from funker.rpc.messages import Message, encode
from funker.rpc.sockets import REFUSALS, UNWELCOME, dial, hang_up, heard, incoming
from funker_runtime.events import ROUTER, Event, Gone, Linked, Received

#: Milliseconds between tries to connect, at most. The name is looked up at each.
RECONNECT_MAX_MS = 500


class RouterLink:
    """One DEALER, with a ZeroMQ context of its own: a look-up of the router's name that stalls
    must not hold up direct calls.

    `address` is "host:port" or a ZeroMQ endpoint; `session` names the replica to the router, over
    reconnects too. Raises `FunkerError` for what is no address.
    """

    def __init__(self, address: str, *, session: str, keys: Keys | None, max_body: int) -> None:
        self._address = address
        self._name = b"R" + session.encode()
        self._keys = keys
        self._max_body = max_body
        self._context = zmq.Context()
        self._poller: zmq.Poller | None = None
        self._complained = False
        # Connections in a row that broke off in the handshake.
        self._hang_ups = 0
        self._dial()

    def watch(self, poller: zmq.Poller) -> None:
        """Have `poller` look at the link, whatever sockets it has from now on."""
        self._poller = poller
        for sock in (self._dealer, self._monitor):
            poller.register(sock, zmq.POLLIN)

    def events(self) -> Iterator[Event]:
        """What happened since the last look."""
        happened = heard(self._monitor)
        welcome = self._hang_ups < UNWELCOME
        self._judge(happened)
        # What came over the connection before this one is heard first: what is then said of the
        # calls that are held here is all of them.
        for message in incoming(self._dealer):
            yield Received(ROUTER, message)
        if zmq.EVENT_HANDSHAKE_SUCCEEDED in happened:
            yield Linked()
        if welcome and self._hang_ups >= UNWELCOME:
            yield self.redial()

    def _judge(self, happened: list[int]) -> None:
        """Say once why the router won't have this replica: nobody else here can see it."""
        why = ""
        for event in happened:
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._hang_ups = 0
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._hang_ups += 1
                if self._hang_ups == UNWELCOME:
                    why = "it breaks off in the handshake, as one does that has another key"
            elif event in REFUSALS:
                why = REFUSALS[event]
        if why and not self._complained:
            self._complained = True
            about = f"the router {self._address} won't have this replica: {why}"
            print(f"funker: {about}. Direct calls are served.", file=sys.stderr, flush=True)

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
        self._dealer, self._monitor = dial(
            self._context,
            self._address,
            name=self._name,
            keys=self._keys,
            max_body=self._max_body,
            reconnect_max_ms=RECONNECT_MAX_MS,
            immediate=True,
            unwelcome=self._hang_ups >= UNWELCOME,
        )

    def _hang_up(self, *, linger: int) -> None:
        if self._poller is not None:
            for sock in (self._dealer, self._monitor):
                self._poller.unregister(sock)
        hang_up(self._dealer, self._monitor, linger=linger)
