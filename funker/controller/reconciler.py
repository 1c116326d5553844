"""The reconciler's process: it has the docker socket, and hears nobody but the router's answers.

A loop: see what functions there are, tell the router, hear what it knows, compare, act, and say
what changed. It goes round when the fleet has changed, when the router says that calls wait for
replicas (then without a look before), and now and then.
What to do is decided in `plan`; here are the backend, the connection and the clock.
An engine or a router that is away is a state like others: it is said once, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from funker.backends import open_fleet
from funker.backends.base import BackendError, Fleet
from funker.controller.commands import Command, Revive, Say, Scale
from funker.controller.link import Link, RouterSilent, open_link
from funker.controller.plan import Plan
from funker.rpc.errors import FunkerError

#: Seconds between two looks when nothing tells of a change.
POLL = 2.0
#: Seconds until the router is told and asked again while it doesn't answer, since a new one knows
#: nothing until it is told; and while calls wait for replicas, since more may be started by then.
POLL_BUSY = 0.5
#: Seconds between two looks at least: a stack of fifty services comes as fifty changes.
GAP = 0.2
#: Seconds until a backend that failed is asked again: at first, and at most.
RETRY, RETRY_MAX = 0.5, 2.0

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
        # A fleet is used from one thread at a time, and keeps a connection for each; another one
        # waits for changes.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="funker-fleet")
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="funker-watch")
        #: What has been heard since it was dealt with: a change, and figures of functions whose
        #: calls wait for replicas.
        self._changed = False
        self._demand: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._listen())
            tasks.create_task(self._work())

    async def _watch(self) -> None:
        """Tells of changes in the fleet, and now and then that there may be some."""
        while True:
            try:
                await self._in(self._watcher, self._fleet.wait, POLL)
            except BackendError:  # whether the engine answers is told by the look that follows
                await asyncio.sleep(RETRY)
            self._looked.clear()
            self._changed = True
            self._news.set()
            await self._looked.wait()

    async def _listen(self) -> None:
        """Tells of calls that wait."""
        while True:
            self._demand |= await self._link.demand()
            self._news.set()

    async def _work(self) -> None:
        """Deals with what is told and what is due, one after another."""
        look_at = 0.0
        ask_at, look_at_least, delay = math.inf, 0.0, RETRY
        while True:
            now = time.monotonic()
            if self._demand:
                demand, self._demand = self._demand, {}
                if await self._obey(self._plan.demanded(demand, now)):
                    ask_at = 0.0
            elif now >= look_at_least and (self._changed or now >= look_at):
                self._changed = False
                look_at_least = now + GAP
                try:
                    await self._look()
                    look_at, delay = math.inf, RETRY
                except BackendError as error:
                    self._engine.lost(error)
                    look_at, delay = time.monotonic() + delay, min(delay * 2, RETRY_MAX)
                ask_at = time.monotonic() + self._pause()
                self._looked.set()
            elif now >= ask_at:
                await self._ask()
                ask_at = time.monotonic() + self._pause()
            else:
                next_look = look_at_least if self._changed else look_at
                await self._until(min(max(next_look, look_at_least), ask_at))

    def _pause(self) -> float:
        """Seconds until the router is asked again, if nothing tells of a change."""
        return POLL_BUSY if self._router.is_lost or self._plan.is_short else POLL

    async def _until(self, moment: float) -> None:
        """Until there is something new, at the latest until then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + moment - time.monotonic()
            ):
                await self._news.wait()
        self._news.clear()

    async def _look(self) -> None:
        """One look and what follows from it. Raises `BackendError`."""
        observed = await self._in(self._thread, self._fleet.observe)
        self._engine.found()
        await self._ask(self._plan.see(observed, time.monotonic()))

    async def _ask(self, commands: Sequence[Command] = ()) -> None:
        """Tell the router what was seen last, and act on that and on what the router knows."""
        status = await self._report()
        if await self._obey([*commands, *self._plan.hear(status, time.monotonic())]):
            await self._report()

    async def _report(self) -> dict[str, Any] | None:
        try:
            status = await self._link.report(self._plan.snapshot(time.monotonic(), time.time()))
        except RouterSilent as error:
            self._router.lost(error)
            return None
        self._router.found()
        return status

    async def _obey(self, commands: Sequence[Command]) -> bool:
        """Whether a number of replicas was changed."""
        scaled = False
        for command in commands:
            match command:
                case Say(text):
                    self._say(text)
                case Scale(name, replicas):
                    scaled |= await self._scale(name, replicas)
                case Revive(name):
                    await self._revive(name)
        return scaled

    async def _scale(self, name: str, replicas: int) -> bool:
        try:
            await self._in(self._thread, self._fleet.scale, name, replicas)
        except FunkerError as error:
            self._plan.not_scaled(name, error.message, time.monotonic())
            return False
        self._plan.scaled(name, replicas, time.monotonic())
        return True

    async def _revive(self, name: str) -> None:
        try:
            revived = await self._in(self._thread, self._fleet.revive, name)
            follow = self._plan.revived(name) if revived else []
        except BackendError as error:  # of this function; an engine's is told elsewhere
            follow = self._plan.not_revived(name, error.message)
        await self._obey(follow)

    async def _in(
        self, thread: ThreadPoolExecutor, function: Callable[..., T], *arguments: object
    ) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


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
