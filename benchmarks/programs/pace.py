"""Calls of a warm function, and bare round trips to a fresh ZeroMQ process, turn by turn.

    pace.py FUNCTION ECHO SAMPLES SETTLE

Both peers take one message each and end; before each measurement both are up again, and the
machine has had SETTLE seconds to calm down. Prints {"call_ms": [...], "round_trip_ms": [...]}.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable

import zmq

import funker
from funker.rpc.direct import Direct

PORT = 5570
#: Rounds before those that count: imports, page faults and caches of this process.
WARM = 3
#: Seconds for a peer to come back.
PATIENCE = 30.0


def main(function: str, echo: str, samples: int, settle: float) -> None:
    context = zmq.Context()
    direct = Direct()
    add = funker.function(function, deadline=PATIENCE)

    def wait_until_warm() -> None:
        until(lambda: direct.probe(function, patience=1.0).state == "idle")
        until(lambda: listens(echo))
        time.sleep(settle)

    calls, round_trips = [], []
    for _ in range(WARM + samples):
        wait_until_warm()
        began = time.perf_counter()
        round_trip(context, echo)
        round_trips.append((time.perf_counter() - began) * 1000)
        wait_until_warm()
        began = time.perf_counter()
        answer = add(x=1, y=2)
        calls.append((time.perf_counter() - began) * 1000)
        assert answer == 3
    print(json.dumps({"call_ms": calls[WARM:], "round_trip_ms": round_trips[WARM:]}))


def round_trip(context: zmq.Context[zmq.Socket[bytes]], host: str) -> None:
    """What the answer to anything costs at the least: a connection, a message, its answer."""
    dealer = context.socket(zmq.DEALER)
    dealer.connect(f"tcp://{host}:{PORT}")
    dealer.send_multipart([b"CALL", b"{}", b'{"x":1,"y":2}'])
    dealer.recv_multipart()
    dealer.close()


def listens(host: str) -> bool:
    try:
        socket.create_connection((host, PORT), 1.0).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            sys.exit("a peer doesn't come back")
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
