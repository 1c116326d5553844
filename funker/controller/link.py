"""The reconciler's connection to the router: what it sees goes out, what the router knows comes in.

It goes to the router's control socket, which hears those alone who have the router's own key.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import Mapping
from typing import Any, cast

import zmq
import zmq.asyncio

from funker.controller.doorman import KEY_FILE, router_keys
from funker.rpc.errors import FunkerError, ProtocolError
from funker.rpc.keys import CONTROL_PORT, ROUTER_NAME, Keys, secure
from funker.rpc.messages import MAX_BODY, Demand, Error, Message, Reply, Snapshot, decode, encode
from funker.rpc.sockets import guard

#: Seconds for an answer, the time for connecting included. The router answers within a
#: millisecond; but a name may have to be looked up, and a handshake be made.
TIMEOUT = 2.0
#: Milliseconds before a failed connection is tried again: at first, and at most.
_RECONNECT_MS, _RECONNECT_MAX_MS = 10, 250


class RouterSilent(FunkerError):
    """Raised when the router doesn't answer, or answers what is no status."""


class Link:
    """One connection, made anew after each answer that didn't come."""

    def __init__(self, address: str, keys: Keys | None) -> None:
        """`address` is HOST:PORT, or a ZeroMQ endpoint. Without `keys`: for tests alone."""
        self.address = address
        self._endpoint = address if "://" in address else f"tcp://{address}"
        self._keys = keys
        self._numbers = itertools.count(1)
        self._context = zmq.asyncio.Context()
        self._socket = self._dial()
        self._reader: asyncio.Task[None] | None = None
        #: The question that is open, and its answer.
        self._asked: tuple[int, asyncio.Future[dict[str, Any]]] | None = None
        self._demand: dict[str, dict[str, Any]] = {}
        self._demanded = asyncio.Event()

    async def report(self, body: bytes) -> dict[str, Any]:
        """Send a snapshot; the router's status. Raises `RouterSilent`. One at a time."""
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked = (number, answer)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._socket.send_multipart(encode(Snapshot(number=number, body=body)))
                return await answer
        except TimeoutError:
            # It may be another router by now, at another address.
            await self._hang_up()
            self._socket = self._dial()
            raise RouterSilent(
                f"no router answers at {self.address}: it is down, or its key is another one"
            ) from None
        finally:
            self._asked = None

    async def demand(self) -> dict[str, dict[str, Any]]:
        """The next functions for which the router wants replicas at once: their status."""
        await self._demanded.wait()
        self._demanded.clear()
        demand, self._demand = self._demand, {}
        return demand

    async def close(self) -> None:
        await self._hang_up()
        self._context.term()

    async def _hang_up(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        self._socket.close(linger=0)

    async def _read(self) -> None:
        """Takes in all that comes, until it is cancelled."""
        while True:
            try:
                self._heard(decode(await self._socket.recv_multipart()))
            except (ProtocolError, ValueError) as error:
                self._refused(f"the router answers what can't be read: {error}")

    def _heard(self, message: Message) -> None:
        """Raises `ProtocolError` or `ValueError` for what isn't a status."""
        match message:
            case Reply(number=number, body=body):
                if self._asked is None or number != self._asked[0] or self._asked[1].done():
                    return  # it comes too late
                status = json.loads(body or b"")
                if isinstance(status, dict):
                    self._asked[1].set_result(status)
                else:
                    self._refused("the router answers what is no status")
            case Demand(body=body):
                self._demand |= json.loads(body or b"{}")["functions"]
                self._demanded.set()
            case Error(message=said):
                self._refused(f"the router refuses: {said}")

    def _refused(self, why: str) -> None:
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_exception(RouterSilent(why))

    def _dial(self) -> zmq.asyncio.Socket:
        dealer = self._context.socket(zmq.DEALER)
        # Nothing is kept for a router that isn't there: a snapshot of a minute ago is none.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        plain = cast("zmq.Socket[bytes]", dealer)  # options are set alike
        guard(plain, MAX_BODY)
        secure(plain, self._keys)
        dealer.connect(self._endpoint)
        return dealer


def open_link(environ: Mapping[str, str] = os.environ) -> Link:
    """The way to the router that the environment tells.

    FUNKER_CONTROL is its control socket (default: `funker-router:5572`), FUNKER_ROUTER_KEY_FILE
    the router's secret; with FUNKER_INSECURE=1, for tests alone, there are no keys. Raises
    `FunkerError`.
    """
    address = environ.get("FUNKER_CONTROL") or f"{ROUTER_NAME}:{CONTROL_PORT}"
    keys = None
    if environ.get("FUNKER_INSECURE") != "1":
        own = router_keys(environ.get("FUNKER_ROUTER_KEY_FILE") or KEY_FILE)
        keys = Keys(router=own.public, public=own.public, secret=own.secret)
    try:
        return Link(address, keys)
    except zmq.ZMQError as error:
        raise FunkerError(
            f"{address} is no address: {error}", hint="Set FUNKER_CONTROL to HOST:PORT."
        ) from None
