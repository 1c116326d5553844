"""How many replicas a function shall have. Pure: measurements in, a number and its reason out.

- Load (Little 1961, L = λW): calls that arrive λ times a second and take a replica away for S
  seconds of work and, if it serves one call, R seconds until the next is there, keep
  a = λ·(S + R) replicas away on average. λ is the larger one of a fast and a slow window (6 s and
  60 s, as Knative's panic and stable windows).
- Square-root staffing (Halfin & Whitt 1981): arrivals come in clumps of about √a, so a + k·√a are
  kept. k is the policy's `headroom`.
- Never fewer than what runs and waits; always within [min, max].
- Up at once, but no more start at a time than the engine can: about 4 for each core. More of them
  start no sooner, and each has to be taken away again.
- Down slowly: to the largest target of the last 60 s. To zero, if `min` is 0, only after `idle`
  seconds without a call, and then whatever the target was.
- A function whose replicas can't serve gets no more of them, and after it has come round, more
  only after a time that doubles each time it fails again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

#: Replicas that start at a time, for each core. An engine's starts are bound by its CPU: at about
#: this many its rate is the highest, and more only wait for one another.
STARTS_PER_CORE = 4
#: Seconds for which a target is kept after it was the largest.
WINDOW = 60.0
#: Seconds without growth after a function could not serve: the first time, and at most.
BACKOFF, BACKOFF_MAX = 5.0, 60.0
#: S and R in seconds while nobody has measured them.
SERVICE, RECYCLE = 1.0, 1.0
#: Seconds for which calls wait in vain before that is called saturated, seconds without it after
#: which it is over, and seconds that it may pause meanwhile.
SHORT, RELIEF, PAUSE = 5.0, 10.0, 2.0
#: Share of the starts that an engine can have at a time from which it counts as busy with them.
_CHURN = 0.75


#: What a number of replicas was chosen by: the calls that run and wait; the load; the policy's
#: minimum and maximum; a larger target a moment ago; nobody calling; the handler's failing.
Cause = Literal["calls", "load", "min", "max", "held", "idle", "failing"]


class Policy(Protocol):
    """A `spec.ScalePolicy`."""

    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def idle(self) -> float: ...
    @property
    def headroom(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What was measured of one function. Rates are calls per second, times are seconds."""

    #: Replicas that shall run, and that are there: free or busy. The others are starting.
    wanted: int
    ready: int
    waiting: int = 0
    inflight: int = 0
    #: λ of the slow window and of the fast one.
    arrivals: float = 0.0
    arrivals_fast: float = 0.0
    #: S and R; None: not measured yet.
    service_s: float | None = None
    recycle_s: float | None = None
    #: Since the last call arrived. None: none has.
    last_call_s: float | None = None
    #: Calls that one replica takes at a time, and whether it serves one call only.
    slots: int = 1
    one_shot: bool = True
    #: Calls that may run at once. None: any number.
    max_inflight: int | None = None
    #: Whether its replicas can't serve, and whether they are being replaced by a new version.
    failing: bool = False
    updating: bool = False
    #: Cores where its replicas may run.
    cores: int = 1
    #: Replicas that may be started now, beside those of all functions that are starting.
    room: int = 1

    @property
    def starting(self) -> int:
        return max(0, self.wanted - self.ready)

    @property
    def rate(self) -> float:
        """λ."""
        return max(self.arrivals, self.arrivals_fast)


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas shall run, why, and what keeps it from being enough."""

    wanted: int
    cause: Cause
    #: In plain words, with the figures.
    reason: str
    #: Why calls wait although it was scaled as far as it goes, and what helps. Empty: they don't.
    saturated: str = ""
    #: Which limit that is.
    limit: Literal["", "engine", "max"] = ""


@dataclass(slots=True)
class Memory:
    """What `decide` remembers of one function. Times are seconds on one monotonic clock."""

    #: When it was first seen or last deployed: nobody is idle before.
    since: float
    #: When calls last ran or waited.
    used_at: float = -math.inf
    #: Targets of the window, each smaller than the one before: the first is the largest.
    targets: deque[tuple[float, int]] = field(default_factory=deque)
    #: The last failure, the time without growth that it brought, and when that is over.
    failed_at: float = -math.inf
    backoff: float = 0.0
    again_at: float = -math.inf
    #: Which limit makes calls wait, since when, and when it last did.
    limit: Literal["", "engine", "max"] = ""
    short_since: float = 0.0
    short_at: float = -math.inf

    def highest(self, target: int, now: float) -> int:
        """The largest target of the window, this one included."""
        while self.targets and self.targets[0][0] < now - WINDOW:
            self.targets.popleft()
        while self.targets and self.targets[-1][1] <= target:
            self.targets.pop()
        self.targets.append((now, target))
        return self.targets[0][1]


def decide(stats: Stats, policy: Policy, memory: Memory, now: float) -> Decision:
    """How many replicas the function shall have from now on. `now` never goes back."""
    if stats.waiting or stats.inflight:
        memory.used_at = now
    if not memory.targets:
        memory.targets.append((now, stats.wanted))
    uncapped, cause, reason = _target(stats, policy)
    target = min(uncapped, policy.max)
    # What the reconciler hasn't seen itself, it hears: another one may have run until now.
    heard = math.inf if stats.last_call_s is None else stats.last_call_s
    quiet = min(now - max(memory.used_at, memory.since), heard)
    if not policy.min and not target and stats.wanted and quiet < policy.idle:
        target, cause, reason = 1, "held", f"kept until nobody has called for {policy.idle:g} s"
    elif not policy.min and quiet >= policy.idle:
        memory.targets.clear()
        target, cause, reason = 0, "idle", f"nobody has called for {policy.idle:g} s"
    highest = memory.highest(target, now)
    _note_failure(stats, memory, now)
    wanted = target
    if stats.failing and target:
        # Those of an older version may serve until an update is over.
        at_most = stats.wanted if stats.updating else math.ceil(stats.inflight / stats.slots)
        at_most = min(max(1, policy.min, at_most), policy.max)
        wanted, cause = min(max(1, stats.wanted), at_most), "failing"
        reason = "its replicas can't serve"
    elif target > stats.wanted:
        more = max(stats.room if now >= memory.again_at else 0, int(not stats.wanted))
        wanted = min(target, stats.wanted + more)
        if wanted < target:
            reason = f"{reason}, as its replicas start"
        if now < memory.again_at:
            cause, reason = "failing", f"it couldn't serve until a moment ago; {reason}"
    elif target < stats.wanted and cause != "idle":
        wanted = max(min(highest, stats.wanted), target)
        if stats.updating:  # those that leave may be the only ones that can serve
            wanted = stats.wanted
        wanted = min(wanted, policy.max)
        if wanted > target:
            cause, reason = "held", f"{target} are enough for now: {reason}"
    if wanted == policy.max < uncapped and cause != "failing":
        cause, reason = "max", f"its maximum is {policy.max}; {reason}"
    limit = _limit(stats, policy, wanted, target, memory, now)
    return Decision(wanted, cause, reason, _words(limit, stats, policy), limit)


@dataclass(frozen=True, slots=True)
class Growth:
    """A function that shall get more replicas, and how many of it are starting already."""

    more: int
    starting: int
    #: Whether it has none at all: its first one is never made to wait for other functions.
    is_first: bool = False


def room(functions: Mapping[str, Stats]) -> dict[str, int]:
    """How many more replicas of each function may be started now.

    Those that can't serve aren't counted: they may be starting for ever.
    """
    busy = sum(stats.starting for stats in functions.values() if not stats.failing)
    cores = max((stats.cores for stats in functions.values()), default=1)
    left = STARTS_PER_CORE * cores - busy
    return {
        name: max(0, min(left, STARTS_PER_CORE * stats.cores - stats.starting))
        for name, stats in functions.items()
    }


def share(growths: Mapping[str, Growth], room: int) -> dict[str, int]:
    """How many replicas to start of each of these functions: no more than `room` in all.

    One after another goes to whoever has the fewest starting, so that a function that needs a
    hundred doesn't keep out the one that needs two.
    """
    given = {name: int(growth.is_first and growth.more > 0) for name, growth in growths.items()}
    left = room - sum(given.values())
    level = 0
    hungry = {name for name, growth in growths.items() if growth.more > given[name]}
    while left > 0 and hungry:
        level = min(growths[name].starting + given[name] for name in hungry)
        for name in sorted(hungry):
            if left and growths[name].starting + given[name] == level:
                given[name] += 1
                left -= 1
                if given[name] == growths[name].more:
                    hungry.discard(name)
    return given


def _target(stats: Stats, policy: Policy) -> tuple[int, Cause, str]:
    """What the load, the calls and the minimum ask for."""
    rate = stats.rate
    service = SERVICE if stats.service_s is None else stats.service_s
    recycle = (RECYCLE if stats.recycle_s is None else stats.recycle_s) if stats.one_shot else 0.0
    runnable = stats.inflight + stats.waiting
    if stats.max_inflight is not None:
        runnable = max(stats.inflight, min(runnable, stats.max_inflight))
        rate = min(rate, stats.max_inflight / service) if service else rate
    load = rate * (service + recycle)
    if stats.service_s is None:  # no call has ended yet: what runs is all that is known
        load = max(load, float(stats.inflight)) if rate else load
    staffed = math.ceil(round((load + policy.headroom * math.sqrt(load)) / stats.slots, 6))
    needed = math.ceil(runnable / stats.slots)
    target = max(staffed, needed)
    is_plain = needed > staffed or (needed == staffed and stats.waiting)
    cause: Cause = "calls" if is_plain else "load"
    reason = _load_words(rate, service, recycle, load, stats, policy, staffed)
    if cause == "calls":
        reason = _calls_words(stats)
    if target < policy.min:
        return policy.min, "min", f"its minimum is {policy.min}"
    return target, cause, reason


def _load_words(
    rate: float,
    service: float,
    recycle: float,
    load: float,
    stats: Stats,
    policy: Policy,
    staffed: int,
) -> str:
    if not rate:
        return "nobody calls"
    slots = f", {stats.slots} calls at a time in each" if stats.slots > 1 else ""
    return (
        f"λ {rate:.2g}/s · (S {service:.2g} s + R {recycle:.2g} s) = a {load:.2g}, "
        f"a + {policy.headroom:g}·√a → {staffed}{slots}"
    )


def _calls_words(stats: Stats) -> str:
    run = f"{stats.inflight} call{' runs' if stats.inflight == 1 else 's run'}"
    if not stats.waiting:
        return run
    if stats.inflight:
        return f"{run} and {stats.waiting} wait{'s' if stats.waiting == 1 else ''}"
    return f"{stats.waiting} call{' waits' if stats.waiting == 1 else 's wait'}"


def _note_failure(stats: Stats, memory: Memory, now: float) -> None:
    if not stats.failing:
        return
    if now - memory.failed_at > BACKOFF_MAX + memory.backoff:
        memory.backoff = 0.0  # that was long ago
    if now >= memory.again_at:
        memory.backoff = min(max(BACKOFF, 2 * memory.backoff), BACKOFF_MAX)
        memory.again_at = now + memory.backoff
    memory.failed_at = now


def _limit(
    stats: Stats, policy: Policy, wanted: int, target: int, memory: Memory, now: float
) -> Literal["", "engine", "max"]:
    """What keeps calls waiting, once it has for a while."""
    starts = STARTS_PER_CORE * stats.cores
    limit: Literal["", "engine", "max"] = ""
    runs_all = stats.max_inflight is not None and stats.inflight >= stats.max_inflight
    if stats.waiting and not stats.failing and not runs_all:
        if stats.starting >= _CHURN * starts or (not stats.room and target > wanted):
            limit = "engine"
        elif wanted >= policy.max:
            limit = "max"
    if limit:
        if now - memory.short_at > PAUSE:
            memory.short_since = now
        memory.short_at = now
        if now - memory.short_since >= SHORT:
            memory.limit = limit
    elif now - memory.short_at > RELIEF:
        memory.limit = ""
    return memory.limit


def _words(limit: Literal["", "engine", "max"], stats: Stats, policy: Policy) -> str:
    match limit:
        case "max":
            return (
                f"calls wait, and {policy.max} replicas are its maximum: raise it with "
                "`funker deploy --max`, or the label funker.scale.max"
            )
        case "engine":
            speed = f" ({stats.starting / stats.recycle_s:.2g}/s)" if stats.recycle_s else ""
            cores = f"{stats.cores} core{'' if stats.cores == 1 else 's'}"
            return (
                f"calls wait for replicas to start, as many as {cores} can start at a time{speed}: "
                "more nodes start more, and `funker deploy --isolation process` takes no start for "
                "each call"
            )
    return ""
