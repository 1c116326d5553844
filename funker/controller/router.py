"""The router's process: one ROUTER socket, one loop. It knows demand and moves messages.

It has no Docker socket. What becomes of calls is decided in `dispatch`; here are the socket, the
keys and the clock. Bodies pass through untouched: only headers are read.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import zmq

from funker.controller.dispatch import Dispatch
from funker.controller.log import CallLog
from funker.controller.tables import (
    Catalogue,
    Event,
    Finish,
    Printed,
    Received,
    Send,
    Tick,
    Unreachable,
)
from funker.rpc.errors import FunkerError, PayloadTooLarge, ProtocolError, Unauthorized
from funker.rpc.keys import ROUTER_PORT, read
from funker.rpc.messages import (
    MAX_BODY,
    Call,
    Error,
    Message,
    Query,
    Reply,
    Snapshot,
    decode,
    encode,
)
from funker.rpc.sockets import guard

#: Where swarm puts the router's own secret.
KEY_FILE = "/run/secrets/funker-router-key"
#: Messages that are taken from the socket before the clock is looked at again.
BATCH = 64
#: Bytes of a call's header. What is said about a call repeats parts of it, and has to fit as well.
MAX_CALL_HEADER = 16 * 1024
#: Milliseconds to flush what was sent before exiting.
LINGER_MS = 500


class RouterKeys(NamedTuple):
    """The router's own pair, and the public keys of those who may speak to it."""

    public: bytes
    secret: bytes
    allowed: frozenset[bytes]


