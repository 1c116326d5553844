"""Ports for what tests start themselves: those that run side by side never take one another's.

A replica gives its port up and takes it again, so that nobody else may have it meanwhile: not the
kernel for an outgoing connection (all are below its range), nor another process with tests (each
has a block of its own), nor another test of this one (they go round).
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _BLOCK, _BLOCKS = 17_000, 1_900, 8

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _BLOCKS
_block = range(_FIRST + _worker * _BLOCK, _FIRST + (_worker + 1) * _BLOCK)
_begin = os.getpid() * 7 % _BLOCK  # another run of the tests may be under way on the machine
_ports = itertools.cycle([*_block[_begin:], *_block[:_begin]])


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    for port in _ports:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError
