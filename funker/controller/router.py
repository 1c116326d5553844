"""The router's process: two ROUTER sockets, one loop. It knows demand and moves messages.

It has no Docker socket. What becomes of calls is decided in `dispatch`; here are the sockets and
the clock. Bodies pass through untouched: only headers are read.

Callers and replicas come to one socket, the reconciler to the other, which alone tells what
functions there are; who has the keys of a caller couldn't make functions appear or vanish.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from funker.controller.dispatch import Dispatch
from funker.controller.doorman import CONTROL_DOMAIN, PUBLIC_DOMAIN, Doorman
from funker.controller.glance import heard
from funker.controller.log import CallLog
from funker.controller.settings import Settings, settings
from funker.controller.snapshot import Observed
from funker.controller.sockets import Listener
from funker.controller.tables import Event, Finish, Printed, Received, Send, Tick, Unreachable
from funker.rpc.errors import FunkerError, PayloadTooLarge, ProtocolError, Unauthorized
from funker.rpc.messages import (
    Call,
    Demand,
    Error,
    Message,
    Query,
    Reply,
    Snapshot,
    decode,
    encode,
)

#: Messages that are taken from a socket before what they led to is sent and the other sockets are
#: looked at. ZeroMQ's own thread, which is woken by what it is to send, then sends many at a time.
BATCH = 64
#: Bytes of a call's header. What is said about a call repeats parts of it, and has to fit as well.
MAX_CALL_HEADER = 16 * 1024
#: Seconds between two DEMANDs at least.
DEMAND_S = 0.1
#: Milliseconds to flush what was sent before exiting.
LINGER_MS = 500
#: New objects between looks for garbage. Calls come and go without leaving any, but a look takes
#: longer the more of them wait.
GARBAGE = 100_000


class Router:
    """Serves its two endpoints until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.epoch = secrets.token_hex(8)
        self._started_at = time.monotonic()
        self._dispatch = Dispatch(epoch=self.epoch, now=self._started_at, limits=settings.limits)
        self._log = CallLog()
        self._observed = Observed()
        # Who has sent the last snapshot, and when calls that wait may be told of again.
        self._reconciler: bytes | None = None
        self._demand_at = self._started_at
        self._outbox: list[Send] = []
        self._stopping = False
        self._context = zmq.Context()
        keys = settings.keys
        self._doorman = Doorman(self._context, keys) if keys else None
        self._public = Listener(
            self._context,
            settings.listen,
            keys=keys,
            domain=PUBLIC_DOMAIN,
            max_body=settings.max_body,
        )
        self._control = Listener(
            self._context,
            settings.control,
            keys=keys,
            domain=CONTROL_DOMAIN,
            max_body=settings.max_body,
        )

    def run(self) -> None:
        """Serve until `stop` is called, from a signal handler for instance."""
        poller = zmq.Poller()
        poller.register(self._public.socket, zmq.POLLIN)
        poller.register(self._control.socket, zmq.POLLIN)
        if self._doorman is not None:
            poller.register(self._doorman.socket, zmq.POLLIN)
        while not self._stopping:
            wait = self._wakeup() - time.monotonic()
            ready = dict(poller.poll(int(max(wait, 0) * 1000) + 1))
            if self._doorman is not None and self._doorman.socket in ready:
                self._doorman.answer()
            if self._control.socket in ready:
                self._receive(self._control)
            if self._public.socket in ready:
                self._receive(self._public)
            self._happened(Tick(), time.monotonic())
            self._flush()
            if self._dispatch.is_demanding:
                self._tell_demand(time.monotonic())
        self._context.destroy(linger=LINGER_MS)

    def stop(self) -> None:
        self._stopping = True

    def _wakeup(self) -> float:
        wakeup = self._dispatch.wakeup()
        return min(wakeup, self._demand_at) if self._dispatch.is_demanding else wakeup

    def _tell_demand(self, now: float) -> None:
        """Tell the reconciler at once of calls that nobody will take, and not too often."""
        if now < self._demand_at:
            return
        self._demand_at = now + DEMAND_S
        functions = self._dispatch.demanding(now)
        if self._reconciler is None or not functions:
            return
        demand = Demand(body=json.dumps({"functions": functions}).encode())
        if not self._control.send(self._reconciler, encode(demand)):
            self._reconciler = None  # the next one, or this one again, will say so

    def _receive(self, listener: Listener) -> None:
        for _ in range(BATCH):
            try:
                peer, frames = listener.receive()
            except zmq.Again:
                return
            # Anew for each: large bodies take long, and a caller stands for a moment only.
            now = time.monotonic()
            try:
                if listener is self._control:
                    message = decode(frames)
                    listener.send(peer, encode(self._reply(message, listener)))
                    if isinstance(message, Snapshot):
                        self._reconciler = peer
                else:
                    self._hear(peer, frames, now)
            except (ProtocolError, Unauthorized) as error:
                # An ERROR is never answered with one: two confused peers would never stop.
                if frames[0] != b"ERROR":
                    said = Error(code=error.code, message=error.message, hint=error.hint)
                    listener.send(peer, encode(said))

    def _hear(self, peer: bytes, frames: Sequence[bytes], now: float) -> None:
        """A message of a caller or a replica. Raises `ProtocolError`, `Unauthorized`."""
        event = heard(peer, frames)
        if isinstance(event, Received):
            match event.message:
                case (Query() | Snapshot()) as question:
                    self._public.send(peer, encode(self._reply(question, self._public)))
                    return
                case Call() as call if len(frames[1]) > MAX_CALL_HEADER:
                    self._public.send(peer, encode(_too_large(call, len(frames[1]))))
                    return
        self._happened(event, now)

    def _happened(self, event: Event, now: float) -> None:
        for action in self._dispatch.on(event, now):
            # By type and in the order of their numbers: this is as hot as it gets here.
            if type(action) is Send:
                self._outbox.append(action)
            elif type(action) is Finish:
                self._log.add(action.record, at=time.time())
            elif type(action) is Printed:
                self._log.printed(action.id, action.text)

    def _flush(self) -> None:
        """Send what is to be sent. What can't be is an event, after which there may be more."""
        while self._outbox:
            outbox, self._outbox = self._outbox, []
            gone = [
                Unreachable(peer, call)
                for peer, what, call in outbox
                if not self._deliver(peer, what)
            ]
            for event in gone:
                self._happened(event, time.monotonic())

    def _deliver(self, peer: bytes, what: Message | Sequence[bytes]) -> bool:
        try:
            frames = encode(what) if isinstance(what, Message) else what
        except PayloadTooLarge as error:
            # A replica with a name of 60 KiB, say. It must not take the router down.
            print(f"funker-router: to {peer!r}: {error}", file=sys.stderr, flush=True)
            return False
        return self._public.send(peer, frames)

    # What it knows

    def _reply(self, message: Message, listener: Listener) -> Reply:
        match message:
            case Snapshot(number=number, body=body) if listener is self._control:
                now = time.monotonic()
                self._happened(self._observed.learn(body or b"", now), now)
                return _json_reply(number, self._status())
            case Query(number=number):
                return _json_reply(number, self._answer(message))
            case Snapshot():
                raise Unauthorized(
                    "SNAPSHOT isn't heard here",
                    hint="the reconciler speaks to the router's control socket",
                )
            case _:
                raise ProtocolError(f"{message.kind} isn't heard on the control socket")

    def _answer(self, query: Query) -> object:
        answers: dict[str, Callable[[], object]] = {
            "status": self._status,
            "calls": lambda: self._log.last(query.function, query.limit),
            "call": lambda: self._dispatch.describe(query.id) or self._log.find(query.id),
        }
        if query.what not in answers:
            raise ProtocolError(f"QUERY: what is {query.what!r}, not one of {sorted(answers)}")
        return answers[query.what]()

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        functions = self._dispatch.status(now)
        for name, about in self._observed.functions.items():
            functions[name] |= about
        for name, about in functions.items():
            calls, errors = self._log.totals.get(name, (0, 0))
            about |= {"calls": calls, "errors": errors}
        seen_at = self._observed.at
        return {
            "epoch": self.epoch,
            "uptime_s": round(now - self._started_at, 1),
            "snapshot_age_s": None if seen_at is None else round(now - seen_at, 1),
            "functions": functions,
        }


def _too_large(call: Call, size: int) -> Error:
    message = f"the header has {size} bytes, the limit is {MAX_CALL_HEADER}"
    return Error(id=call.id, code="payload_too_large", message=message, retry_safe=not call.resend)


def _json_reply(number: int, value: object) -> Reply:
    return Reply(number=number, body=json.dumps(value).encode())


def main() -> None:
    """The entry point `python -m funker.controller.router`; see `settings`."""
    try:
        chosen = settings(os.environ)
        router = Router(chosen)
    except (FunkerError, zmq.ZMQError) as error:
        print(f"funker-router: {error}", getattr(error, "hint", ""), file=sys.stderr)
        sys.exit(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: router.stop())
    gc.freeze()
    gc.set_threshold(GARBAGE)
    where = f"{chosen.listen}, the reconciler on {chosen.control}"
    print(f"funker-router: serving {where}, epoch {router.epoch}", file=sys.stderr, flush=True)
    router.run()


if __name__ == "__main__":
    main()
