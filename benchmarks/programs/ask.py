"""Asks the router, which FUNKER_ROUTER names, what it knows, and prints what it replies.

ask.py status
ask.py calls FUNCTION LIMIT
"""

from __future__ import annotations

import os
import sys

import zmq

from funker.rpc.keys import client_keys, secure
from funker.rpc.messages import Query, Reply, decode, encode

PATIENCE_MS = 10_000


def main(what: str, function: str = "", limit: str = "0") -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.rcvtimeo = PATIENCE_MS
    secure(dealer, client_keys(os.environ))
    dealer.connect(f"tcp://{os.environ['FUNKER_ROUTER']}")
    query = Query(number=1, what=what, function=function, limit=int(limit))
    dealer.send_multipart(encode(query))
    reply = decode(dealer.recv_multipart())
    assert isinstance(reply, Reply)
    print((reply.body or b"").decode())
    dealer.close(linger=0)
    context.term()


if __name__ == "__main__":
    main(*sys.argv[1:])
