"""The router's ZeroMQ sockets: their options, and moving messages at little cost."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from funker.controller.doorman import RouterKeys
from funker.rpc.sockets import guard

#: Connections that wait to be accepted: a thousand replicas may dial within a moment, after a
#: restart for instance.
BACKLOG = 4096
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class Listener:
    """A ROUTER socket that never blocks."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        keys: RouterKeys | None,
        domain: bytes,
        max_body: int,
    ) -> None:
        self.socket = sock = context.socket(zmq.ROUTER)
        # A send to a peer that is gone says so; and a slow reader must not stop the router, nor a
        # high-water mark drop a message: the bounds are dispatch's own.
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.SNDHWM, 0)
        sock.setsockopt(zmq.RCVHWM, 0)
        # Peers keep their routing ids over reconnects: the new connection is the one that counts.
        sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
        guard(sock, max_body)
        sock.setsockopt(zmq.BACKLOG, BACKLOG)
        if keys is not None:
            sock.setsockopt(zmq.CURVE_SERVER, 1)
            sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
            sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
            sock.setsockopt(zmq.ZAP_DOMAIN, domain)
        sock.bind(endpoint)
        self._recv = sock.recv
        # The method below pyzmq's `Socket.send`, which adds options of draft sockets, and as much
        # again to the cost of each frame.
        self._send = super(zmq.Socket, sock).send

    def receive(self) -> tuple[bytes, list[bytes]]:
        """The next message and whom it is from. Raises `zmq.Again` if there is none."""
        recv = self._recv
        peer = recv(_NOBLOCK)
        frames: list[bytes] = []
        more = True
        while more:  # behind the routing id there is one frame at least
            # A frame knows whether another follows. To ask the socket, as `recv_multipart` does,
            # costs more than all the rest of receiving it.
            frame = recv(_NOBLOCK, False, False)
            frames.append(frame.bytes)
            more = frame.more
        return peer, frames

    def send(self, peer: bytes, frames: Sequence[bytes]) -> bool:
        """Whether the frames were handed to a connection; False if the peer is gone."""
        send = self._send
        try:
            send(peer, _MORE)
            for frame in frames[:-1]:
                send(frame, _MORE)
            send(frames[-1], _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True
