"""The least that a router in Python can do: each message goes on to somebody, unread.

    python -m benchmarks.echo.forwarder URL CALLERS REPLICA…

What a replica sends goes to its caller, and what a caller sends to each of its replicas in turn.
Once everybody has said something, the callers hear a PONG and may begin.
"""

from __future__ import annotations

import contextlib
import itertools
import sys

import zmq

from benchmarks.echo.wire import Wire
from funker.rpc.messages import Pong, encode


def forward(url: str, callers: list[bytes], replicas: list[bytes]) -> None:
    wire = Wire(zmq.Context())
    wire.socket.setsockopt(zmq.BACKLOG, 4096)
    wire.socket.bind(url)
    theirs = dict(zip(replicas, itertools.cycle(callers), strict=False))
    turns = {c: itertools.cycle([r for r in replicas if theirs[r] == c]) for c in callers}
    print("forwarding", file=sys.stderr, flush=True)
    missing = {*callers, *replicas}
    while missing:
        wire.socket.poll()
        missing.discard(wire.receive()[0])
    for caller in callers:
        wire.send(caller, *encode(Pong(number=1, stamp=1)))
    while True:
        wire.socket.poll()
        with contextlib.suppress(zmq.Again):
            for _ in range(256):
                peer, *frames = wire.receive()
                home = theirs.get(peer)
                wire.send(next(turns[peer]) if home is None else home, *frames)


if __name__ == "__main__":
    names = [name.encode() for name in sys.argv[3:]]
    forward(sys.argv[1], [b"C%d" % n for n in range(int(sys.argv[2]))], names)
