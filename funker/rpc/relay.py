"""The relay: calls from outside the network, carried over a container's stdin and stdout.

The command line starts this module (`python3 -m funker.rpc.relay`) in a short-lived container on
the functions' network and speaks the wire protocol with it over the Docker API's attach stream:

    in    CALL, CANCEL (by id), PING (function), QUERY
    out   RESULT or ERROR for each CALL; PONG for each PING, REPLY for each QUERY, by number

Calls go through the router where this container has its key, else directly; PINGs always go to
the function's replicas.

Each message on the stream is a 32-bit count of frames, then each frame as a 64-bit length and
its bytes, big-endian. The end of stdin cancels what is open and ends the relay.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import zmq

from funker.rpc.direct import Direct, max_body
from funker.rpc.errors import CallError, FunkerError, ProtocolError, RouterUnavailable
from funker.rpc.messages import (
    Call,
    Cancel,
    Error,
    Message,
    Ping,
    Query,
    Reply,
    Result,
    decode,
    encode,
)
from funker.rpc.ways import Ways, open_ways

#: Frames of a message at most (a message of the protocol has 3).
MAX_FRAMES = 8
#: Bytes of a frame at most; a body's own limit is checked where it is known.
MAX_FRAME = 1 << 32
#: Seconds for a PING's answer.
PROBE_S = 2.0

_COUNT = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")


def pack(frames: list[bytes]) -> bytes:
    """The frames of one message as bytes for the stream."""
    parts = [_COUNT.pack(len(frames))]
    for frame in frames:
        parts += [_LENGTH.pack(len(frame)), frame]
    return b"".join(parts)


class Unpacker:
    """Bytes in, in any portions; the frames of whole messages out."""

    def __init__(self) -> None:
        self._chunks = bytearray()

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The messages that `data` completes. Raises `ProtocolError` for what is no such stream."""
        self._chunks += data
        messages: list[list[bytes]] = []
        while (found := self._next()) is not None:
            frames, size = found
            messages.append(frames)
            del self._chunks[:size]
        return messages

    def _next(self) -> tuple[list[bytes], int] | None:
        data = self._chunks
        if len(data) < _COUNT.size:
            return None
        (count,) = _COUNT.unpack_from(data)
        if count > MAX_FRAMES:
            raise ProtocolError(f"a message of {count} frames; this isn't a relay's stream")
        frames, at = [], _COUNT.size
        for _ in range(count):
            if len(data) < at + _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack_from(data, at)
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes; this isn't a relay's stream")
            at += _LENGTH.size
            if len(data) < at + length:
                return None
            frames.append(bytes(data[at : at + length]))
            at += length
        return frames, at


class Relay:
    """Serves one stream: each call in a thread of its own."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._writing = threading.Lock()
        self._direct = Direct(max_body=max_body())
        # Opened by the first call: a key that can't be used is an outcome, not the relay's end.
        self._ways: Ways | Direct | None = None
        self._opening = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._threads: set[threading.Thread] = set()

    def run(self) -> None:
        """Serve until the end of stdin, then cancel and end what is open.

        Raises `ProtocolError` for what isn't the protocol, having ended what is open as well.
        """
        unpacker = Unpacker()
        try:
            while data := os.read(self._stdin, 1 << 20):
                for frames in unpacker.feed(data):
                    self._received(decode(frames))
        finally:
            for cancel in list(self._cancels.values()):
                cancel.set()
            for thread in list(self._threads):
                thread.join()
            self._direct.close()
            if self._ways is not None:
                self._ways.close()

    def _received(self, message: Message) -> None:
        match message:
            case Call(id=id) if id in self._cancels:
                pass  # said twice: it has one outcome all the same
            case Call():
                self._cancels[message.id] = threading.Event()
                self._spawn(self._call, message)
            case Cancel(id=id):
                if (cancel := self._cancels.get(id)) is not None:
                    cancel.set()
            case Ping():
                self._spawn(self._probe, message)
            case Query():
                self._spawn(self._ask, message)
            case _:
                raise ProtocolError(f"{message.kind} isn't for a relay")

    def _spawn(self, serve: Callable[[Any], None], message: Message) -> None:
        def work() -> None:
            try:
                serve(message)
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=work)
        self._threads.add(thread)
        thread.start()

    def _call(self, call: Call) -> None:
        outcome: Result | Error
        try:
            outcome = self._open().run(call, cancel=self._cancels[call.id])
        except CallError as error:
            outcome = Error(**(error.fields() | {"id": call.id}))
        except FunkerError as error:  # a setting of this container
            outcome = _unavailable(call, error.message).replace(hint=error.hint, retry_safe=True)
        except (OSError, zmq.ZMQError) as error:  # too many open files, say
            outcome = _unavailable(call, f"the relay can't go on with the call: {error}")
        del self._cancels[call.id]
        self._write(outcome)

    def _open(self) -> Ways | Direct:
        with self._opening:
            if self._ways is None:
                self._ways = open_ways(os.environ)
            return self._ways

    def _ask(self, query: Query) -> None:
        try:
            ways = self._open()
            if not isinstance(ways, Ways):
                raise RouterUnavailable("no router is known where the call comes out: no key there")
            reply = ways.ask(query)
        except (FunkerError, OSError, zmq.ZMQError) as error:
            reply = Reply(number=query.number, error=str(error))
        self._write(reply)

    def _probe(self, ping: Ping) -> None:
        pong = self._direct.probe(ping.function, patience=PROBE_S)
        self._write(pong.replace(number=ping.number))

    def _write(self, message: Message) -> None:
        view = memoryview(pack(encode(message)))
        # When nobody reads any more, the end of stdin is near.
        with self._writing, contextlib.suppress(BrokenPipeError):
            while view:
                view = view[os.write(self._stdout, view) :]


def _unavailable(call: Call, message: str) -> Error:
    return Error(id=call.id, code="router_unavailable", message=message, function=call.function)


if __name__ == "__main__":
    Relay(sys.stdin.fileno(), sys.stdout.fileno()).run()
