"""The options that every ZeroMQ socket of the protocol has, and the connection to a router."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import zmq

from funker.rpc.errors import FunkerError, ProtocolError
from funker.rpc.keys import Keys, secure
from funker.rpc.messages import Message, decode

#: Bytes above the body's limit for one message: its header, and room to refuse politely what is
#: a little too large instead of dropping the connection.
SPARE = 1024 * 1024
#: Milliseconds between ZMTP heartbeats, and without one until the connection is given up. Shorter
#: ones cut connections while large bodies cross them.
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5000, 30000
#: Milliseconds before a failed connection to a router is tried again; and if many in a row broke
#: off in the handshake. Which ZeroMQ takes for a connection, and dials again at once: a thousand
#: replicas with keys of yesterday would keep a router from its work.
RECONNECT_MS, UNWELCOME_MS = 10, 1000
#: How many that are.
UNWELCOME = 20
#: Milliseconds for the TCP connection to a router. A dead container's address gives no answer at
#: all, and the name is looked up again only for the next try.
CONNECT_MS = 1000

#: Why a router and its client part in the handshake, for ever as far as ZeroMQ is concerned: it
#: doesn't dial again.
REFUSALS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it doesn't know the key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "one side has keys and the other has none",
}
#: What a monitor is asked to tell.
WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)

_EVENT = struct.Struct("=H")  # then its value, which nothing here needs


def guard(sock: zmq.Socket[bytes], max_body: int) -> None:
    """Bound what the socket receives, and have it notice a peer that is silently gone.

    `max_body` is in bytes.
    """
    sock.setsockopt(zmq.MAXMSGSIZE, max_body + SPARE)
    sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)


def dial(
    context: zmq.Context[zmq.Socket[bytes]],
    address: str,
    *,
    name: bytes,
    keys: Keys | None,
    max_body: int,
    reconnect_max_ms: int,
    immediate: bool,
    unwelcome: bool,
) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A DEALER that connects to a router, and the monitor that tells of its connections.

    `address` is "host:port" or a ZeroMQ endpoint; `name` is the client's own for life, so that a
    router knows it again behind another connection. With `immediate`, a send fails while there is
    no connection; if `unwelcome`, it dials seldom. Raises `FunkerError` for what is no address.
    """
    dealer = context.socket(zmq.DEALER)
    try:
        dealer.setsockopt(zmq.ROUTING_ID, name)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.IMMEDIATE, immediate)
        dealer.setsockopt(zmq.RECONNECT_IVL, UNWELCOME_MS if unwelcome else RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, UNWELCOME_MS if unwelcome else reconnect_max_ms)
        dealer.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        guard(dealer, max_body)
        secure(dealer, keys)
        monitor = dealer.get_monitor_socket(WATCHED)
    except BaseException:  # no more descriptors, say
        dealer.close(linger=0)
        raise
    try:
        dealer.connect(address if "://" in address else f"tcp://{address}")
    except zmq.ZMQError as error:
        hang_up(dealer, monitor, linger=0)
        raise FunkerError(
            f"{address!r} is no address of a router: {error}",
            hint="FUNKER_ROUTER is HOST:PORT, or an endpoint such as ipc:///run/funker/router",
        ) from None
    return dealer, monitor


def heard(monitor: zmq.Socket[bytes]) -> list[int]:
    """The events that a monitor has to tell by now."""
    # Parsed here: importing zmq.utils.monitor imports asyncio, 25 ms of every caller's start.
    events = []
    while True:
        try:
            events.append(_EVENT.unpack_from(monitor.recv_multipart(zmq.NOBLOCK)[0])[0])
        except zmq.Again:
            return events


def incoming(dealer: zmq.Socket[bytes]) -> Iterator[Message]:
    """What a router has sent by now. What can't be read is passed over: one of another age."""
    while True:
        try:
            frames = dealer.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        with contextlib.suppress(ProtocolError):
            yield decode(frames)


def hang_up(dealer: zmq.Socket[bytes], monitor: zmq.Socket[bytes], *, linger: int) -> None:
    """Close both, having flushed for `linger` milliseconds at most."""
    dealer.disable_monitor()
    monitor.close(linger=0)
    dealer.close(linger=linger)
