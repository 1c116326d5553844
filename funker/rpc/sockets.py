"""The options that every ZeroMQ socket of the protocol has, with their reasons."""

from __future__ import annotations

import zmq

#: Bytes above the body's limit for one message: its header, and room to refuse politely what is
#: a little too large instead of dropping the connection.
SPARE = 1024 * 1024
#: Milliseconds between ZMTP heartbeats, and without one until the connection is given up. Shorter
#: ones cut connections while large bodies cross them.
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 5000, 30000


def guard(sock: zmq.Socket[bytes], max_body: int) -> None:
    """Bound what the socket receives, and have it notice a peer that is silently gone.

    `max_body` is in bytes.
    """
    sock.setsockopt(zmq.MAXMSGSIZE, max_body + SPARE)
    sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
