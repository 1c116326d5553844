"""The two that a replica talks to, played over bare sockets: a caller and a router."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq

from funker.rpc.messages import (
    JSON,
    Ack,
    Call,
    Error,
    Message,
    Ping,
    Pong,
    Ready,
    Result,
    decode,
    encode,
)
from funker.rpc.sockets import guard

if TYPE_CHECKING:
    from tests.conformance.replica import Replica

#: Seconds. Proves that something comes; nothing here takes nearly as long.
PATIENCE = 20.0
#: Bytes of the largest body that these peers take.
LARGEST = 80 * 1024 * 1024


def body_of(given: dict[str, Any]) -> bytes:
    return json.dumps(given).encode()


class Peer:
    """What both have in common: messages of certain kinds are waited for, others passed over."""

    socket: zmq.Socket[bytes]

    def send(self, message: Message) -> None:
        raise NotImplementedError

    def next(self, seconds: float) -> Message | None:
        """The next message within `seconds`."""
        raise NotImplementedError

    def receive(self, *kinds: type[Message], within: float = PATIENCE) -> Any:
        """The next message; of certain kinds, if they are given, passing over others."""
        give_up = time.monotonic() + within
        while (message := self.next(max(0.0, give_up - time.monotonic()))) is not None:
            if not kinds or isinstance(message, kinds):
                return message
        raise TimeoutError(f"no {' or '.join(kind.kind for kind in kinds) or 'message'}")

    def outcome(self, call: Call, *, ack: bool = True, within: float = PATIENCE) -> Result | Error:
        """How the call ended; acknowledged, unless told otherwise."""
        give_up = time.monotonic() + within
        while True:
            outcome = self.receive(Result, Error, within=max(0.0, give_up - time.monotonic()))
            if outcome.id == call.id:
                break
        if ack:
            self.send(Ack(id=call.id))
        assert isinstance(outcome, Result | Error)
        return outcome

    def until(self, *kinds: type[Message], within: float) -> Iterator[Message]:
        """The messages that come within a time, of certain kinds."""
        give_up = time.monotonic() + within
        while (message := self.next(max(0.0, give_up - time.monotonic()))) is not None:
            if isinstance(message, kinds):
                yield message


class Caller(Peer):
    """Talks to a replica directly, as a caller does, or as none should."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], replica: Replica) -> None:
        self._replica = replica
        self._pings = 0
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self.socket.setsockopt(zmq.LINGER, 0)
        guard(self.socket, LARGEST)
        self.socket.connect(replica.listen)

    def send(self, message: Message) -> None:
        self.socket.send_multipart(encode(message))

    def next(self, seconds: float) -> Message | None:
        if not self.socket.poll(int(seconds * 1000)):
            return None
        return decode(self.socket.recv_multipart())

    def ask(self) -> Pong:
        """One PING and its PONG: whatever was sent before it has been dealt with."""
        self._pings += 1
        self.send(Ping(number=self._pings, function=self._replica.function))
        while (pong := self.receive(Pong)).number != self._pings:
            pass
        assert isinstance(pong, Pong)
        return pong

    def state(self, *states: str) -> Pong:
        """The PONG of a replica that has come to one of these states."""
        give_up = time.monotonic() + PATIENCE
        while (pong := self.ask()).state not in states:
            if time.monotonic() > give_up:
                raise TimeoutError(f"the replica is {pong.state}, not {' or '.join(states)}")
            time.sleep(0.005)
        return pong

    def call(self, do: str | None = None, /, **given: Any) -> Call:
        """Wait until the replica is idle and have it do something; `_` fields are the header's."""
        fields = {name[1:]: given.pop(name) for name in list(given) if name.startswith("_")}
        session = self.state("idle").session
        body = body_of(given if do is None else {"do": do, **given})
        call = made(self._replica.function, session, **{"body": body, **fields})
        self.send(call)
        return call

    def close(self) -> None:
        self.socket.close(linger=0)


class Router(Peer):
    """A router that knows one replica. It answers PINGs whenever it looks for messages."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        keys: tuple[bytes, bytes] | None = None,
        port: int = 0,
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self.known = True
        self.stamp = 0
        self.mute = False
        #: What PINGs have echoed.
        self.echoes: list[int] = []
        #: The routing id of whoever has spoken last.
        self.name = b""
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.setsockopt(zmq.LINGER, 0)
        guard(self.socket, LARGEST)
        if keys is not None:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys[0])
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys[1])
        if port:
            self.socket.bind(f"tcp://127.0.0.1:{port}")
            self.port = port
        else:
            self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"127.0.0.1:{self.port}"

    def send(self, message: Message) -> None:
        self.socket.send_multipart([self.name, *encode(message)])

    def next(self, seconds: float) -> Message | None:
        give_up = time.monotonic() + seconds
        while self.socket.poll(max(0, int((give_up - time.monotonic()) * 1000))):
            self.name, *frames = self.socket.recv_multipart()
            message = decode(frames)
            if not isinstance(message, Ping):
                return message
            self.echoes.append(message.echo)
            if not self.mute:
                self.stamp += 1
                self.send(
                    Pong(
                        number=message.number,
                        epoch=self.epoch,
                        stamp=self.stamp,
                        known=self.known,
                    )
                )
                self.known = True
        return None

    def ready(self) -> Ready:
        ready = self.receive(Ready)
        assert isinstance(ready, Ready)
        return ready

    def call(self, ready: Ready, do: str, /, **given: Any) -> Call:
        """Have the replica that has said READY do something; `_` fields are the header's."""
        fields = {name[1:]: given.pop(name) for name in list(given) if name.startswith("_")}
        body = body_of({"do": do, **given})
        call = made(ready.function, ready.session, **{"body": body, **fields})
        self.send(call)
        return call

    def close(self) -> None:
        self.socket.close(linger=0)


def made(function: str, session: str, **fields: Any) -> Call:
    """A CALL with an id of its own."""
    defaults = {"id": secrets.token_hex(16), "content_type": JSON}
    return Call(**{**defaults, "function": function, "session": session, **fields})
