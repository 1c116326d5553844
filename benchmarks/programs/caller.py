"""Makes a call whenever it is told to, over a connection that stays.

    caller.py call FUNCTION
    caller.py bare

Each line on stdin asks for one; the answer is a line with its milliseconds. `call` is a call of
the function, `bare` a message to the forwarder and back. FUNKER_ROUTER says where either is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import zmq

import funker
from funker.rpc.keys import client_keys, secure

#: Milliseconds for an answer over the bare connection: longer than a replica takes to come back.
PATIENCE_MS = 30_000
MESSAGE = [b"CALL", b"{}", b'{"x":1,"y":2}']


def calls(function: str) -> Callable[[], None]:
    def call() -> None:
        answer = funker.call(function, x=1, y=2)
        if answer != 3:
            raise ValueError(f"{function} says {answer!r}")

    return call


def bare() -> Callable[[], None]:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.rcvtimeo = PATIENCE_MS
    secure(dealer, client_keys(os.environ))
    address = os.environ["FUNKER_ROUTER"]
    dealer.connect(address if "://" in address else f"tcp://{address}")

    def round_trip() -> None:
        dealer.send_multipart(MESSAGE)
        if dealer.recv_multipart() != MESSAGE:
            raise ValueError("another message came back")

    return round_trip


def main(kind: str, function: str = "") -> None:
    once = calls(function) if kind == "call" else bare()
    for _ in sys.stdin:
        began = time.perf_counter()
        once()
        print((time.perf_counter() - began) * 1000, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
