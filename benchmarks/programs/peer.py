"""Answers one message that the forwarder hands it, as it came; then the process ends.

    peer.py [PEERS]

PEERS is the forwarder's endpoint, else its port 5572 on FUNKER_ROUTER's host.
"""

from __future__ import annotations

import os
import sys

import zmq

from funker.rpc.keys import client_keys, secure

if sys.argv[1:]:
    endpoint = sys.argv[1]
else:
    endpoint = f"tcp://{os.environ['FUNKER_ROUTER'].partition(':')[0]}:5572"
context = zmq.Context()
dealer = context.socket(zmq.DEALER)
secure(dealer, client_keys(os.environ))
dealer.connect(endpoint)
dealer.send(b"")
dealer.send_multipart(dealer.recv_multipart())
dealer.close(linger=1000)
context.term()