class Router:
    """Serves one endpoint until `stop`. Without `keys` it hears everybody: for tests alone."""

    def __init__(self, listen: str, *, keys: RouterKeys | None, max_body: int = MAX_BODY) -> None:
        self.epoch = secrets.token_hex(8)
        self._started_at = time.monotonic()
        self._dispatch = Dispatch(epoch=self.epoch, now=self._started_at)
        self._log = CallLog()
        self._functions: dict[str, dict[str, Any]] = {}
        self._stopping = False
        self._context = zmq.Context()
        self._doorman = _Doorman(self._context, keys.allowed) if keys else None
        self._socket = _listen(self._context, listen, keys, max_body)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if self._doorman is not None:
            self._poller.register(self._doorman.socket, zmq.POLLIN)

    def run(self) -> None:
        """Serve until `stop` is called, from a signal handler for instance."""
        while not self._stopping:
            wait = self._dispatch.wakeup() - time.monotonic()
            ready = dict(self._poller.poll(int(max(wait, 0) * 1000) + 1))
            if self._doorman is not None and self._doorman.socket in ready:
                self._doorman.answer()
            if self._socket in ready:
                self._receive()
            self._happened(Tick())
        self._context.destroy(linger=LINGER_MS)

    def stop(self) -> None:
        self._stopping = True

    def _receive(self) -> None:
        for _ in range(BATCH):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frames)
                if isinstance(message, Query | Snapshot):
                    self._send(peer, encode(self._reply(message)))
                elif isinstance(message, Call) and len(frames[1]) > MAX_CALL_HEADER:
                    self._send(peer, encode(_too_large(message, len(frames[1]))))
                else:
                    self._happened(Received(peer, message, frames))
            except ProtocolError as error:
                # An ERROR is never answered with one: two confused peers would never stop.
                if frames[:1] != [b"ERROR"]:
                    self._send(peer, encode(Error(code=error.code, message=error.message)))

    def _happened(self, event: Event) -> None:
        # A send that fails is an event as well; a list, not recursion: a thousand may be gone.
        events = [event]
        for happened in events:
            for action in self._dispatch.on(happened, time.monotonic()):
                match action:
                    case Send(peer, what, call):
                        if not self._deliver(peer, what):
                            events.append(Unreachable(peer, call))
                    case Finish(record):
                        self._log.add(record, at=time.time())
                    case Printed(id, text):
                        self._log.printed(id, text)

    def _deliver(self, peer: bytes, what: Message | Sequence[bytes]) -> bool:
        try:
            return self._send(peer, encode(what) if isinstance(what, Message) else what)
        except PayloadTooLarge as error:
            # A replica with a name of 60 KiB, say. It must not take the router down.
            print(f"funker-router: to {peer!r}: {error}", file=sys.stderr, flush=True)
            return False

    def _send(self, peer: bytes, frames: Sequence[bytes]) -> bool:
        """Whether the frames were handed to a connection; False if the peer is gone."""
        try:
            self._socket.send_multipart([peer, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    # What it knows

    def _reply(self, message: Query | Snapshot) -> Reply:
        if isinstance(message, Snapshot):
            self._learn(message.body or b"")
            return _json_reply(message.number, self._status())
        answers: dict[str, Callable[[], object]] = {
            "status": self._status,
            "calls": lambda: self._log.last(message.function, message.limit),
            "call": lambda: self._log.find(message.id) or self._dispatch.describe(message.id),
        }
        if message.what not in answers:
            raise ProtocolError(f"QUERY: what is {message.what!r}, not one of {sorted(answers)}")
        return _json_reply(message.number, answers[message.what]())

    def _learn(self, body: bytes) -> None:
        try:
            functions = json.loads(body)["functions"]
            names = {function: tuple(about["names"]) for function, about in functions.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"SNAPSHOT: not a catalogue: {error!r}") from None
        self._functions = functions
        self._happened(Catalogue(names))

    def _status(self) -> dict[str, Any]:
        functions = self._dispatch.status(time.monotonic())
        for name, about in self._functions.items():
            functions.setdefault(name, self._dispatch.nothing()).update(
                {key: about.get(key) for key in ("wanted", "image", "outdated")}
            )
        for name, (calls, errors) in self._log.totals.items():
            if name in functions:
                functions[name] |= {"calls": calls, "errors": errors}
        return {
            "epoch": self.epoch,
            "uptime_s": round(time.monotonic() - self._started_at, 1),
            "functions": functions,
        }


class _Doorman:
    """Answers ZeroMQ's question who may come in (ZAP, RFC 27): those whose keys are allowed."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: frozenset[bytes]) -> None:
        self._allowed = allowed
        self.socket = context.socket(zmq.REP)
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        from zmq.utils import z85

        version, number, _domain, _address, _identity, mechanism, *credentials = (
            self.socket.recv_multipart()
        )
        known = mechanism == b"CURVE" and z85.encode(credentials[0]) in self._allowed
        status = [b"200", b"OK", b"client"] if known else [b"400", b"unknown key", b""]
        self.socket.send_multipart([version, number, *status, b""])


def _listen(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: RouterKeys | None, max_body: int
) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.ROUTER)
    # A send to a peer that is gone says so; and a slow reader must not stop the router, nor a
    # high-water mark drop a message: the bounds are dispatch's own.
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
    sock.setsockopt(zmq.SNDHWM, 0)
    sock.setsockopt(zmq.RCVHWM, 0)
    # Peers keep their routing ids over reconnects: the new connection is the one that counts.
    sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
    guard(sock, max_body)
    # A thousand replicas may dial within a moment, after a restart for instance.
    sock.setsockopt(zmq.BACKLOG, 4096)
    if keys is not None:
        sock.setsockopt(zmq.CURVE_SERVER, 1)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        sock.setsockopt(zmq.ZAP_DOMAIN, b"funker")
    sock.bind(endpoint)
    return sock


def _too_large(call: Call, size: int) -> Error:
    message = f"the header has {size} bytes, the limit is {MAX_CALL_HEADER}"
    return Error(id=call.id, code="payload_too_large", message=message, retry_safe=not call.resend)


def _json_reply(number: int, value: object) -> Reply:
    return Reply(number=number, body=json.dumps(value).encode())


def router_keys(path: str) -> RouterKeys:
    """The keys in the router's secret. Raises `FunkerError`."""
    try:
        names = ("ROUTER_PUBLIC", "ROUTER_SECRET", "CLIENT_PUBLIC")
        fields = read(path, *names)
        public, secret, client = (fields[name].encode() for name in names)
        return RouterKeys(public, secret, frozenset([client]))
    except Unauthorized as error:
        raise FunkerError(
            f"no router key in {path}: {error}",
            hint="`funker up` makes it. For tests alone: FUNKER_INSECURE=1.",
        ) from None


def main() -> None:
    """The entry point `funker-router`: FUNKER_LISTEN, FUNKER_ROUTER_KEY_FILE, FUNKER_INSECURE."""
    listen = os.environ.get("FUNKER_LISTEN") or f"tcp://*:{ROUTER_PORT}"
    insecure = os.environ.get("FUNKER_INSECURE") == "1"
    try:
        keys = None
        if not insecure:
            keys = router_keys(os.environ.get("FUNKER_ROUTER_KEY_FILE") or KEY_FILE)
        router = Router(listen, keys=keys)
    except (FunkerError, zmq.ZMQError) as error:
        print(f"funker-router: {error}", getattr(error, "hint", ""), file=sys.stderr)
        sys.exit(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: router.stop())
    print(f"funker-router: serving {listen}, epoch {router.epoch}", file=sys.stderr, flush=True)
    router.run()


if __name__ == "__main__":
    main()
