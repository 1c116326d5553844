"""Replicas with several places, how many calls run at once, and when more are asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funker.controller.replicas import REST_MAX_S, REST_S
from funker.controller.tables import Catalogue, Rules, Unreachable
from funker.rpc.messages import Accept, Ack, Busy, Bye, Cancel, Error, Message, Ready, Result
from tests.unit.desk import (
    ANN,
    BOB,
    ID,
    ONE,
    OTHER_ID,
    SESSIONS,
    THIRD_ID,
    THREE,
    TWO,
    Desk,
    bye,
    failed,
    handed,
)

IDS = [f"{n:032x}" for n in range(40)]


def desk_with(*replicas: bytes, slots: int = 2, calls: int = 0, **rules: Any) -> Desk:
    """A function with these rules, its replicas, and calls of it."""
    desk = Desk()
    catalogue = Catalogue({"add": ()}, wanted={"add": len(replicas)}, rules={"add": Rules(**rules)})
    desk.sees(catalogue)
    desk.stands()
    for replica in replicas:
        desk.joins(replica, slots=slots, free=slots)
    for id in IDS[:calls]:
        desk.called(id=id)
    return desk


def busy(id: str, replica: bytes = ONE) -> Busy:
    return Busy(id=id, session=SESSIONS[replica])


def in_hand(desk: Desk, replica: bytes = ONE) -> list[str]:
    (row,) = [r for r in desk.state()["replicas"] if r["session"] == SESSIONS[replica]]
    return [id for id in row["calls"] if desk.phase(id) in ("sent", "running")]


# Several places


def test_a_replica_has_as_many_calls_as_places_and_an_outcome_frees_one() -> None:
    desk = desk_with(ONE, calls=3)
    assert in_hand(desk) == IDS[:2]
    assert handed(desk.hears(ONE, Result(id=IDS[0]))) == [(ONE, IDS[2])]
    assert handed(desk.hears(ONE, Result(id=IDS[2]))) == []
    assert desk.state()["inflight"] == 1


def test_calls_go_to_replicas_in_turn() -> None:
    desk = desk_with(ONE, TWO, calls=4)
    assert (in_hand(desk, ONE), in_hand(desk, TWO)) == ([IDS[0], IDS[2]], [IDS[1], IDS[3]])


def test_an_outcome_that_is_repeated_frees_no_place_twice() -> None:
    desk = desk_with(ONE, calls=6)
    desk.hears(ONE, Result(id=IDS[0]))
    for _ in range(3):
        assert handed(desk.hears(ONE, Result(id=IDS[0]))) == []
    assert in_hand(desk) == IDS[1:3]


def test_a_replica_that_joins_again_has_the_places_that_it_says() -> None:
    """It runs one call and holds the outcomes of two."""
    desk = desk_with(ONE, slots=4, calls=3)
    for id in IDS[:2]:
        desk.hears(ONE, Result(id=id))
    desk.joins(slots=4, free=3, held=IDS[:3])
    for id in IDS[:2]:
        desk.hears(ONE, Result(id=id))
    for id in IDS[3:10]:
        desk.called(id=id)
    assert in_hand(desk) == IDS[2:6]
    assert handed(desk.hears(ONE, Result(id=IDS[2]))) == [(ONE, IDS[6])]


def test_a_new_router_finds_out_which_places_are_free() -> None:
    desk = Desk()
    desk.stands()
    desk.joins(slots=2, free=0, held=(ID, OTHER_ID))
    desk.called(id=THIRD_ID)
    desk.stands(BOB)
    desk.called(BOB, resend=True)
    assert handed(desk.hears(ONE, Result(id=ID))) == [(ONE, THIRD_ID)]
    assert handed(desk.hears(ONE, Result(id=OTHER_ID))) == []
    desk.called(id=IDS[0])
    assert set(in_hand(desk)) == {THIRD_ID, IDS[0]}


def test_a_cancelled_call_has_its_place_until_its_replica_says_that_it_is_over() -> None:
    desk = desk_with(ONE, slots=1, calls=2)
    desk.hears(ONE, Accept(id=IDS[0]))
    desk.hears(ANN, Cancel(id=IDS[0]))
    assert handed(desk.lives(1, ANN, pings=[ONE])) == []
    said = desk.hears(ONE, Error(id=IDS[0], code="cancelled", message="killed"))
    assert handed(said) == [(ONE, IDS[1])]


# Places that somebody else has


def test_a_busy_replica_gets_the_call_again_after_a_rest_and_not_at_once() -> None:
    desk = desk_with(ONE, calls=2)
    assert handed(desk.hears(ONE, busy(IDS[1]))) == []
    assert desk.phase(IDS[1]) == "queued"
    assert handed(desk.waits(REST_S / 2)) == []
    assert handed(desk.waits(REST_S)) == [(ONE, IDS[1])]


def test_a_replica_that_stays_busy_is_asked_ever_more_rarely() -> None:
    desk = desk_with(ONE, slots=1, calls=1)
    asked = 0
    end = desk.now + 10
    desk.hears(ONE, busy(IDS[0]))
    while desk.now < end:
        for replica, id in handed(desk.lives(0.001, ANN, pings=[ONE])):
            asked += 1
            assert desk.hears(replica, busy(id)) == []
    assert 30 <= asked <= 10 / REST_MAX_S + 10


def test_calls_that_cross_with_a_busy_are_one_refusal() -> None:
    desk = desk_with(ONE, slots=8, calls=8)
    for id in IDS[:8]:
        desk.hears(ONE, busy(id))
    assert [id for _, id in handed(desk.waits(1.5 * REST_S))] == [IDS[7]]


def test_an_outcome_ends_the_rest() -> None:
    desk = desk_with(ONE, slots=2, calls=3)
    desk.hears(ONE, busy(IDS[1]))
    assert handed(desk.hears(ONE, Result(id=IDS[0]))) == [(ONE, IDS[1])]


def test_places_that_were_taken_are_all_found_again() -> None:
    desk = desk_with(ONE, slots=4, calls=4)
    for id in IDS[1:4]:
        desk.hears(ONE, busy(id))
    desk.lives(5 * REST_MAX_S, ANN, pings=[ONE])
    assert len(in_hand(desk)) == 4


def test_places_that_a_replica_joins_without_are_found() -> None:
    desk = desk_with()
    desk.joins(slots=2, free=0)
    desk.called()
    assert handed(desk.lives(2 * REST_MAX_S, ANN, pings=[ONE])) == [(ONE, ID)]


def test_a_replica_for_one_call_that_joins_again_with_it_is_given_no_other() -> None:
    desk = desk_with()
    desk.joins(once=True)
    desk.joins(once=True, free=0, held=(OTHER_ID,))
    desk.called()
    assert handed(desk.lives(2 * REST_MAX_S, ANN, pings=[ONE])) == []


def test_a_busy_to_a_question_takes_no_place() -> None:
    desk = desk_with(ONE, calls=1)
    desk.joins(slots=2, free=2)
    assert handed(desk.hears(ONE, busy(IDS[0]))) == [(ONE, IDS[0])]


def test_a_call_that_could_not_be_sent_gives_its_place_back() -> None:
    desk = desk_with(ONE, slots=1, calls=1)
    desk.sees(Unreachable(ONE, IDS[0]))
    assert desk.state()["inflight"] == 0
    assert handed(desk.joins(slots=1, free=1)) == [(ONE, IDS[0])]


# How many at once


def test_no_more_calls_run_than_may() -> None:
    desk = desk_with(ONE, TWO, calls=4, max_inflight=3)
    assert desk.state()["inflight"] == 3
    assert desk.phase(IDS[3]) == "queued"
    assert handed(desk.hears(TWO, Result(id=IDS[1]))) == [(TWO, IDS[3])]


def test_what_a_replica_holds_unasked_counts() -> None:
    desk = desk_with(max_inflight=1)
    desk.joins(slots=2, free=1, held=(ID,))
    assert handed(desk.called(id=OTHER_ID)) == []
    assert desk.called(id=ID, resend=True) != []
    assert handed(desk.hears(ONE, Result(id=ID))) == [(ONE, OTHER_ID)]


def test_a_higher_limit_lets_calls_go_at_once() -> None:
    desk = desk_with(ONE, TWO, calls=4, max_inflight=1)
    more = Catalogue({"add": ()}, rules={"add": Rules(max_inflight=2)})
    assert len(handed(desk.sees(more))) == 1
    assert len(handed(desk.sees(Catalogue({"add": ()})))) == 2


def _acknowledged(desk: Desk) -> list[tuple[bytes, Message]]:
    return desk.hears(ANN, Ack(id=IDS[0]))  # it was answered by another router


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda desk: desk.hears(ONE, Result(id=IDS[0])), id="an answer"),
        pytest.param(
            lambda desk: desk.hears(ONE, Error(id=IDS[0], code="function_error", message="no")),
            id="an error",
        ),
        pytest.param(lambda desk: desk.hears(ONE, bye()), id="a farewell"),
        pytest.param(lambda desk: desk.hears(ONE, failed()), id="a failure"),
        pytest.param(_acknowledged, id="an acknowledgement"),
        pytest.param(lambda desk: desk.lives(12, ANN, pings=[TWO]), id="a loss"),
        pytest.param(
            lambda desk: [*desk.hears(ANN, Cancel(id=IDS[0])), *desk.waits(1)], id="a cancellation"
        ),
        pytest.param(
            lambda desk: desk.joins(ONE, session="ee" * 16), id="another life of the replica"
        ),
    ],
)
def test_however_a_call_ends_the_next_may_run(end: Any) -> None:
    desk = desk_with(ONE, TWO, slots=1, calls=2, max_inflight=1)
    assert in_hand(desk) == [IDS[0]]
    assert handed(end(desk))[:1] in ([(TWO, IDS[1])], [(TWO, IDS[0])])
    assert desk.state()["inflight"] == 1


def test_a_call_whose_caller_is_gone_lets_the_next_run() -> None:
    desk = desk_with(ONE, TWO, slots=1, calls=1, max_inflight=1)
    desk.stands(BOB)
    desk.called(BOB, id=OTHER_ID)
    assert handed(desk.lives(12, BOB, pings=[ONE, TWO])) == [(TWO, OTHER_ID)]


# All of it in any order


@given(
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.none() | st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2),
)
@settings(max_examples=300, deadline=None)
def test_places_and_limits_hold_whatever_is_said(
    seed: int, slots: int, limit: int | None, idempotent: bool, retries: int
) -> None:
    rules = Rules(idempotent=idempotent, retries=retries, backoff=0.05, max_inflight=limit)
    chance = random.Random(seed)
    desk = desk_with(max_inflight=limit)
    desk.sees(Catalogue({"add": ()}, rules={"add": rules}))
    made: list[str] = []
    for _ in range(chance.randrange(1, 80)):
        replica = chance.choice([ONE, TWO, THREE])
        id = chance.choice(made) if made else ID
        match chance.randrange(12):
            case 0 | 1 | 2:
                made.append(IDS[len(made) % len(IDS)])
                desk.called(id=made[-1], resend=chance.random() < 0.2)
            case 3 | 4:
                held = chance.sample(made, chance.randrange(min(len(made), 2) + 1))
                desk.joins(replica, slots=slots, free=chance.randrange(slots + 1), held=held)
            case 5:
                desk.hears(replica, Accept(id=id))
            case 6:
                desk.hears(replica, Result(id=id))
            case 7:
                code = chance.choice(["function_error", "init_failed", "cancelled"])
                safe = code == "init_failed"
                desk.hears(replica, Error(id=id, code=code, message="no", retry_safe=safe))
            case 8:
                desk.hears(replica, busy(id, replica))
            case 9:
                desk.hears(ANN, chance.choice([Ack(id=id), Cancel(id=id)]))
            case 10:
                event = chance.choice([Bye(replica="x", session=SESSIONS[replica]), None])
                if event is None:
                    desk.sees(Unreachable(replica, id))
                else:
                    desk.hears(replica, event)
            case _:
                desk.lives(chance.choice([0.01, 0.3, 2.0]), ANN, pings=[ONE, TWO, THREE])
        check(desk, limit)


def check(desk: Desk, limit: int | None) -> None:
    rows, open = desk.dispatch._replicas, desk.dispatch._ledger.open
    for pool in rows.pools.values():
        replicas = [rows.row(peer) for peer in pool.replicas]
        assert pool.inflight == sum(len(r.running) + len(r.orphans) for r in replicas)
        assert pool.leaving == sum(r.leaving for r in replicas)
        for replica in replicas:
            given = {id for id, call in replica.calls.items() if call.phase.value != "answered"}
            assert replica.running == given & replica.running
            assert replica.running <= {i for i, c in open.items() if c.replica == replica.peer}
            assert replica.free >= 0
            assert (replica.peer in pool.free) <= (replica.free > 0)
        if pool.queue and pool.free and limit is not None:
            standing = [r for r in replicas if r.peer in pool.free and not r.is_suspect(desk.now)]
            assert pool.inflight >= limit or not standing
    sent = [call for call in open.values() if call.phase.value in ("sent", "running")]
    for call in sent:
        assert call.replica is not None
        assert call.id in rows.row(call.replica).running


# When more are asked for


def demanded(desk: Desk) -> set[str]:
    assert desk.dispatch.is_demanding == bool(desk.dispatch._waiting.demanding)
    return set(desk.dispatch.demanding(desk.now))


def test_a_call_that_nobody_will_take_is_told_of_once() -> None:
    desk = desk_with(calls=1)
    (told,) = desk.dispatch.demanding(desk.now).values()
    assert (told["queued"], told["starting"], told["free"]) == (1, 0, 0)
    assert "replicas" not in told
    assert demanded(desk) == set()


def test_calls_that_what_starts_can_take_are_not() -> None:
    desk = Desk()
    desk.sees(Catalogue({"add": ()}, wanted={"add": 2}))
    desk.stands()
    for id in IDS[:2]:
        desk.called(id=id)
    assert (demanded(desk), desk.state()["starting"]) == (set(), 2)
    desk.called(id=IDS[2])
    assert demanded(desk) == {"add"}


def test_calls_for_which_there_are_replicas_or_that_may_not_run_are_not() -> None:
    assert demanded(desk_with(ONE, slots=1, calls=1)) == set()
    assert demanded(desk_with(ONE, slots=1, calls=2)) == {"add"}
    assert demanded(desk_with(ONE, slots=1, calls=2, max_inflight=1)) == set()


def test_functions_that_nobody_has_told_of_are_not() -> None:
    desk = Desk()
    desk.stands()
    desk.called()
    assert demanded(desk) == set()


def test_a_call_before_its_caller_has_echoed_is_told_of_at_once() -> None:
    desk = Desk()
    desk.sees(Catalogue({"add": ()}, wanted={"add": 0}))
    desk.called()
    assert demanded(desk) == {"add"}


# What is measured


def test_the_status_tells_the_load_of_a_function() -> None:
    desk = desk_with(ONE, slots=1)
    desk.joins(TWO, once=True)
    desk.called(id=IDS[0])
    desk.called(id=IDS[1])
    desk.called(id=IDS[2])
    desk.waits(0.5)
    state = desk.state()
    assert (state["inflight"], state["queued"], state["waiting_s"]) == (2, 1, 0.5)
    assert (state["arrivals"], state["arrivals_fast"]) == (pytest.approx(0.05), 0.5)
    assert (state["service_s"], state["recycle_s"], state["last_call_s"]) == (None, None, 0.5)
    desk.hears(TWO, Result(id=IDS[1]))
    assert desk.state()["service_s"] == 0.5
    assert desk.state()["starting"] == 0, "one was wanted"
    desk.waits(0.7)
    desk.hears(b"four", _ready_after("add.two"))
    assert desk.state()["recycle_s"] == pytest.approx(0.7)


def _ready_after(name: str) -> Message:
    return Ready(function="add", replica=name, session="dd" * 16, once=True)


def test_a_replica_for_one_call_is_missing_once_it_has_answered() -> None:
    desk = Desk()
    desk.sees(Catalogue({"add": ()}, wanted={"add": 1}))
    desk.stands()
    desk.joins(once=True)
    desk.called()
    assert desk.state()["starting"] == 0
    desk.hears(ONE, Result(id=ID))
    assert (desk.state()["starting"], desk.state()["inflight"]) == (1, 0)
    desk.hears(ANN, Ack(id=ID))
    assert desk.state()["starting"] == 1


def test_a_resent_call_is_no_new_arrival() -> None:
    desk = desk_with()
    desk.called(resend=True)
    desk.lives(5, ANN)
    assert desk.state()["last_call_s"] is None


def test_functions_that_were_told_of_have_a_status_before_anybody_calls() -> None:
    desk = Desk()
    desk.sees(Catalogue({"add": ()}, wanted={"add": 3}))
    assert desk.dispatch.status(desk.now)["add"]["starting"] == 3
