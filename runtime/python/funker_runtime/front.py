"""The process that owns a replica's sockets, signals and clocks.

It turns what happens (messages, the workers' words and deaths, signals, time) into events for
the state machine in `replica.py`, and carries out the actions that come back. It decides
nothing, and it never waits for anything but the poll.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import zmq

from funker.rpc.errors import ProtocolError
from funker.rpc.keys import client_keys
from funker.rpc.messages import Ack, Call, Error, Failed, Message, Ping, decode, encode
from funker.rpc.sockets import guard
from funker_runtime.events import (
    ROUTER,
    Action,
    Answered,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Linked,
    Loaded,
    Received,
    Release,
    Relink,
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.log import Log
from funker_runtime.replica import FAILED_S, Replica, State
from funker_runtime.settings import Settings
from funker_runtime.solo import OUTPUT_S, WARM_ROUNDS

if TYPE_CHECKING:
    from funker_runtime.lifeline import Lifeline
    from funker_runtime.link import RouterLink
    from funker_runtime.solo import Solo
    from funker_runtime.tree import Tree

#: Milliseconds to flush what was sent before exiting.
LINGER_MS = 1000


class Front:
    """One replica's sockets, workers and loop. `run` ends the process."""

    def __init__(
        self, settings: Settings, identity: Identity, workers: Solo | Tree, log: Log
    ) -> None:
        self._lifeline: Lifeline | None = None
        if "FUNKER_LIFELINE" in os.environ:
            from funker_runtime.lifeline import lifeline

            self._lifeline = lifeline(os.environ)
        self._candidate = self._lifeline is not None and self._lifeline.candidate
        self._replica = Replica(
            identity,
            timeout=settings.timeout,
            max_body=settings.max_body,
            now=time.monotonic(),
            kept=self._lifeline is not None,
            slots=settings.slots,
            once=settings.isolation == "container",
        )
        self._workers = workers
        self._log = log
        self._loaded = False
        self._signals = _signal_descriptor()
        self._context = zmq.Context()
        self._socket = _listen(self._context, settings)
        self._router: RouterLink | None = None
        if settings.router:
            # Here: where there is no router, a replica's start isn't to pay for it.
            from funker_runtime.link import RouterLink

            self._router = RouterLink(
                settings.router,
                session=identity.session,
                keys=client_keys(os.environ),
                max_body=settings.max_body,
            )
        self._poller = zmq.Poller()
        for source in (self._socket, self._signals):
            self._poller.register(source, zmq.POLLIN)
        self._told: str | None = None  # what was said over the lifeline
        if self._lifeline is not None:
            self._lifeline.says({"worker": workers.leader})
            self._poller.register(self._lifeline.fd, zmq.POLLIN)

    def run(self) -> NoReturn:
        self._warm_up()
        # Only now can the replica become idle: the warm-up's own messages must not count as
        # those of a caller, who would be told of the end and waited for.
        self._workers.watch(self._poller)
        if self._router is not None:
            self._router.watch(self._poller)
        while True:
            self._step()

    def _step(self) -> None:
        now = time.monotonic()
        wait = min(self._replica.wakeup(), self._workers.wakeup()) - now
        ready = dict(self._poller.poll(int(min(max(wait, 0.0), 3600.0) * 1000) + 1))
        if self._signals in ready:
            os.read(self._signals, 64)
            self._happened(Terminate())
        if self._lifeline is not None and self._lifeline.fd in ready:
            self._poller.unregister(self._lifeline.fd)
            self._lifeline = None
            self._happened(Terminate())
        for event in self._workers.events(ready):
            self._happened(event)
        if self._socket in ready:
            self._receive()
        if self._router is not None and self._router.ready(ready):
            for event in self._router.events():
                self._happened(event)
        self._happened(Tick())

    def _happened(self, event: Event) -> None:
        if not self._loaded and type(event) is Loaded:
            self._loaded = True
            gc.freeze()  # no collection need ever look at what is loaded
            gc.enable()
        for action in self._replica.on(event, time.monotonic()):
            self._act(action)
        if self._lifeline is not None and self._told is None:
            self._tell(self._lifeline)

    def _tell(self, lifeline: Lifeline) -> None:
        """What whoever keeps this replica wants to know: whether it is of use."""
        match self._replica.state:
            case State.IDLE:
                self._told = "idle"
                lifeline.says({"state": "idle"})
            case State.FAILED:
                self._told = "failed"
                lifeline.says({"state": "failed", **self._replica.failure})

    def _act(self, action: Action) -> None:
        match action:
            case Send(peer, message):
                if not self._send(peer, message):
                    self._happened(Gone(peer))
            case Start(call, slot):
                self._workers.start(call, slot)
            case Release(slot):
                self._workers.release(slot)
            case Kill(slot):
                self._workers.kill(slot)
            case Relink() if self._router is not None:
                self._happened(self._router.redial())
            case Exit(status):
                self._exit(status)

    # Peers

    def _receive(self) -> None:
        # A few at a time, so that a flood on the socket can't hold up the worker or a signal.
        for _ in range(16):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frames)
            except ProtocolError as error:
                # An ERROR is never answered with one: two confused peers would never stop.
                if frames[:1] != [b"ERROR"]:
                    self._send(peer, Error(code=error.code, message=error.message))
                continue
            self._happened(Received(peer, message))

    def _send(self, peer: bytes, message: Message) -> bool:
        """Whether the message was handed to a connection; False if the peer is gone."""
        if peer == ROUTER:
            if self._candidate and isinstance(message, Failed):
                return True
            return self._router is not None and self._router.send(message)
        try:
            self._socket.send_multipart([peer, *encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    # Beginning and end

    def _warm_up(self) -> None:
        """Rehearse a call, and send messages to ourselves, while the worker loads the handler."""
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        dealer = self._context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        self._poller.register(dealer, zmq.POLLIN)
        _rehearse()
        for number in range(WARM_ROUNDS):
            dealer.send_multipart(encode(Ping(number=number)))
            while not dealer.poll(0):
                self._step()
            decode(dealer.recv_multipart())
        self._poller.unregister(dealer)
        dealer.close(linger=0)

    def _exit(self, status: int) -> NoReturn:
        if self._router is not None:
            self._router.close(linger=LINGER_MS)
        self._log.flush(OUTPUT_S)
        self._workers.close()
        self._context.destroy(linger=LINGER_MS)  # all its sockets: the warm-up may be under way
        os._exit(status)


def _rehearse() -> None:
    """Take a stand-in for the replica, and the codec, through a call."""
    id = "0" * 32
    stand_in = Replica(Identity("f", ("f",), "f.1", id), timeout=1.0, max_body=16, now=0.0)
    call = Call(id=id, function="f", session=id, body=b"{}")
    for event in (
        Linked(),
        Loaded(),
        Received(ROUTER, decode(encode(call))),
        Answered(call.content_type, b"{}"),
        Received(ROUTER, decode(encode(Ack(id=id)))),
    ):
        for action in stand_in.on(event, 0.0):
            if isinstance(action, Send):
                encode(action.message)


def _listen(context: zmq.Context[zmq.Socket[bytes]], settings: Settings) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.ROUTER)
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a send to a peer that is gone says so
    sock.setsockopt(zmq.SNDHWM, 0)  # a replica sends one outcome; dropping it is never right
    guard(sock, settings.max_body)
    give_up = time.monotonic() + FAILED_S
    while True:
        try:
            sock.bind(settings.listen)
            return sock
        except zmq.ZMQError as error:
            # The replica before us may still be closing its socket, the address may be about to
            # come up; and what stays wrong must not make the process manager spin.
            if time.monotonic() > give_up:
                print(f"funker: can't listen on {settings.listen}: {error}", file=sys.stderr)
                os._exit(1)
            time.sleep(0.05)


def _signal_descriptor() -> int:
    """A descriptor that becomes readable on SIGTERM and SIGINT."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader
