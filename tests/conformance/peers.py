"""The callers and routers of one test, and what its fixtures are."""

from __future__ import annotations

from collections.abc import Callable

import zmq

from tests.conformance.replica import Replica
from tests.conformance.wire import Caller, Router

#: Starts a replica: start(FUNKER_TIMEOUT="1s", …).
Start = Callable[..., Replica]
#: Connects another caller: dial(replica).
Dial = Callable[[Replica], Caller]
#: Starts a replica with a router: routed(FUNKER_TIMEOUT="1s", …).
Routed = Callable[..., tuple[Replica, Router]]


class Peers:
    """The callers and routers of one test."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[Caller | Router] = []

    def caller(self, replica: Replica) -> Caller:
        caller = Caller(self._context, replica)
        self._made.append(caller)
        return caller

    def router(self, *, keys: tuple[bytes, bytes] | None = None, port: int = 0) -> Router:
        router = Router(self._context, keys=keys, port=port)
        self._made.append(router)
        return router

    def close(self) -> None:
        for one in self._made:
            one.close()
        self._context.term()
