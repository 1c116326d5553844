"""Schedules of faults: the same for the same seed, and fit for what they are for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.schedule import AWAY_S, CALM_S, GAP_S, KINDS, Target, harm_of, schedule

TARGETS = [
    Target("once", idempotent=False, replicas=3),
    Target("again", idempotent=True, replicas=3),
    Target("auto", idempotent=False, replicas=3, scaled=True),
    Target("pool", idempotent=False, replicas=3, slots=2),
]
SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS)
def test_a_seed_says_it_all(seed: int) -> None:
    assert schedule(seed, 60, TARGETS, harm=2) == schedule(seed, 60, TARGETS, harm=2)
    assert schedule(seed, 60, TARGETS, harm=2) != schedule(seed + 1, 60, TARGETS, harm=2)


@given(seed=SEEDS, harm=st.integers(0, 5))
def test_faults_are_apart_and_within_the_load(seed: int, harm: int) -> None:
    faults = schedule(seed, 100, TARGETS, harm=harm)
    ends = [CALM_S, *(f.at + f.amount * (f.kind in ("outage", "engine")) for f in faults)]
    assert all(fault.at - end >= GAP_S[0] - 0.01 for end, fault in zip(ends, faults, strict=False))
    assert max(fault.at for fault in faults) <= 100 - CALM_S


@given(seed=SEEDS)
def test_each_kind_comes_about_as_often_as_the_others(seed: int) -> None:
    kinds = [fault.kind for fault in schedule(seed, 600, TARGETS, harm=1000)]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert min(counts.values()) > 5


@given(seed=SEEDS, harm=st.integers(0, 5))
def test_no_more_than_allowed_may_cost_a_call(seed: int, harm: int) -> None:
    faults = schedule(seed, 600, TARGETS, harm=harm)
    assert sum(harm_of(fault, TARGETS) for fault in faults) == harm
    assert any(fault.kind == "front" and fault.target == "again" for fault in faults)


@given(seed=SEEDS)
def test_faults_are_what_can_be_done(seed: int) -> None:
    for fault in schedule(seed, 100, TARGETS, harm=5):
        assert 0 <= fault.pick <= 1
        if fault.kind in ("front", "worker", "redeploy", "scale"):
            assert fault.target in ("once", "again", "auto", "pool")
        if fault.kind == "scale":
            assert fault.amount in (1, 2, 3)
            assert fault.target != "auto"
        if fault.kind in ("outage", "engine"):
            assert AWAY_S[0] <= fault.amount <= AWAY_S[1]


@given(seed=SEEDS)
def test_only_the_kinds_that_are_asked_for_come(seed: int) -> None:
    faults = schedule(seed, 100, TARGETS, kinds=("router", "scale"), harm=0)
    assert {fault.kind for fault in faults} == {"router", "scale"}
