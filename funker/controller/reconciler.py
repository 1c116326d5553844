"""The reconciler's process: it has the docker socket, and hears nobody but the router's answers.

A loop: see what functions there are, tell the router, hear what it knows, compare, act, and say
what changed. What to do is decided in `plan`; here are the backend, the connection and the clock.
An engine or a router that is away is a state like others: it is said once, and tried again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from funker.backends import open_fleet
from funker.backends.base import BackendError, Fleet
from funker.controller.link import Link, RouterSilent, open_link
from funker.controller.plan import Command, Plan, Revive, Say, snapshot
from funker.rpc.errors import FunkerError

#: Seconds between two looks when nothing tells of a change.
POLL = 2.0
#: Seconds to the next look while no router answers: a new one knows nothing until it is told.
POLL_SILENT = 0.5
#: Seconds between two looks at least: a stack of fifty services comes as fifty changes.
GAP = 0.2
#: Seconds until a backend that failed is asked again: at first, and at most.
RETRY, RETRY_MAX = 0.5, 4.0

T = TypeVar("T")


class Reconciler:
    """Keeps the router's knowledge and the functions' replicas as they shall be."""

    def __init__(self, fleet: Fleet, link: Link, *, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._link = link
        self._plan = Plan()
        self._engine = _Contact("the engine", say)
        self._router = _Contact("the router", say)
        self._say = say
        # A fleet is used from one thread at a time, and keeps a connection for each.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="funker-fleet")

    async def run(self) -> None:
        """Runs until it is cancelled."""
        delay = RETRY
        while True:
            started = time.monotonic()
            try:
                await self._round()
            except BackendError as error:
                self._engine.lost(error)
                await self._blocking(self._fleet.wait, delay)
                delay = min(delay * 2, RETRY_MAX)
            else:
                silent = self._router.is_lost
                await self._blocking(self._fleet.wait, POLL_SILENT if silent else POLL)
                delay = RETRY
            await asyncio.sleep(max(0.0, GAP - (time.monotonic() - started)))

    async def _round(self) -> None:
        """One look and what follows from it. Raises `BackendError`."""
        observed = await self._blocking(self._fleet.observe)
        self._engine.found()
        status = await self._report(snapshot(observed))
        for command in self._plan.decide(observed, status, time.monotonic()):
            await self._obey(command)

    async def _report(self, body: bytes) -> dict[str, Any] | None:
        try:
            status = await self._link.report(body)
        except RouterSilent as error:
            self._router.lost(error)
            return None
        self._router.found()
        return status

    async def _obey(self, command: Command) -> None:
        match command:
            case Say(text):
                self._say(text)
            case Revive(name):
                try:
                    follow = (
                        self._plan.revived(name)
                        if await self._blocking(self._fleet.revive, name)
                        else []
                    )
                except BackendError as error:  # of this function; an engine's is told elsewhere
                    follow = self._plan.not_revived(name, error.message)
                for command in follow:
                    await self._obey(command)

    async def _blocking(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class _Contact:
    """Whether somebody answers, said when that changes."""

    def __init__(self, who: str, say: Callable[[str], None]) -> None:
        self._who = who
        self._say = say
        self._trouble = ""

    @property
    def is_lost(self) -> bool:
        return bool(self._trouble)

    def lost(self, error: FunkerError) -> None:
        if error.message != self._trouble:
            self._say(f"{error.message}. {error.hint}" if error.hint else error.message)
        self._trouble = error.message

    def found(self) -> None:
        if self._trouble:
            self._say(f"{self._who} answers again")
        self._trouble = ""


def say(text: str) -> None:
    """One line of the log."""
    print(f"funker-reconciler: {' '.join(text.split())}", file=sys.stderr, flush=True)


async def _serve() -> None:
    try:
        reconciler = Reconciler(open_fleet(os.environ), open_link(os.environ), say=say)
    except FunkerError as error:
        say(f"{error.message}. {error.hint}" if error.hint else error.message)
        sys.exit(1)
    say("started")
    await reconciler.run()


def main() -> None:
    """The entry point `funker-reconciler`: see `open_fleet` and `open_link` for its settings."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # At once: an engine's answer may take a minute, and a thread that waits for it can't be
        # interrupted. There is nothing to lose: all that is known is in the engine.
        signal.signal(number, lambda *_: os._exit(0))
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
