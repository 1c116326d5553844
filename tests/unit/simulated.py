"""What the simulations of this directory share: a clock with chance, and a replica's workers."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

from funker.rpc.messages import Call, Message
from funker_runtime import events as served
from funker_runtime.replica import Replica


class Time:
    """A clock that jumps from one thing that happens to the next, and chance from one seed."""

    def __init__(self, seed: int, *, trouble: float) -> None:
        self.random = random.Random(seed)
        #: From 0 to 1: how much goes wrong.
        self.trouble = trouble
        self.now = 0.0
        self.schedule: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.schedule, (self.now + seconds, next(self.order), then))

    def strikes(self, weight: float = 1.0) -> bool:
        """Whether this goes wrong now."""
        return self.random.random() < self.trouble * weight


class SimulatedMachine:
    """A replica's own state machine, with the workers of its slots.

    Who derives from it gives it connections, calls to handle, and an end.
    """

    def __init__(self, time: Time, identity: served.Identity) -> None:
        self.time = time
        self.alive = True
        self._slots = time.random.choice([0, 0, 1, 3])  # 0: one call in all
        self.machine = Replica(
            identity,
            timeout=2.0,
            max_body=100,
            now=time.now,
            slots=self._slots or 1,
            once=not self._slots,
        )
        # Which of a slot's workers is there now; 0: none.
        self._workers = Counter[int]()
        self._births = itertools.count(1)
        self._wake_at = float("inf")

    def feed(self, event: served.Event) -> None:
        if not self.alive:
            return
        for action in self.machine.on(event, self.time.now):
            if self.alive:
                self._do(action)
        if self.alive and (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.time.after(max(due - self.time.now, 0), self._tick)

    def load(self, slot: int) -> None:
        """A new worker of this slot has loaded the handler."""
        self._workers[slot] = next(self._births)
        self.feed(served.Loaded(slot))

    def later(self, seconds: float, event: served.Answered | served.Raised | served.Died) -> None:
        """What a worker does, if it is still that slot's then."""
        slot, worker = event.slot, self._workers[event.slot]

        def happens() -> None:
            if self._workers[slot] != worker or not self.alive:
                return
            self._over(slot)
            if isinstance(event, served.Died):
                self._workers[slot] = 0
                if self._slots:
                    late = 3.0 if self.time.strikes(0.1) else 0.001
                    self.time.after(late, lambda: self.load(slot))
            self.feed(event)

        self.time.after(seconds, happens)

    def _tick(self) -> None:
        self._wake_at = float("inf")
        self.feed(served.Tick())

    def _do(self, action: served.Action) -> None:
        match action:
            case served.Send(peer, message):
                if not self._send(peer, message):
                    self.feed(served.Gone(peer))
            case served.Start(call, slot):
                assert self._workers[slot], "it was given to nobody"
                self._handle(call, slot)
            case served.Kill(slot):
                self.later(0.002, served.Died("was killed", "", slot))
            case served.Relink():
                self._relink()
            case served.Exit():
                self._end(flushed=True)

    # Who derives says

    def _send(self, peer: bytes, message: Message) -> bool:
        """Whether there is a connection to this peer."""
        raise NotImplementedError

    def _relink(self) -> None:
        """Dial the router anew."""

    def _handle(self, call: Call, slot: int) -> None:
        """What this slot's worker will do with a call: by `later`."""
        raise NotImplementedError

    def _over(self, slot: int) -> None:
        """A worker has done something: no call runs in this slot any more."""

    def _end(self, *, flushed: bool) -> None:
        """The process ends, with or without sending what it has said."""
        raise NotImplementedError
