"""The way to the local router: calls, and questions."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import zmq

from funker.backends.base import Transport
from funker.backends.local.state import StateDirectory
from funker.rpc.errors import RouterUnavailable, Unauthorized
from funker.rpc.keys import Keys, client_keys, secure
from funker.rpc.messages import Pong, Query, Reply, decode, encode
from funker.rpc.routed import Routed

#: Seconds for which a router is waited for, and between two questions.
PATIENCE_S, POLL_S = 3.0, 0.02


class _Routed(Routed):
    def __init__(self, state: StateDirectory) -> None:
        super().__init__(state.router_endpoint, keys=_keys(state))
        self._state = state

    def ping(self, function: str) -> Pong:
        with asking(self._state) as controller:
            known = controller.query("status")["functions"].get(function)
        state = "absent" if known is None else "idle" if known["free"] else "busy"
        return Pong(number=0, function=function, state=state)


def transport(state: StateDirectory) -> Transport:
    """Raises `Unauthorized` without a key."""
    return _Routed(state)


class Questions:
    """Asks the router (`base.Controller`)."""

    def __init__(self, sock: zmq.Socket[bytes], patience: float) -> None:
        self._socket = sock
        self._patience = patience

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """Raises `RouterUnavailable`."""
        number = secrets.randbits(31)
        query = Query(number=number, what=what, function=function, id=id, limit=limit)
        self._socket.send_multipart(encode(query))
        give_up = time.monotonic() + self._patience
        while self._socket.poll(max(0, int((give_up - time.monotonic()) * 1000))):
            reply = decode(self._socket.recv_multipart())
            if isinstance(reply, Reply) and reply.number == number:
                return json.loads(reply.body or b"null")
        raise RouterUnavailable("the local router doesn't answer", retry_safe=True)


@contextlib.contextmanager
def asking(state: StateDirectory, *, patience: float = PATIENCE_S) -> Iterator[Questions]:
    """A way to ask for as long as the context lasts."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        sock = context.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RECONNECT_IVL, 10)
        secure(sock, _keys(state))
        sock.connect(state.router_endpoint)
        yield Questions(sock, patience)
    finally:
        context.destroy(linger=0)


def wait_for(state: StateDirectory, function: str, *, patience: float) -> None:
    """Returns when the router has heard of a replica of the function."""
    give_up = time.monotonic() + patience
    with asking(state) as questions:
        while time.monotonic() < give_up:
            known = questions.query("status")["functions"].get(function)
            if known and (known["free"] or known["busy"]):
                return
            time.sleep(POLL_S)


def _keys(state: StateDirectory) -> Keys:
    keys = client_keys({"FUNKER_KEY_FILE": str(state.client_key)})
    if keys is None:
        raise Unauthorized(f"{state.client_key} is gone", hint="`funker up --backend local`")
    return keys
