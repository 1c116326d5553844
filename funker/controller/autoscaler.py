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
  only after a time that doubles each time it fails again. If its replicas even end by themselves,
  it has none for that time, and then one to try: an engine starts them again without a pause.
"""

from __future__ import annotations

import math
from collections import deque
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
    #: Whether its replicas can't serve, and whether they end by themselves before they could.
    failing: bool = False
    ending: bool = False
    #: Whether they are being replaced by those of a new version.
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
class History:
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
    #: Whether it has none until then, and whether it has one now to see if it can serve.
    resting: bool = False
    trying: bool = False
    #: Which limit makes calls wait, since when, and when it last did.
    limit: Literal["", "engine", "max"] = ""
    short_since: float = 0.0
    short_at: float = -math.inf

    def forgive(self) -> None:
        """There is a new version: what has become of the one before says nothing of it."""
        self.backoff, self.failed_at, self.again_at = 0.0, -math.inf, -math.inf
        self.resting = self.trying = False

    def highest(self, target: int, now: float) -> int:
        """The largest target of the window, this one included."""
        while self.targets and self.targets[0][0] < now - WINDOW:
            self.targets.popleft()
        while self.targets and self.targets[-1][1] <= target:
            self.targets.pop()
        self.targets.append((now, target))
        return self.targets[0][1]


def decide(stats: Stats, policy: Policy, history: History, now: float) -> Decision:
    """How many replicas the function shall have from now on. `now` never goes back."""
    if stats.waiting or stats.inflight:
        history.used_at = now
    if not history.targets:
        history.targets.append((now, stats.wanted))
    uncapped, cause, reason = _target(stats, policy)
    target = min(uncapped, policy.max)
    # What the reconciler hasn't seen itself, it hears: another one may have run until now.
    heard = math.inf if stats.last_call_s is None else stats.last_call_s
    quiet = min(now - max(history.used_at, history.since), heard)
    if not policy.min and not target and stats.wanted and quiet < policy.idle:
        target, cause, reason = 1, "held", f"kept until nobody has called for {policy.idle:g} s"
    elif not policy.min and quiet >= policy.idle:
        history.targets.clear()
        target, cause, reason = 0, "idle", f"nobody has called for {policy.idle:g} s"
    highest = history.highest(target, now)
    _note_failure(stats, history, now)
    if (stats.failing or history.resting or history.trying) and target:
        wanted, reason = _held_back(stats, policy, history)
        cause = "failing"
    elif target > stats.wanted:
        more = max(stats.room if now >= history.again_at else 0, int(not stats.wanted))
        wanted = min(target, stats.wanted + more)
        if wanted < target:
            reason = f"{reason}, as its replicas start"
        if now < history.again_at:
            cause, reason = "failing", f"it couldn't serve until a moment ago; {reason}"
    elif target < stats.wanted and cause != "idle":
        # While there is an update, those that would leave may be the only ones that can serve.
        kept = stats.wanted if stats.updating else max(min(highest, stats.wanted), target)
        wanted = min(kept, policy.max)
        if wanted > target:
            cause, reason = "held", f"{target} are enough for now: {reason}"
    else:
        wanted = target
    if wanted == policy.max < uncapped and cause != "failing":
        cause, reason = "max", f"its maximum is {policy.max}; {reason}"
    limit = _limit(stats, policy, wanted, target, history, now)
    return Decision(wanted, cause, reason, _words(limit, stats, policy), limit)


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


def _held_back(stats: Stats, policy: Policy, history: History) -> tuple[int, str]:
    """How many replicas of a function that can't serve, and why."""
    if history.resting:
        return (
            0,
            f"its replicas end before they are ready: one is tried after {history.backoff:g} s",
        )
    if history.trying:
        return 1, "one is tried"
    # Those of an older version may serve until an update is over.
    at_most = stats.wanted if stats.updating else math.ceil(stats.inflight / stats.slots)
    at_most = min(max(1, policy.min, at_most), policy.max)
    return min(max(1, stats.wanted), at_most), "its replicas can't serve"


def _note_failure(stats: Stats, history: History, now: float) -> None:
    if stats.ready:
        history.resting = history.trying = False
    if history.resting and now >= history.again_at:
        history.resting, history.trying = False, True
    if not stats.failing:
        return
    if now - history.failed_at > BACKOFF_MAX + history.backoff:
        history.backoff = 0.0  # that was long ago
    if now >= history.again_at:
        history.backoff = min(max(BACKOFF, 2 * history.backoff), BACKOFF_MAX)
        history.again_at = now + history.backoff
        history.resting, history.trying = stats.ending and not stats.updating, False
    history.failed_at = now


def _limit(
    stats: Stats, policy: Policy, wanted: int, target: int, history: History, now: float
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
        if now - history.short_at > PAUSE:
            history.short_since = now
        history.short_at = now
        if now - history.short_since >= SHORT:
            history.limit = limit
    elif now - history.short_at > RELIEF:
        history.limit = ""
    return history.limit


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
