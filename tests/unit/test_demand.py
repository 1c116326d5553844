"""How much a function is called and how long that takes, against plain formulae over all events."""

from __future__ import annotations

from itertools import accumulate
from math import exp, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.controller.demand import (
    DEPARTURES,
    FADE_S,
    FAST_WINDOW,
    RECYCLE_MAX_S,
    WINDOW,
    Demand,
    Mean,
    Rate,
)

#: Seconds between events: bursts, steady calls, and long silences.
GAPS = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 1.7, 7.2, 65.0, 1000.0]), max_size=60)
START = 1000.25
VALUES = st.floats(0.001, 1000)


def moments(gaps: list[float], since: float = START) -> list[float]:
    return [since + at for at in accumulate(gaps)]


# λ


@given(GAPS, st.sampled_from([0.0, 0.5, 3.9, 59.5, 61.0]), st.integers(1, WINDOW))
def test_a_rate_is_the_share_of_each_second_that_is_within_the_window(
    gaps: list[float], later: float, window: int
) -> None:
    since = START - 2 * WINDOW
    rate = Rate(since)
    arrivals = moments(gaps)
    for at in arrivals:
        rate.note(at)
    now = (arrivals[-1] if arrivals else START) + later
    second = floor(now)
    whole = sum(second - window < floor(at) for at in arrivals)
    partly = sum(floor(at) == second - window for at in arrivals) * (second + 1 - now)
    assert rate.over(window, now) == pytest.approx((whole + partly) / window)


@given(GAPS, st.sampled_from([WINDOW, FAST_WINDOW]))
def test_a_rate_is_never_further_from_the_truth_than_one_second_of_calls(
    gaps: list[float], window: int
) -> None:
    rate = Rate(START - 2 * WINDOW)
    arrivals = moments(gaps)
    for at in arrivals:
        rate.note(at)
    now = arrivals[-1] if arrivals else START
    inside = sum(at > now - window for at in arrivals)
    at_the_edge = sum(abs(at - (now - window)) <= 1 for at in arrivals)
    assert abs(rate.over(window, now) * window - inside) <= at_the_edge + 1e-9


def test_a_steady_load_has_its_rate_in_both_windows_at_any_moment() -> None:
    rate = Rate(0.0)
    for n in range(2000):  # 20 a second
        rate.note(n / 20)
    for now in (99.95, 99.99, 100.0):
        assert rate.over(WINDOW, now) == pytest.approx(20, abs=0.2)
        assert rate.over(FAST_WINDOW, now) == pytest.approx(20, abs=0.4)


def test_a_burst_shows_in_the_fast_window_first_and_is_gone_from_it_soon() -> None:
    rate = Rate(0.0)
    for _ in range(60):
        rate.note(100.5)
    assert rate.over(FAST_WINDOW, 100.5) == 10
    assert rate.over(WINDOW, 100.5) == 1
    assert rate.over(FAST_WINDOW, 107.5) == 0
    assert rate.over(WINDOW, 107.5) == 1
    assert rate.over(WINDOW, 161.5) == 0


def test_a_router_that_has_just_started_doesnt_halve_the_load() -> None:
    rate = Rate(1000.0)
    for n in range(300):  # 30 a second, for 10 s
        rate.note(1000 + n / 30)
    assert rate.over(WINDOW, 1010.0) == pytest.approx(30)


def test_the_first_call_after_a_start_is_no_storm() -> None:
    rate = Rate(1000.0)
    rate.note(1000.1)
    assert rate.over(WINDOW, 1000.1) == rate.over(FAST_WINDOW, 1000.1) == pytest.approx(1 / 6)


# S and R


@given(st.lists(st.tuples(VALUES, st.sampled_from([0.0, 0.5, 40.0, 4000.0])), min_size=1))
def test_a_mean_weighs_each_sample_by_its_age(samples: list[tuple[float, float]]) -> None:
    mean, times = Mean(), moments([gap for _, gap in samples])
    for (value, _), at in zip(samples, times, strict=True):
        mean.add(value, at)
    weights = [exp((at - times[-1]) / FADE_S) for at in times]
    expected = sum(w * v for w, (v, _) in zip(weights, samples, strict=True)) / sum(weights)
    assert mean.value == pytest.approx(expected)
    values = [value for value, _ in samples]
    assert min(values) * 0.999 <= mean.value <= max(values) * 1.001


def test_a_mean_of_nothing_is_none_and_one_of_long_ago_still_tells() -> None:
    mean = Mean()
    assert mean.value is None
    mean.add(3.0, 5.0)
    assert mean.value == 3.0
    mean.add(1.0, 1e9)
    assert mean.value == 1.0


def test_the_recycle_time_is_that_of_each_place() -> None:
    demand = Demand(0.0)
    demand.departed("add.1.aaa", 10.0)
    demand.departed("add.2.bbb", 10.2)
    demand.joined("add.2.ccc", 10.9)
    assert demand.recycle.value == pytest.approx(0.7)
    demand.joined("add.1.ddd", 10.9)
    assert demand.recycle.value == pytest.approx(0.8)


def test_a_replica_in_a_place_of_its_own_replaces_nobody() -> None:
    demand = Demand(0.0)
    demand.departed("add.1.aaa", 10.0)
    demand.joined("add.2.bbb", 10.1)
    assert demand.recycle.value is None


def test_of_replicas_without_places_the_first_gone_is_the_first_replaced() -> None:
    demand = Demand(0.0)
    demand.departed("host1", 10.0)
    demand.departed("host2", 11.0)
    demand.joined("host3", 12.0)
    assert demand.recycle.value == pytest.approx(2.0)


def test_who_comes_much_later_was_scaled_down_and_up_again() -> None:
    demand = Demand(0.0)
    demand.departed("add.1.aaa", 10.0)
    demand.joined("add.1.bbb", 10.1 + RECYCLE_MAX_S)
    assert demand.recycle.value is None
    demand.departed("add.1.bbb", 50.0)
    demand.joined("add.1.ccc", 50.5)
    assert demand.recycle.value == pytest.approx(0.5)


def test_departures_are_bounded_in_number_and_time() -> None:
    demand = Demand(0.0)
    for n in range(DEPARTURES + 10):
        demand.departed(f"add.{n}.aaa", 10.0)
    assert len(demand._departures) == len(demand._places) == DEPARTURES
    demand.departed("add.1.aaa", 100.0)
    assert len(demand._departures) == len(demand._places) == 1


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from(["f.1.x", "f.2.y", "z"]), st.floats(0, RECYCLE_MAX_S)
        )
    )
)
def test_recycle_times_are_those_of_first_gone_first_replaced_at_each_place(
    steps: list[tuple[bool, str, float]],
) -> None:
    demand, now = Demand(0.0), 0.0
    gone: dict[str, list[float]] = {}
    times: list[float] = []
    for leaves, name, gap in steps:
        now += gap
        place = gone.setdefault(name.rpartition(".")[0], [])
        place[:] = [at for at in place if at >= now - RECYCLE_MAX_S]
        if leaves:
            place.append(now)
            demand.departed(name, now)
        else:
            if place:
                times.append(now - place.pop(0))
            demand.joined(name, now)
    value = demand.recycle.value
    assert (value is None) == (not times)
    if value is not None:
        assert min(times) - 1e-9 <= value <= max(times) + 1e-9
