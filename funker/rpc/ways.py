"""The way of a call: through the router where there is one, directly to a replica else.

A call goes directly only if it certainly was with no router, or if the router itself says that it
can't reach the function: never because a key is wrong, and never once a router may have it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from funker.rpc.calls import patience
from funker.rpc.direct import Direct, max_body
from funker.rpc.keys import client_keys, router_address, router_wait
from funker.rpc.messages import Call, Error, Query, Reply, Result
from funker.rpc.routed import Routed
from funker.rpc.session import ROUTER_WAIT_S


class Ways:
    """The transport that prefers a router and does without. Thread-safe."""

    def __init__(self, routed: Routed, *, max_body: int) -> None:
        self._routed = routed
        self._max_body = max_body
        self._direct: Direct | None = None
        self._making = threading.Lock()

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """Make one call and wait for its outcome; both ways share its id, deadline and `cancel`.

        Raises `PayloadTooLarge` for a header that can't be sent.
        """
        started = time.monotonic()
        outcome = self._routed.run(call, cancel=cancel)
        if not (
            isinstance(outcome, Error)
            and outcome.code == "router_unavailable"
            and outcome.retry_safe
        ):
            return outcome
        left = round((started + patience(call) - time.monotonic()) * 1000)
        if left <= 0:
            return outcome
        return _both(outcome, self._other().run(call.replace(deadline_ms=left), cancel=cancel))

    def ask(self, query: Query) -> Reply:
        """The router's answer. Raises as `Routed.ask`."""
        return self._routed.ask(query)

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """What the router knows, as a JSON value. Raises as `Routed.query`."""
        return self._routed.query(what, function=function, id=id, limit=limit)

    def close(self) -> None:
        """Flush and close. Calls that are under way must have ended."""
        self._routed.close()
        if self._direct is not None:
            self._direct.close()

    def _other(self) -> Direct:
        with self._making:
            if self._direct is None:
                self._direct = Direct(max_body=self._max_body)
            return self._direct


def open_ways(environ: Mapping[str, str]) -> Ways | Direct:
    """The transport that an environment asks for: `Ways` where it names a router, else `Direct`.

    Raises `Unauthorized` for a key file that can't be used, and `FunkerError` for a setting.
    """
    if not (router := router_address(environ)):
        return Direct(max_body=max_body())
    routed = Routed(
        router,
        keys=client_keys(environ),
        max_body=max_body(),
        wait_s=router_wait(environ, ROUTER_WAIT_S),
    )
    return Ways(routed, max_body=max_body())


def _both(first: Error, second: Result | Error) -> Result | Error:
    """The second way's outcome; with what the first one said, where it's the reason."""
    if not isinstance(second, Error) or not second.retry_safe:
        return second
    if second.code == "function_not_found":
        # Perhaps it is only this caller who can't find it: the router would.
        return first.replace(
            message=f"{first.message}; and directly: {second.message}",
            hint="; ".join(filter(None, [first.hint, second.hint])),
        )
    if second.code == "deadline_exceeded":
        return second.replace(message=f"{second.message} (called directly: {first.message})")
    return second
