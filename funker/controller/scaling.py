"""The numbers of replicas of all functions that are scaled by themselves. Pure.

`autoscaler` decides for one function by its figures; here is what was decided for each until now,
which of them may grow first, and what the operator is told of it: a change of a number, but not
each step of it; a limit that makes calls wait; that somebody else has changed the number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from funker.backends.base import Observed
from funker.controller import autoscaler, starts
from funker.controller.autoscaler import Decision, History, Stats
from funker.controller.commands import Command, Say, Scale
from funker.controller.starts import Growth

#: Seconds between two lines about a function's number that changes in the same direction.
SAY_GAP = 10.0
#: Seconds after which it is news again that somebody else has set a function's number.
SAY_HAND = 60.0
#: Seconds after which it is news again that a limit makes a function's calls wait.
SAY_LIMIT = 600.0
#: Seconds without any sign of a replica that can serve, before it counts that they fail. One that
#: serves one call is away for a moment after each.
FAILING = 5.0
#: Seconds before a number that couldn't be set is tried again: the first time, and at most.
RETRY, RETRY_MAX = 1.0, 60.0


class Scaling:
    """What was decided for each function, and from its figures what is next."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    @property
    def is_short(self) -> bool:
        """Whether calls wait for replicas that may be started."""
        return any(pool.is_scaled and pool.about.get("queued") for pool in self._pools.values())

    def see(self, function: Observed, now: float) -> list[Command]:
        """Take in what a function is like now."""
        pool = self._pools.get(function.name)
        if pool is None:
            self._pools[function.name] = _Pool(function, History(since=now))
            return []
        return pool.see(function, now)

    def expects(self, name: str) -> int | None:
        """The number that a function shall have by us. None: it isn't ours to choose."""
        pool = self._pools.get(name)
        return pool.number if pool is not None and pool.is_scaled else None

    def number(self, name: str) -> int:
        """How many replicas a function shall have, whoever chooses it."""
        return self._pools[name].seen.wanted

    def forget(self, name: str) -> None:
        del self._pools[name]

    def router_is_new(self, now: float) -> None:
        """It hasn't heard of the calls before it."""
        for pool in self._pools.values():
            pool.history.since = now

    def hear(self, about: Mapping[str, Mapping[str, Any]], now: float) -> list[Command]:
        """What to do after the router has told its figures of these functions."""
        for name in about.keys() & self._pools.keys():
            self._pools[name].hear(about[name], now)
        rooms = starts.room({name: pool.stats() for name, pool in self._pools.items()})
        for name in sorted(about.keys() & self._pools.keys()):
            pool = self._pools[name]
            if pool.is_scaled:
                pool.decide(rooms[name], now)
        self._share(max(rooms.values(), default=0))
        return [command for _, pool in sorted(self._pools.items()) for command in pool.next(now)]

    def done(self, name: str, replicas: int, now: float) -> None:
        """The number was set."""
        if (pool := self._pools.get(name)) is not None:
            pool.done(replicas, now)

    def failed(self, name: str, why: str, now: float) -> None:
        """The number couldn't be set."""
        if (pool := self._pools.get(name)) is not None:
            pool.failed(why, now)

    def trouble(self, name: str) -> str:
        """Why the number can't be set, or there shall be no replica; empty in good times."""
        pool = self._pools[name]
        if pool.is_scaled and (pool.history.resting or pool.history.trying):
            return pool.trouble or "its replicas end before they are ready: one is tried at times"
        return pool.trouble

    def told(self, name: str, now: float, unix: float) -> dict[str, Any] | None:
        """What the router is told of it; None: it isn't scaled by itself."""
        return self._pools[name].told(now, unix)

    def _share(self, room: int) -> None:
        """Of what may start, each that wants to grow gets its part."""
        growths = {
            name: Growth(pool.choice - pool.number, pool.stats().starting, not pool.number)
            for name, pool in self._pools.items()
            if pool.is_scaled and pool.choice > pool.number
        }
        if len(growths) < 2:
            return
        for name, more in starts.share(growths, room).items():
            self._pools[name].choice = self._pools[name].number + more


