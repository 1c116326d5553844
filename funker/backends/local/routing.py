"""The way to the local router: calls, and questions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from funker.backends.local.state import StateDirectory
from funker.rpc.direct import max_body
from funker.rpc.errors import RouterUnavailable
from funker.rpc.keys import client_keys
from funker.rpc.messages import Pong
from funker.rpc.routed import Routed

#: Seconds between two questions for something that is about to be.
_POLL_S = 0.02


class LocalRouter(Routed):
    """Calls and questions over the router of one state directory.

    Nothing goes directly: a local replica listens where nobody but the router's looks for it.
    Raises `Unauthorized` for a key file that can't be used.
    """

    def __init__(self, state: StateDirectory) -> None:
        keys = client_keys({"FUNKER_KEY_FILE": str(state.client_key)})
        super().__init__(state.router_endpoint, keys=keys, max_body=max_body())

    def ping(self, function: str) -> Pong:
        """How the function's replicas are, as the router knows. Raises `RouterUnavailable`."""
        known = self.query("status")["functions"].get(function)
        if known is None:
            return Pong(number=0, function=function, state="absent")
        if known["failing"]:
            message = str(known["failing"])
            return Pong(number=0, function=function, state="failed", message=message)
        return Pong(number=0, function=function, state="idle" if known["free"] else "busy")


@contextlib.contextmanager
def asking(state: StateDirectory) -> Iterator[LocalRouter]:
    """A connection for as long as the context lasts."""
    router = LocalRouter(state)
    try:
        yield router
    finally:
        router.close()


def wait_for_router(state: StateDirectory, *, patience: float) -> None:
    """Returns when the router answers. Raises `RouterUnavailable` after so many seconds."""
    give_up = time.monotonic() + patience
    with asking(state) as router:
        while True:
            try:
                router.query("status")
            except RouterUnavailable:
                if time.monotonic() > give_up:
                    raise
            else:
                return


def wait_for_replica(state: StateDirectory, function: str, *, patience: float) -> None:
    """Returns when the router has heard of a replica of the function, or so many seconds later.

    A router that is away meanwhile will hear of it when it is back.
    """
    give_up = time.monotonic() + patience
    with asking(state) as router:
        while time.monotonic() < give_up:
            try:
                known = router.query("status")["functions"].get(function)
            except RouterUnavailable:
                continue
            if known and (known["free"] or known["busy"]):
                return
            time.sleep(_POLL_S)
