"""How many replicas: the rule for one function, and who may start how many."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.controller.autoscaler import (
    BACKOFF,
    BACKOFF_MAX,
    RELIEF,
    SHORT,
    WINDOW,
    Decision,
    History,
    Stats,
    decide,
)
from funker.controller.starts import Growth, room, share
from funker.spec import ScalePolicy

POLICY = ScalePolicy(min=1, max=100, idle=300)
ZERO = ScalePolicy(min=0, max=100, idle=30)
STEADY = {"service_s": 0.5, "recycle_s": 1.0, "last_call_s": 0.0}


class Watched:
    """One function whose number is set as it was decided."""

    def __init__(self, policy: ScalePolicy = POLICY, wanted: int = 1) -> None:
        self.policy = policy
        self.now = 1000.0
        self.history = History(since=self.now)
        self.wanted = wanted

    def sees(self, seconds: float = 0.5, **figures: Any) -> Decision:
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            ready = figures.get("ready", self.wanted)
            stats = Stats(**{"room": 1000, **figures, "wanted": self.wanted, "ready": ready})
            decision = decide(stats, self.policy, self.history, self.now)
            self.wanted = decision.wanted
        return decision


@pytest.mark.parametrize(
    ("rate", "service", "recycle", "headroom", "expected"),
    [
        (2.0, 0.5, 1.5, 0.0, 4),  # a = 4
        (2.0, 0.5, 1.5, 1.0, 6),  # 4 + √4
        (2.0, 0.5, 1.5, 2.0, 8),
        (0.01, 0.5, 1.5, 1.0, 1),
        (10.0, 0.5, 1.1, 1.0, 20),
        (0.0, 0.5, 1.0, 1.0, 1),
    ],
)
def test_the_load_and_its_root_are_kept_warm(
    rate: float, service: float, recycle: float, headroom: float, expected: int
) -> None:
    watched = Watched(ScalePolicy(min=1, max=100, headroom=headroom))
    found = watched.sees(arrivals=rate, service_s=service, recycle_s=recycle)
    assert found.wanted == expected


def test_the_reason_has_the_figures() -> None:
    found = Watched().sees(arrivals=2.0, service_s=0.5, recycle_s=1.5)
    assert found.reason == "λ 2/s · (S 0.5 s + R 1.5 s) = a 4, a + 1·√a → 6"
    assert Watched().sees(inflight=2, waiting=7).reason == "2 calls run and 7 wait"


def test_the_faster_window_counts_when_it_is_more() -> None:
    assert Watched().sees(arrivals=1.0, arrivals_fast=4.0, **STEADY).wanted == 9


def test_a_replica_with_slots_takes_so_many_calls_and_isnt_replaced() -> None:
    figures = {"arrivals": 40.0, "service_s": 0.4, "recycle_s": 9.0, "one_shot": False}
    assert Watched().sees(slots=4, **figures).wanted == 5  # (16 + 4) / 4
    assert Watched().sees(slots=4, inflight=3, waiting=30).wanted == 9


def test_calls_that_may_not_run_need_no_replicas() -> None:
    found = Watched().sees(inflight=2, waiting=50, arrivals=20, max_inflight=3, **STEADY)
    assert found.wanted == 12  # 6/s · 1.5 s = 9
    assert not found.saturated


def test_it_grows_at_once_as_far_as_there_is_room() -> None:
    watched = Watched(wanted=2)
    assert watched.sees(waiting=58, inflight=2, room=8).wanted == 10
    assert watched.sees(waiting=58, inflight=2, ready=2, room=0).wanted == 10
    assert watched.sees(waiting=50, inflight=10, ready=10, room=8).wanted == 18


def test_the_first_replica_waits_for_no_room() -> None:
    assert Watched(ZERO, wanted=0).sees(waiting=5, room=0).wanted == 1


def test_it_shrinks_after_the_largest_target_of_the_window() -> None:
    watched = Watched()
    assert watched.sees(waiting=20).wanted == 20
    assert watched.sees(10, waiting=5).wanted == 20
    assert watched.sees(WINDOW - 10).wanted == 20
    assert watched.sees(10).wanted == 5
    assert watched.sees(10).wanted == 1


def test_what_a_burst_could_not_get_isnt_started_after_it() -> None:
    watched = Watched(wanted=2)
    assert watched.sees(waiting=60, room=8).wanted == 10
    assert watched.sees(30, room=8).wanted == 10


def test_nothing_goes_while_a_new_version_comes() -> None:
    watched = Watched(wanted=5)
    assert watched.sees(2 * WINDOW, updating=True).wanted == 5
    assert watched.sees().wanted == 1


def test_zero_comes_after_idle_and_not_before() -> None:
    watched = Watched(ZERO, wanted=3)
    assert watched.sees(5, last_call_s=0.0, inflight=1).wanted == 3
    assert watched.sees(ZERO.idle - 1).wanted == 3
    found = watched.sees(1)
    assert (found.wanted, found.cause, found.reason) == (0, "idle", "nobody has called for 30 s")
    assert watched.sees(100).wanted == 0
    assert watched.sees(waiting=1).wanted == 1


def test_one_stays_between_the_window_and_idle() -> None:
    watched = Watched(ScalePolicy(min=0, idle=300), wanted=3)
    assert watched.sees(200).wanted == 1
    assert watched.sees(101).wanted == 0


def test_a_call_that_runs_for_long_keeps_its_replica_and_idle_begins_with_its_end() -> None:
    watched = Watched(ZERO, wanted=1)
    for second in range(200):
        assert watched.sees(1, inflight=1, last_call_s=float(second)).wanted == 1
    assert watched.sees(ZERO.idle - 1, last_call_s=200.0).wanted == 1
    assert watched.sees(1, last_call_s=230.0).wanted == 0


def test_a_reconciler_that_restarts_neither_starts_nor_stops_any() -> None:
    assert Watched(ZERO, wanted=0).sees(100, last_call_s=1000.0).wanted == 0
    assert Watched(wanted=7).sees(WINDOW - 1).wanted == 7


def test_one_that_cant_serve_is_held_and_grows_again_ever_later() -> None:
    watched = Watched(wanted=5)
    waits = []
    for _ in range(8):
        found = watched.sees(1, waiting=9, ready=0, failing=True)
        assert (found.wanted, found.cause) == (1, "failing")
        began = watched.now
        while watched.sees(waiting=9).wanted == 1:
            assert watched.now < began + 2 * BACKOFF_MAX
        waits.append(watched.now - began + 0.5)
    assert waits == [BACKOFF, 10, 20, 40, *[BACKOFF_MAX] * 4]
    watched.sees(300)
    watched.sees(waiting=9, failing=True)
    assert watched.sees(BACKOFF, waiting=9).wanted == 9


def test_one_whose_replicas_end_by_themselves_has_none_but_one_to_try_ever_more_rarely() -> None:
    watched = Watched(wanted=5)
    pauses, seen = [], 0.0
    for _ in range(7):
        found = watched.sees(waiting=9, ready=0, failing=True, ending=True)
        assert (found.wanted, found.cause) == (0, "failing")
        seen = watched.now
        while watched.sees(waiting=9, ready=0).wanted == 0:
            assert watched.now < seen + 2 * BACKOFF_MAX
        pauses.append(watched.now - seen)
        assert watched.sees(10, waiting=9, ready=0).wanted == 1
    assert pauses == [BACKOFF, 10, 20, 40, *[BACKOFF_MAX] * 3]
    assert watched.sees(waiting=9, ready=1).wanted == 9


def test_one_that_cant_serve_still_goes_to_zero() -> None:
    assert Watched(ZERO, wanted=1).sees(ZERO.idle, failing=True).wanted == 0


def test_the_maximum_is_said_to_be_the_limit_while_calls_wait() -> None:
    watched = Watched(ScalePolicy(min=1, max=4), wanted=4)
    busy = {"waiting": 5, "inflight": 4, "ready": 4}
    assert not watched.sees(SHORT, **busy).saturated
    found = watched.sees(1, **busy)
    assert found.limit == "max"
    assert "`funker deploy --max`" in found.saturated
    assert watched.sees(RELIEF).saturated
    assert not watched.sees(1).saturated


def test_the_engine_is_said_to_be_the_limit_when_it_starts_all_that_it_can() -> None:
    watched = Watched(wanted=10)
    found = watched.sees(SHORT + 1, waiting=50, ready=1, room=0, recycle_s=2.0)
    assert (found.limit, found.wanted) == ("engine", 10)
    assert "(4.5/s)" in found.saturated
    assert "--isolation process" in found.saturated


# Properties

figures = st.fixed_dictionaries(
    {
        "waiting": st.integers(0, 500),
        "inflight": st.integers(0, 100),
        "arrivals": st.floats(0, 100),
        "arrivals_fast": st.floats(0, 100),
        "service_s": st.none() | st.floats(0, 100),
        "recycle_s": st.none() | st.floats(0, 100),
        "last_call_s": st.none() | st.floats(0, 1000),
        "slots": st.integers(1, 8),
        "one_shot": st.booleans(),
        "max_inflight": st.none() | st.integers(1, 50),
        "failing": st.booleans(),
        "updating": st.booleans(),
        "cores": st.integers(1, 16),
        "room": st.integers(0, 64),
    }
)
policies = st.builds(
    lambda low, more, idle, headroom: ScalePolicy(
        min=low, max=max(1, low + more), idle=idle, headroom=headroom
    ),
    st.integers(0, 5),
    st.integers(0, 40),
    st.floats(1, 400),
    st.floats(0, 5),
)


@given(policies, st.integers(0, 60), st.lists(figures, min_size=1, max_size=40))
def test_always_within_the_policy_and_never_below_what_runs_and_waits(
    policy: ScalePolicy, wanted: int, seen: list[dict[str, Any]]
) -> None:
    watched = Watched(policy, wanted)
    for each in seen:
        before = watched.wanted
        found = watched.sees(**each)
        assert found.wanted <= policy.max
        assert found.wanted >= min(policy.min, before)
        runnable = each["inflight"] + each["waiting"]
        if each["max_inflight"] is not None:
            runnable = min(runnable, each["max_inflight"])
        needed = min(policy.max, -(-runnable // each["slots"]))
        if not each["failing"]:
            assert found.wanted >= min(before, needed)
        if found.wanted > before:
            assert found.wanted - before <= max(each["room"], not before)
        if not found.wanted and before:
            assert not policy.min
            assert not runnable


@given(policies, figures, st.integers(0, 50), st.integers(0, 20), st.floats(0, 50))
def test_more_load_never_means_fewer_replicas(
    policy: ScalePolicy, less: dict[str, Any], waiting: int, inflight: int, arrivals: float
) -> None:
    less |= {"failing": False, "room": 1000, "max_inflight": None, "last_call_s": 0.0}
    more = less | {
        "waiting": less["waiting"] + waiting,
        "inflight": less["inflight"] + inflight,
        "arrivals": less["arrivals"] + arrivals,
    }
    few, many = Watched(policy, 0).sees(**less), Watched(policy, 0).sees(**more)
    assert few.wanted <= many.wanted


@given(policies, figures, st.integers(0, 60))
def test_at_constant_load_it_comes_to_rest(
    policy: ScalePolicy, constant: dict[str, Any], wanted: int
) -> None:
    constant |= {"room": 3, "updating": False}
    watched = Watched(policy, wanted)
    watched.sees(WINDOW + policy.idle + 60, **constant)
    at_rest = watched.wanted
    for _ in range(200):
        assert watched.sees(**constant).wanted == at_rest


# Who may start how many


def test_what_starts_already_takes_room() -> None:
    functions = {
        "a": Stats(wanted=5, ready=2, cores=2),
        "b": Stats(wanted=1, ready=1, cores=1),
        "broken": Stats(wanted=9, ready=0, cores=2, failing=True),
    }
    assert room(functions) == {"a": 5, "b": 4, "broken": 0}
    assert room({}) == {}


def test_room_is_shared_by_who_has_the_fewest_starting() -> None:
    greedy, modest = Growth(more=100, starting=0), Growth(more=2, starting=0)
    assert share({"greedy": greedy, "modest": modest}, 8) == {"greedy": 6, "modest": 2}
    late = Growth(more=100, starting=0)
    assert share({"early": Growth(100, 6), "late": late}, 2) == {"early": 0, "late": 2}
    assert share({"a": Growth(3, 0), "b": Growth(3, 0)}, 0) == {"a": 0, "b": 0}
    first = Growth(3, 0, is_first=True)
    assert share({"a": Growth(3, 0), "first": first}, 0) == {"a": 0, "first": 1}


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.builds(Growth, st.integers(0, 50), st.integers(0, 10), st.booleans()),
        max_size=8,
    ),
    st.integers(0, 64),
)
def test_room_is_given_away_wholly_and_not_twice(growths: dict[str, Growth], room: int) -> None:
    given = share(growths, room)
    firsts = sum(1 for each in growths.values() if each.is_first and each.more)
    assert all(0 <= given[name] <= growths[name].more for name in growths)
    wishes = sum(each.more for each in growths.values())
    assert min(room, wishes) <= sum(given.values()) <= max(room, firsts)
    for one in growths:
        for other in growths:
            level = growths[one].starting + given[one]
            is_fair = given[one] == growths[one].more or (
                growths[other].starting + given[other] - level <= 1
                or given[other] <= growths[other].is_first
            )
            assert is_fair
