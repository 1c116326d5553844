"""The autoscaler over a pool of one-shot replicas and an engine that starts only so many a second.

The engine shares its cores between all starts at a time, which is what a real one does: about 0.57
CPU-seconds each, so 3.5 a second on 2 cores, however many are asked for. The router's figures are
measured as it measures them.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funker.controller.autoscaler import WINDOW, History, Stats, decide
from funker.controller.starts import room
from funker.spec import ScalePolicy

#: CPU-seconds of a start, and cores: with them, the starts per second that there can be at most.
START, CORES = 0.57, 2
FLOOR = CORES / START
#: Seconds of a step, between two decisions while calls wait, and while they don't.
STEP, BUSY, CALM = 0.05, 0.5, 2.0


@dataclass
class Slot:
    """One replica after another: CPU-seconds to its start, or when its call ends."""

    work: float
    ends_at: float | None = None
    gone_at: float | None = None
    leaving: bool = False

    @property
    def is_starting(self) -> bool:
        return self.work > 0


@dataclass
class World:
    """A function, its calls and the engine. `fixed`: so many replicas whatever happens."""

    policy: ScalePolicy
    service: float = 0.05
    fixed: int | None = None
    now: float = 0.0
    slots: list[Slot] = field(default_factory=list)
    queue: deque[float] = field(default_factory=deque)
    waits: list[float] = field(default_factory=list)
    arrived: deque[float] = field(default_factory=deque)
    recycles: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    history: History = field(default_factory=lambda: History(since=0.0))
    next_look: float = 0.0
    started: int = 0
    last_end: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    #: Replicas that shall run, at each step.
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = self.policy.min if self.fixed is None else self.fixed
        self.slots = [Slot(work=0.0) for _ in range(size)]

    @property
    def wanted(self) -> int:
        return sum(not slot.leaving for slot in self.slots)

    def run(self, arrivals: Sequence[float], until: float) -> None:
        coming = deque(sorted(arrivals))
        while self.now < until or self.queue or coming:
            assert self.now < until + 600, "calls wait for ever"
            self.now += STEP
            self._start()
            for slot in list(self.slots):
                self._end(slot)
            demand = False
            while coming and coming[0] <= self.now:
                self.queue.append(coming[0])
                self.arrived.append(coming.popleft())
                demand = True
            self._dispatch()
            starting = sum(slot.is_starting for slot in self.slots)
            demand &= len(self.queue) > starting
            if self.fixed is None and (demand or self.now >= self.next_look):
                self._scale()
                self.next_look = self.now + (BUSY if self.queue else CALM)
            self.sizes.append(self.wanted)

    def _work(self) -> float:
        return START * self.rng.uniform(0.6, 1.4)

    def _start(self) -> None:
        starting = [slot for slot in self.slots if slot.is_starting]
        for slot in starting:
            slot.work -= STEP * min(1.0, CORES / len(starting))
            if not slot.is_starting:
                self.started += 1
                if slot.gone_at is not None:
                    self.recycles.append(self.now - slot.gone_at)

    def _end(self, slot: Slot) -> None:
        if slot.ends_at is None or slot.ends_at > self.now:
            return
        self.last_end, slot.gone_at = slot.ends_at, slot.ends_at
        slot.ends_at, slot.work = None, self._work()
        if slot.leaving:
            self.slots.remove(slot)

    def _dispatch(self) -> None:
        for slot in self.slots:
            if not self.queue:
                return
            if not slot.is_starting and slot.ends_at is None and not slot.leaving:
                self.waits.append(self.now - self.queue.popleft())
                slot.ends_at = self.now + self.service

    def stats(self) -> Stats:
        while self.arrived and self.arrived[0] < self.now - 60:
            self.arrived.popleft()
        here = [slot for slot in self.slots if not slot.leaving]
        return Stats(
            wanted=self.wanted,
            ready=sum(not slot.is_starting for slot in here),
            waiting=len(self.queue),
            inflight=sum(slot.ends_at is not None for slot in self.slots),
            arrivals=len(self.arrived) / 60,
            arrivals_fast=sum(at >= self.now - 6 for at in self.arrived) / 6,
            service_s=self.service if self.last_end else None,
            recycle_s=sum(self.recycles) / len(self.recycles) if self.recycles else None,
            last_call_s=self.now - self.arrived[-1] if self.arrived else None,
            cores=CORES,
            room=0,
        )

    def _scale(self) -> None:
        stats = self.stats()
        there = {name: getattr(stats, name) for name in stats.__slots__}
        stats = Stats(**{**there, "room": room({"add": stats})["add"]})
        wanted = decide(stats, self.policy, self.history, self.now).wanted
        self.slots += [Slot(self._work()) for _ in range(wanted - stats.wanted)]
        here = [slot for slot in self.slots if not slot.leaving]
        # As the swarm does: first those that don't run yet; one at work ends when it has answered.
        here.sort(key=lambda slot: (not slot.is_starting, slot.ends_at is not None))
        for slot in here[: max(0, len(here) - wanted)]:
            if slot.ends_at is None:
                self.slots.remove(slot)
            slot.leaving = True


def poisson(rate: float, begin: float, end: float, rng: random.Random) -> list[float]:
    arrivals: list[float] = []
    at = begin
    while (at := at + rng.expovariate(rate)) < end:
        arrivals.append(at)
    return arrivals


def p99(waits: list[float]) -> float:
    return sorted(waits)[int(0.99 * len(waits))]


def test_a_burst_takes_little_longer_than_the_engine_alone() -> None:
    world = World(ScalePolicy(min=2, max=60))
    world.run([5.0] * 60, until=200)
    assert len(world.waits) == 60
    assert world.last_end - 5.0 <= 1.35 * 60 / FLOOR
    assert max(world.sizes) <= 16
    # Hardly more were started than there were calls.
    assert world.started <= 60 + 16
    assert world.wanted == 2


def test_a_burst_of_long_calls_gets_a_replica_for_each() -> None:
    world = World(ScalePolicy(min=2, max=60), service=60.0)
    world.run([5.0] * 40, until=300)
    assert 40 <= max(world.sizes) <= 50  # and a few for those that may come
    assert max(world.waits) <= 1.35 * 40 / FLOOR
    assert world.wanted == 2


def test_from_zero_the_first_call_waits_for_one_start() -> None:
    world = World(ScalePolicy(min=0, max=20, idle=30))
    world.run([50.0], until=40 + 30 + 60)
    assert world.waits[0] <= 1.4 * START + 3 * STEP
    assert max(world.sizes) == 1
    assert world.wanted == 0


@pytest.mark.parametrize("seed", range(3))
def test_on_a_ramp_calls_wait_less_than_with_a_fixed_pool_of_the_same_size(seed: int) -> None:
    rng = random.Random(seed)
    arrivals = [
        at
        for step in range(12)
        for at in poisson(FLOOR * 0.06 * (step + 1), step * 20, step * 20 + 20, rng)
    ]
    scaled = World(ScalePolicy(min=1, max=40))
    scaled.run(arrivals, until=240)
    mean = round(sum(scaled.sizes) / len(scaled.sizes))
    fixed = World(scaled.policy, fixed=mean)
    fixed.run(arrivals, until=240)
    assert p99(scaled.waits) <= p99(fixed.waits) + START
    assert sum(scaled.waits) < sum(fixed.waits)


@pytest.mark.parametrize("seed", range(3))
def test_loads_that_go_on_and_off_wait_hardly_more_than_with_a_fixed_pool(seed: int) -> None:
    rng = random.Random(seed)
    arrivals = [
        at for begin in range(0, 480, 120) for at in poisson(FLOOR * 0.6, begin, begin + 60, rng)
    ]
    scaled = World(ScalePolicy(min=1, max=40))
    scaled.run(arrivals, until=480)
    fixed = World(scaled.policy, fixed=round(sum(scaled.sizes) / len(scaled.sizes)))
    fixed.run(arrivals, until=480)
    assert p99(scaled.waits) <= p99(fixed.waits) + 1.5 * START


@pytest.mark.parametrize("seed", range(3))
def test_at_a_constant_rate_the_number_changes_rarely(seed: int) -> None:
    world = World(ScalePolicy(min=1, max=40), service=0.5)
    world.run(poisson(FLOOR * 0.5, 0, 600, random.Random(seed)), until=600)
    settled = world.sizes[int(2 * WINDOW / STEP) :]
    changes = sum(a != b for a, b in itertools.pairwise(settled))
    assert changes <= 30
    assert max(settled) - min(settled) <= 10


def test_more_calls_than_the_engine_can_serve_dont_grow_the_pool_without_end() -> None:
    world = World(ScalePolicy(min=1, max=1000))
    world.run([n / (2 * FLOOR) for n in range(400)], until=60)
    assert max(world.sizes) <= 16
    assert world.last_end <= 1.1 * 400 / FLOOR


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 60), st.integers(1, 30)), min_size=1, max_size=5),
    st.sampled_from([0.01, 0.5, 5.0]),
    st.integers(0, 3),
)
def test_every_call_is_served_and_then_the_pool_is_as_before(
    bursts: list[tuple[float, int]], service: float, low: int
) -> None:
    world = World(ScalePolicy(min=low, max=20, idle=30), service=service)
    arrivals = [at for at, number in bursts for _ in range(number)]
    world.run(arrivals, until=60)
    world.run([], until=world.now + 2 * WINDOW + 30)
    assert len(world.waits) == len(arrivals)
    assert max(world.sizes) <= 20
    assert world.wanted == low
