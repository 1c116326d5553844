"""The router without Docker: calls and questions to an address that it is known by."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from funker.cli.failures import UsageError

if TYPE_CHECKING:
    from funker.rpc.client import Transport

#: Seconds for an answer to a question.
_PATIENCE = 3.0


def address(told: str | None) -> str:
    """The address in `--router` or FUNKER_ROUTER; empty: the way is the backend's to find.

    Raises UsageError for what is none.
    """
    if not told or told == "direct":
        return ""
    from funker.rpc.keys import router_address

    if "://" in told:
        return told
    return checked(router_address({"FUNKER_ROUTER": told}), "--router")


def checked(text: str, flag: str) -> str:
    """An address whose port, if it has one, is a port. Raises UsageError."""
    _, colon, port = text.rpartition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{flag}: {text!r} has no port number", hint="Write HOST:PORT.")
    return text


@contextlib.contextmanager
def transport(address: str) -> Iterator[Transport]:
    """Calls through the router there. Raises `Unauthorized` for a key file that is none."""
    from funker.rpc.direct import max_body
    from funker.rpc.keys import client_keys
    from funker.rpc.routed import Routed

    way = Routed(address, keys=client_keys(os.environ), max_body=max_body())
    try:
        yield way
    finally:
        way.close()


class Router:
    """A `Controller` at an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """The answer's JSON value. Raises `RouterUnavailable` and `Unauthorized`."""
        import zmq

        from funker.rpc.errors import RouterUnavailable
        from funker.rpc.keys import client_keys, secure
        from funker.rpc.messages import Query, Reply, decode, encode

        asked = Query(number=1, what=what, function=function, id=id, limit=limit)
        endpoint = self._address if "://" in self._address else f"tcp://{self._address}"
        with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
            sock.setsockopt(zmq.LINGER, 0)
            secure(sock, client_keys(os.environ))
            sock.connect(endpoint)
            sock.send_multipart(encode(asked))
            if sock.poll(int(_PATIENCE * 1000)):
                reply = decode(sock.recv_multipart())
                if isinstance(reply, Reply) and reply.body is not None:
                    return json.loads(reply.body)
                raise RouterUnavailable(f"the router at {self._address} answered {reply!r}")
        raise RouterUnavailable(
            f"no router answers at {self._address}",
            hint="Check the address, and FUNKER_KEY_FILE: without the right key nothing answers.",
        )
