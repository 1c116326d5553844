"""Callers, routers and replicas against each other: three state machines over a bad network.

Everything is simulated, the clock included. Connections delay, freeze and break with messages
under way, and either end may notice at once or not at all. Routers are killed and restarted,
sleep, and may be two for a while. What they send leaves a moment after it was decided. Replicas, of
one call or with several places, are killed, terminated, crash, hang, fail to load, and are called
directly in between; in some worlds their number is the autoscaler's. Callers cancel, and die. Calls
are tried again where that is allowed. Whatever happens:

- each call has exactly one outcome, at the latest shortly after its deadline;
- no call that isn't idempotent starts twice, and an answer is the answer of its own call;
- a call whose error says that it certainly did not start, didn't: neither then nor later, so a
  caller may take another way with it;
- a call is started no more often than its function's policy lets it be tried, and no sooner;
- in the end no router and no replica has anything left of any call.

One hole is known and allowed for: a call that was handed out, whose caller was cut off from that
router before it heard the ACCEPT, and whose replica doesn't come to the next router in time. Where
the network is sound it can't happen, however often the router dies: there every call is answered
and runs once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funker.controller import tables
from funker.rpc.messages import Error, Result
from funker.spec import ScalePolicy
from tests.unit.world import (
    FUNCTIONS,
    SimulatedCaller,
    SimulatedReconciler,
    SimulatedRouter,
    World,
    check,
    check_nothing_is_left,
    play,
)

#: How many times as many schedules to play as usual: FUNKER_SCHEDULES=20 for some ten thousand.
TIMES = int(os.environ.get("FUNKER_SCHEDULES", "1"))
#: Seconds that callers wait for a router to appear: for ever, all calls are answered by one.
ROUTER_WAITS = st.sampled_from([0.0, 0.5, 3.0, float("inf")])
#: What may be done with the calls of each function.
RULES = st.fixed_dictionaries(
    {
        function: st.builds(
            tables.Rules,
            idempotent=st.booleans(),
            retries=st.sampled_from([0, 1, 3]),
            backoff=st.sampled_from([0.01, 0.3, 2.0]),
            max_inflight=st.sampled_from([None, None, 1, 2]),
        )
        for function in FUNCTIONS
    }
)


def troubled(world: World) -> None:
    """Routers that die, sleep, are two, and come back to be one."""
    SimulatedRouter(world)
    at = 0.0
    while world.strikes(0.6) and at < 8:
        at += world.some(0.2, 4)
        fate = world.random.choice(["killed", "joined", "asleep"])
        if fate == "asleep":
            seconds = world.some(0.5, 4)
            world.after(at, lambda s=seconds: world.routers and world.routers[0].sleep(s))  # type: ignore[misc]
        elif fate == "killed":
            down = world.some(0.05, 3)
            world.after(at, lambda: world.routers and world.routers[0].die())
            world.after(at + down, lambda: world.routers or SimulatedRouter(world))
        else:
            world.after(at, lambda: SimulatedRouter(world))
            end = world.some(0.5, 5)
            world.after(at + end, lambda: len(world.routers) > 1 and world.routers[0].die())
    world.after(at + 4, lambda: world.routers or SimulatedRouter(world))


def restarted(world: World) -> None:
    """One router that is killed and restarted, on a network that is sound otherwise."""
    SimulatedRouter(world)
    at = 0.0
    for _ in range(world.random.randrange(1, 4)):
        at += world.some(0.2, 5)
        down = world.random.choice([0.05, 1, 4, world.some(0, 10)])
        world.after(at, lambda: world.routers[0].die())
        at += down
        world.after(at, lambda: SimulatedRouter(world))


def away(world: World) -> None:
    """One router that is killed with calls waiting, running and answered; the next comes 30 s
    later."""
    SimulatedRouter(world)
    at = world.some(0.2, 3)
    world.after(at, lambda: world.routers[0].die())
    world.after(at + 30, lambda: SimulatedRouter(world))


def flaky(world: World) -> None:
    """One router, and connections that break again and again, noticed soon by both ends."""
    SimulatedRouter(world)
    for _ in range(world.random.randrange(1, 60)):
        world.after(world.some(0, 10), lambda: _break_one(world, b"RC"))


def split(world: World) -> None:
    """Two routers all the time, and callers that are thrown from one to the other."""
    SimulatedRouter(world)
    SimulatedRouter(world)
    for _ in range(world.random.randrange(1, 60)):
        world.after(world.some(0, 10), lambda: _break_one(world, b"C"))


def _break_one(world: World, kinds: bytes) -> None:
    wires = [wire for router in world.routers for wire in router.wires.values()]
    wires = [wire for wire in wires if wire.dealer.peer[:1] in kinds]
    if wires:
        world.random.choice(wires).break_off()


def check_all_answered(world: World) -> None:
    """Every call has an answer, or was given back in time to be made another way."""
    for caller in world.callers:
        for id in caller.calls:
            if id in caller.given_back:
                assert world.started[id] == 0
                continue
            assert isinstance(caller.outcomes[id][0], Result), caller.outcomes[id]
            assert world.started[id] == 1


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
    trouble=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    rules=st.just({}) | RULES,
)
@settings(max_examples=200 * TIMES, deadline=None)
def test_each_call_has_one_outcome_and_runs_at_most_once_whatever_happens(
    seed: int,
    replicas: int,
    callers: int,
    number: int,
    trouble: float,
    router_wait: float,
    rules: dict[str, tables.Rules],
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=trouble,
        rules=rules,
        deadline=8.0,
        routers=troubled,
        until=15,
    )
    check(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=100 * TIMES, deadline=None)
def test_callers_between_two_routers_run_no_call_twice(
    seed: int, replicas: int, callers: int, number: int, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=20.0,
        routers=split,
        until=30,
    )
    check(world)
    check_nothing_is_left(world)


@pytest.mark.parametrize("routers", [flaky, restarted, away])
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=80 * TIMES, deadline=None)
def test_connections_that_break_and_routers_that_are_away_cost_callers_nothing_but_time(
    routers: Callable[[World], None],
    seed: int,
    replicas: int,
    callers: int,
    number: int,
    router_wait: float,
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=120.0,
        routers=routers,
        until=150,
    )
    check(world)
    check_all_answered(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 5),
    number=st.integers(1, 16),
    rules=RULES,
    failures=st.sampled_from([0.0, 0.2, 0.6]),
)
@settings(max_examples=60 * TIMES, deadline=None)
def test_failures_are_tried_again_as_often_as_may_be_and_no_more_run_at_once_than_may(
    seed: int, replicas: int, number: int, rules: dict[str, tables.Rules], failures: float
) -> None:
    """One router and a sound network: here all that is promised holds to the letter."""
    world = play(
        seed,
        replicas=replicas,
        callers=2,
        number=number,
        rules=rules,
        failures=failures,
        trouble=0.0,
        deadline=300.0,
        routers=lambda world: world.after(0, lambda: SimulatedRouter(world)),
        until=400,
    )
    check(world)
    for caller in world.callers:
        for id, call in caller.calls.items():
            (outcome,), about = caller.outcomes[id], world.has_rules(call)
            tries = 1 + about.retries if about.idempotent else 1
            if isinstance(outcome, Error):
                assert world.started[id] == tries
                assert tries == 1 or outcome.message.endswith(f"(attempt {tries})")
            else:
                assert 1 <= world.started[id] <= tries
    for function, about in rules.items():
        assert about.max_inflight is None or world.most[function] <= about.max_inflight
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    minimum=st.integers(0, 2),
    maximum=st.sampled_from([1, 3, 8]),
    number=st.integers(1, 30),
    over=st.sampled_from([0.1, 3.0, 40.0]),
    rules=st.just({}) | RULES,
    trouble=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
)
@settings(max_examples=80 * TIMES, deadline=None)
def test_a_pool_that_grows_and_shrinks_meanwhile_loses_no_call(
    seed: int,
    minimum: int,
    maximum: int,
    number: int,
    over: float,
    rules: dict[str, tables.Rules],
    trouble: float,
) -> None:
    """Router, queue, autoscaler and replicas, from none to many and back, over lossy links."""
    policy = ScalePolicy(min=min(minimum, maximum), max=maximum, idle=5.0)
    world = play(
        seed,
        replicas=0,
        callers=3,
        number=number,
        rules=rules,
        policies=dict.fromkeys(FUNCTIONS, policy),
        trouble=trouble,
        deadline=8.0 if trouble else 300.0,
        over=over,
        routers=troubled if trouble else restarted,
        until=400,
    )
    check(world)
    if not trouble:
        check_all_answered(world)
    check_nothing_is_left(world)
    assert sum(world.wanted.values()) <= maximum * len(FUNCTIONS)
    world.run(until=world.now + 120)
    assert all(world.wanted[function] == policy.min for function in FUNCTIONS), world.wanted
    assert len(world.replicas) <= 2 * policy.min


def test_a_call_of_a_function_without_replicas_starts_one_at_once() -> None:
    world = World(1, trouble=0.0, deadline=10.0)
    SimulatedRouter(world)
    policy = ScalePolicy(min=0, max=3, idle=5.0)
    SimulatedReconciler(world, dict.fromkeys(FUNCTIONS, policy))
    world.run(until=6.1)
    caller = SimulatedCaller(world, 0)
    world.run(until=6.5)
    caller.call("0" * 32, "add", idempotent=False)
    world.run(until=6.5 + 0.1)
    assert world.wanted["add"] == 1, "before the reconciler looks again"
    world.run(until=10)
    assert isinstance(caller.outcomes["0" * 32][0], Result)
