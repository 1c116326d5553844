"""Who may speak to the router (ZAP, RFC 27): for each of its sockets, whose keys it knows.

Callers and replicas share one key pair. The reconciler speaks on a socket of its own, and proves
itself with the router's: whoever has that could be the router anyway. (Keys for each function,
and for callers apart from replicas, would be further entries here.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import zmq
from zmq.utils import z85

from funker.rpc.errors import FunkerError, Unauthorized
from funker.rpc.keys import read

#: Where swarm puts the router's own secret.
KEY_FILE = "/run/secrets/funker-router-key"
#: ZAP's names for the two sockets.
PUBLIC_DOMAIN, CONTROL_DOMAIN = b"funker", b"funker-control"


class RouterKeys(NamedTuple):
    """The router's own pair, and the public keys of callers and replicas."""

    public: bytes
    secret: bytes
    allowed: frozenset[bytes]


class Doorman:
    """Answers ZeroMQ's question who may come in."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: RouterKeys) -> None:
        self._allowed: Mapping[bytes, frozenset[bytes]] = {
            PUBLIC_DOMAIN: keys.allowed,
            CONTROL_DOMAIN: frozenset([keys.public]),
        }
        self.socket = context.socket(zmq.REP)
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        """Answer all that have asked."""
        while self.socket.poll(0):
            self._answer_one()

    def _answer_one(self) -> None:
        version, number, domain, _address, _identity, mechanism, *credentials = (
            self.socket.recv_multipart()
        )
        allowed = self._allowed.get(domain, frozenset())
        known = mechanism == b"CURVE" and z85.encode(credentials[0]) in allowed
        status = [b"200", b"OK", b"client"] if known else [b"400", b"unknown key", b""]
        self.socket.send_multipart([version, number, *status, b""])


def router_keys(path: str) -> RouterKeys:
    """The keys in the router's secret. Raises `FunkerError`."""
    names = ("ROUTER_PUBLIC", "ROUTER_SECRET", "CLIENT_PUBLIC")
    try:
        fields = read(path, *names)
    except Unauthorized as error:
        raise FunkerError(
            f"no router key in {path}: {error}",
            hint="`funker up` makes it. For tests alone: FUNKER_INSECURE=1.",
        ) from None
    public, secret, client = (fields[name].encode() for name in names)
    return RouterKeys(public, secret, frozenset([client]))
