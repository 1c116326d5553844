"""Uses up one replica after the other, and tells when the next one is idle.

    watch.py FUNCTION SECONDS PAUSE

PAUSE seconds after a replica has said that it is idle it is called, and so ends; the first one
that is idle after SECONDS stays so. Prints the Unix times at which replicas were first seen idle,
as a JSON list. The function must have one replica.
"""

from __future__ import annotations

import json
import socket
import sys
import time

import zmq

import funker
from funker.rpc.messages import Ping, Pong, decode, encode

PORT = 5570
#: Seconds between look-ups of the name. A replica has its address some 50 ms before it is idle,
#: and more look-ups than needed would cost the engine, which answers them, time to start it.
LOOK = 0.015
#: Seconds between questions to a replica that isn't idle yet.
PROBE = 0.003
#: Milliseconds for its answer. It may not listen yet; or it is the last one, which is gone.
PROBE_PATIENCE_MS = 150
#: Seconds for a replica to show up.
PATIENCE = 30.0


def main(function: str, seconds: float, pause: float) -> None:
    context = zmq.Context()
    add = funker.function(function, deadline=PATIENCE)
    end = time.time() + seconds
    seen: list[float] = []
    last = ""
    while True:
        last = wait_until_idle(context, function, last)
        seen.append(time.time())
        if seen[-1] >= end:
            break
        time.sleep(pause)
        add(x=1, y=2)
    print(json.dumps(seen))


def wait_until_idle(context: zmq.Context[zmq.Socket[bytes]], function: str, last: str) -> str:
    """The session of the function's replica once it is idle. `last` is the one before."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if address := look_up(function):
            with context.socket(zmq.DEALER) as dealer:
                dealer.linger = 0
                dealer.reconnect_ivl = 2  # a replica has an address before it listens
                dealer.connect(f"tcp://{address}:{PORT}")
                while (pong := ping(dealer, function)) is not None:
                    if pong.state == "idle" and pong.session != last:
                        return pong.session
                    time.sleep(PROBE)
        time.sleep(LOOK)
    sys.exit(f"no replica of {function} is idle")


def ping(dealer: zmq.Socket[bytes], function: str) -> Pong | None:
    """The answer of who is there; None if nobody is."""
    dealer.send_multipart(encode(Ping(number=1, function=function)))
    if not dealer.poll(PROBE_PATIENCE_MS):
        return None
    pong = decode(dealer.recv_multipart())
    return pong if isinstance(pong, Pong) else None


def look_up(function: str) -> str:
    try:
        return socket.gethostbyname(function)
    except OSError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