@dataclass(slots=True)
class _Pool:
    """One function."""

    seen: Observed
    history: History
    #: What the router told last.
    about: Mapping[str, Any] = field(default_factory=dict)
    #: How many replicas shall run, as far as it was set by us or is accepted; and are to run now.
    number: int = 0
    choice: int = 0
    decision: Decision | None = None
    #: Why it was chosen when it last changed, and when that was.
    reason: str = ""
    changed_at: float = 0.0
    #: When there was last a sign of a replica that can serve, and the calls that had ended by then.
    served_at: float = 0.0
    heard_at: float = 0.0
    ended: int = 0
    #: Why it can't be set, how long to wait then, and until when.
    trouble: str = ""
    delay: float = 0.0
    retry_at: float = 0.0
    #: The last number that was said, when, and whether it was more than the one before.
    said: int = 0
    said_at: float = float("-inf")
    said_up: bool = True
    said_failing: bool = False
    limit_said_at: dict[str, float] = field(default_factory=dict)
    hand_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.accept(self.seen, self.history.since)
        self.changed_at = self.served_at = self.history.since

    @property
    def is_scaled(self) -> bool:
        # Of a function whose replicas can't join, the router knows neither them nor its calls.
        return self.seen.scale is not None and not self.seen.pinned and self.seen.routed

    def accept(self, function: Observed, now: float) -> None:
        """Go on from the number that it has, as if it had been chosen now."""
        self.history.highest(function.wanted, now)
        self.number = self.choice = self.said = function.wanted
        self.decision = None
        self.reason = ""

    def see(self, function: Observed, now: float) -> list[Command]:
        before, self.seen = self.seen, function
        was_scaled = before.scale is not None and not before.pinned
        deployed = (function.image, function.scale, function.pinned, function.updating) != (
            before.image,
            before.scale,
            before.pinned,
            before.updating,
        )
        if deployed:
            self.history.since = self.served_at = now
            self.history.forgive()
        if function.wanted == self.number:
            return []
        if not (was_scaled and self.is_scaled):
            self.accept(function, now)
            return []
        assert function.scale is not None
        # A deploy tries its handler with one replica at least.
        if deployed or function.updating or function.wanted == max(1, function.scale.min):
            self.accept(function, now)
            self.history.since = now
            return []
        was_said, self.hand_at = now < self.hand_at + SAY_HAND, now
        if was_said:
            return []
        name, theirs = function.name, function.wanted
        return [
            Say(
                f"{name}: somebody has set its number of replicas to {theirs}, but it is scaled "
                f"by itself: back to {self.number}. `funker scale {name}={theirs}` pins a number"
            )
        ]

    def hear(self, about: Mapping[str, Any], now: float) -> None:
        """Take in what the router knows of it."""
        ended = int(about.get("calls") or 0)
        if any(about.get(name) for name in ("free", "busy", "inflight")) or ended != self.ended:
            self.served_at = now
        self.about, self.ended, self.heard_at = about, ended, now

    def stats(self, room: int = 0) -> Stats:
        """Its figures, as far as anybody has told any."""
        about, seen = self.about, self.seen
        ready = int(about.get("free") or 0) + int(about.get("busy") or 0)
        if not seen.routed:
            ready = seen.running
        fails = self.heard_at - self.served_at >= FAILING
        return Stats(
            wanted=self.number if self.is_scaled else seen.wanted,
            ready=ready,
            waiting=int(about.get("queued") or 0),
            inflight=int(about.get("inflight") or 0),
            arrivals=float(about.get("arrivals") or 0.0),
            arrivals_fast=float(about.get("arrivals_fast") or 0.0),
            service_s=about.get("service_s"),
            recycle_s=about.get("recycle_s"),
            last_call_s=about.get("last_call_s"),
            slots=max(1, int(about.get("slots") or 1)),
            one_shot=seen.isolation != "process",
            max_inflight=seen.calls.max_inflight,
            failing=fails and bool(about.get("failing") or seen.failing),
            ending=fails and bool(seen.failing) and not about.get("failing"),
            updating=seen.updating,
            cores=max(1, seen.cores),
            room=room,
        )

    def decide(self, room: int, now: float) -> None:
        assert self.seen.scale is not None
        before, self.decision = (
            self.decision,
            autoscaler.decide(self.stats(room), self.seen.scale, self.history, now),
        )
        self.choice = self.decision.wanted
        if before is None or (before.cause != self.decision.cause and self.choice == self.number):
            self.reason = self.decision.reason

    def next(self, now: float) -> list[Command]:
        """What to do and to say about it."""
        if not self.is_scaled or self.decision is None:
            return []
        commands: list[Command] = []
        if self.choice != self.seen.wanted and now >= self.retry_at:
            commands.append(Scale(self.seen.name, self.choice))
        up = self.number > self.said
        is_due = up != self.said_up or now >= self.said_at + SAY_GAP
        # That one is tried again and again is no news.
        is_news = self.decision.cause != "failing" or not self.said_failing
        if self.number != self.said and is_due and is_news:
            self.said_failing = self.decision.cause == "failing"
            commands.append(
                Say(f"{self.seen.name}: {self.said} → {self.number} replicas: {self.reason}")
            )
            self.said, self.said_at, self.said_up = self.number, now, up
        limit = self.decision.limit
        if limit and now >= self.limit_said_at.get(limit, float("-inf")) + SAY_LIMIT:
            commands.append(Say(f"{self.seen.name} is saturated: {self.decision.saturated}"))
        if limit:
            self.limit_said_at[limit] = now
        return commands

    def done(self, replicas: int, now: float) -> None:
        self.seen = dataclasses.replace(self.seen, wanted=replicas)
        if replicas != self.number:
            self.number, self.changed_at = replicas, now
            self.reason = self.decision.reason if self.decision else ""
        self.trouble, self.delay = "", 0.0

    def failed(self, why: str, now: float) -> None:
        self.trouble = f"its number of replicas can't be set: {why}"
        self.delay = min(max(RETRY, 2 * self.delay), RETRY_MAX)
        self.retry_at = now + self.delay

    def told(self, now: float, unix: float) -> dict[str, Any] | None:
        policy = self.seen.scale
        if policy is None:
            return None
        decision = self.decision
        return {
            "min": policy.min,
            "max": policy.max,
            "pinned": self.seen.pinned,
            "wanted": self.choice if self.is_scaled else self.seen.wanted,
            "reason": f"pinned at {self.seen.wanted}" if self.seen.pinned else self.reason,
            "at": round(unix - (now - self.changed_at), 3),
            "saturated": decision.saturated if decision and self.is_scaled else "",
        }
