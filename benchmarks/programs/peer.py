"""Answers one message that the forwarder hands it, as it came; then the process ends."""

from __future__ import annotations

import os

import zmq

from funker.rpc.keys import client_keys, secure

host = os.environ["FUNKER_ROUTER"].partition(":")[0]
context = zmq.Context()
dealer = context.socket(zmq.DEALER)
secure(dealer, client_keys(os.environ))
dealer.connect(f"tcp://{host}:5572")
dealer.send(b"")
dealer.send_multipart(dealer.recv_multipart())
dealer.close(linger=1000)
context.term()
