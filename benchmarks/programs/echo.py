"""One message over bare ZeroMQ, answered as it came; then the process ends, as a replica does."""

from __future__ import annotations

import zmq

context = zmq.Context()
router = context.socket(zmq.ROUTER)
router.bind("tcp://*:5570")
router.send_multipart(router.recv_multipart())
router.close(linger=1000)
context.term()
