"""The least that can stand in a router's place: every message goes to a process that is there.

    forwarder.py [CALLERS PEERS]

Callers come to the endpoint CALLERS, else to port 5571. To PEERS, else to 5572, comes `peer.py`,
says an empty word once it is there, and gets one message. With a file FUNKER_ROUTER_KEY_FILE both
speak CURVE.
"""

from __future__ import annotations

import collections
import os
import sys

import zmq


def main(for_callers: str = "tcp://*:5571", for_peers: str = "tcp://*:5572") -> None:
    context = zmq.Context()
    keys = _keys(os.environ.get("FUNKER_ROUTER_KEY_FILE", ""))
    callers = _listen(context, for_callers, keys)
    peers = _listen(context, for_peers, keys)
    poller = zmq.Poller()
    poller.register(callers, zmq.POLLIN)
    poller.register(peers, zmq.POLLIN)
    waiting: collections.deque[list[bytes]] = collections.deque()
    free: collections.deque[bytes] = collections.deque()
    while True:
        ready = dict(poller.poll())
        if peers in ready:
            peer, *frames = peers.recv_multipart()
            if frames == [b""]:
                free.append(peer)
            else:
                callers.send_multipart(frames)
        if callers in ready:
            waiting.append(callers.recv_multipart())
        while waiting and free:
            peers.send_multipart([free.popleft(), *waiting.popleft()])


def _keys(path: str) -> dict[str, str]:
    if not path:
        return {}
    with open(path, encoding="ascii") as file:
        return dict(line.strip().split("=", 1) for line in file)


def _listen(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: dict[str, str]
) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.ROUTER)
    if keys:
        sock.setsockopt(zmq.CURVE_SERVER, 1)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys["ROUTER_PUBLIC"].encode())
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys["ROUTER_SECRET"].encode())
    sock.bind(endpoint)
    return sock


if __name__ == "__main__":
    main(*sys.argv[1:])
