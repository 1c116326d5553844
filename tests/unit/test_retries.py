"""Calls that are tried again: which, when, how often, and what their callers hear."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.controller.calls import KEPT_BODY
from funker.controller.liveness import LOST_S, SWEEP_S
from funker.controller.recovery import RECOVERY_S
from funker.controller.replicas import FAILED_S
from funker.controller.retries import BACKOFF_MAX_S, LOST_TRIES, delay
from funker.controller.tables import Catalogue, Rules
from funker.rpc.messages import Accept, Ack, Busy, Call, Cancel, Error, Message, Result
from tests.unit.desk import (
    ANN,
    DEADLINE_S,
    ID,
    ONE,
    OTHER_ID,
    SESSIONS,
    THREE,
    TWO,
    Desk,
    asked,
    done,
    error,
    errors,
    failed,
    handed,
)

CRASHED = Error(id=ID, code="function_crashed", message="exit status 3", replica="add.one")
UNLOADED = Error(id=ID, code="init_failed", message="ImportError: no", retry_safe=True)


def policy(**rules: Any) -> Catalogue:
    return Catalogue({"add": ()}, wanted={"add": 3}, rules={"add": Rules(**rules)})


def sent(*others: bytes, call: dict[str, Any] | None = None, **rules: Any) -> Desk:
    """A call of a function with these rules is with the first replica; others are free."""
    desk = Desk()
    desk.sees(policy(**rules))
    desk.stands()
    assert desk.called(**(call or {})) == []
    for replica in (ONE, *others):
        desk.joins(replica, once=True)
    assert desk.phase() == "sent"
    return desk


def acks(said: list[tuple[bytes, Message]]) -> list[tuple[bytes, str]]:
    return [(peer, m.id) for peer, m in said if isinstance(m, Ack)]


# Which


@pytest.mark.parametrize("code", ["function_error", "function_crashed", "function_timeout"])
@pytest.mark.parametrize("who", ["the function", "the call"])
def test_a_failure_of_a_call_that_may_run_twice_is_tried_again(code: str, who: str) -> None:
    declared = {"idempotent": True}
    by_call, by_function = (declared, {}) if who == "the call" else ({}, declared)
    desk = sent(TWO, call=by_call, retries=2, backoff=0.1, **by_function)
    said = desk.hears(ONE, CRASHED.replace(code=code))
    assert said == [(ONE, Ack(id=ID))], "the replica is acknowledged, the caller hears nothing"
    assert desk.phase() == "retrying"
    said = desk.lives(0.1, ANN, pings=[TWO])
    assert handed(said) == [(TWO, ID)]
    (call,) = [m for _, m in said if isinstance(m, Call)]
    assert (call.attempt, call.body) == (2, b"{}")
    assert desk.hears(TWO, Result(id=ID, body=b"3")) == [(ANN, Result(id=ID, body=b"3"))]
    desk.hears(ANN, Ack(id=ID))
    assert (desk.record.outcome, desk.record.attempt) == ("ok", 2)
    assert len(desk.records) == 1, "a call is logged once, however often it was tried"


@pytest.mark.parametrize(
    ("outcome", "rules"),
    [
        pytest.param(CRASHED, {"retries": 5}, id="it may have run"),
        pytest.param(CRASHED, {"idempotent": True}, id="nobody wants it to be tried again"),
        pytest.param(UNLOADED, {}, id="nobody wants it, though it never ran"),
        pytest.param(
            CRASHED.replace(code="cancelled"), {"retries": 5, "idempotent": True}, id="cancelled"
        ),
        pytest.param(
            UNLOADED.replace(code="payload_too_large"), {"retries": 5}, id="it would fail again"
        ),
        pytest.param(
            UNLOADED.replace(code="deadline_exceeded"), {"retries": 5}, id="there is no time"
        ),
    ],
)
def test_other_failures_are_outcomes(outcome: Error, rules: dict[str, Any]) -> None:
    desk = sent(TWO, **rules)
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    assert desk.phase() == "answered"


def test_a_call_that_certainly_did_not_start_is_tried_again_by_any_function() -> None:
    desk = sent(TWO, retries=1, backoff=0.1)
    assert acks(desk.hears(ONE, UNLOADED)) == [(ONE, ID)]
    assert desk.phase() == "retrying"
    desk.hears(ANN, Cancel(id=ID))
    assert desk.records[-1].outcome == "cancelled"


def test_a_call_whose_body_is_not_here_any_more_is_not_tried_again() -> None:
    desk = sent(TWO, call={"body": b"x" * (KEPT_BODY + 1)}, retries=1)
    desk.hears(ONE, Accept(id=ID))
    desk.sees(policy(retries=1, idempotent=True))
    assert errors(desk.hears(ONE, CRASHED)) == [(ANN, "function_crashed", False)]


def test_a_large_body_is_kept_for_the_next_try() -> None:
    body = b"x" * (KEPT_BODY + 1)
    desk = sent(TWO, call={"body": body}, retries=1, idempotent=True, backoff=0.1)
    desk.hears(ONE, Accept(id=ID))
    desk.hears(ONE, CRASHED)
    said = desk.lives(0.2, ANN, pings=[TWO])
    assert [m.body for _, m in said if isinstance(m, Call)] == [body]


# How often, and when


def test_the_last_error_is_told_with_the_number_of_tries() -> None:
    desk = sent(TWO, THREE, retries=2, backoff=0.01, idempotent=True)
    desk.hears(ONE, CRASHED)
    assert handed(desk.lives(0.25, ANN, pings=[TWO, THREE])) == [(TWO, ID)]
    desk.hears(TWO, CRASHED)
    assert handed(desk.lives(0.25, ANN, pings=[THREE])) == [(THREE, ID)]
    said = desk.hears(THREE, CRASHED)
    assert errors(said) == [(ANN, "function_crashed", False)]
    assert error(said).message == "exit status 3 (attempt 3)"
    assert desk.record.message == "exit status 3 (attempt 3)"
    assert desk.called(resend=True) == [(ANN, error(said))], "who asks again hears the same"
    assert desk.hears(ANN, Ack(id=ID)) == [(THREE, Ack(id=ID))]


def test_a_call_isnt_tried_before_its_backoff_is_over() -> None:
    desk = sent(TWO, retries=1, backoff=4.0, idempotent=True)
    desk.hears(ONE, CRASHED)
    wait = delay(ID, 1, 4.0)
    assert 0.5 < wait < 4
    assert handed(desk.lives(wait - 0.01, ANN, pings=[TWO])) == []
    assert handed(desk.lives(0.02, ANN, pings=[TWO])) == [(TWO, ID)]


def test_nobody_waits_for_a_try_that_would_come_after_the_deadline() -> None:
    desk = sent(TWO, call={"deadline_ms": 400}, retries=1, backoff=60.0, idempotent=True)
    said = desk.hears(ONE, CRASHED)
    assert errors(said) == [(ANN, "function_crashed", False)]
    assert error(said) == CRASHED


@given(
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.integers(1, 2000),
    st.floats(0.001, 60),
)
def test_a_delay_is_below_its_bound_and_the_same_whoever_computes_it(
    id: str, attempt: int, backoff: float
) -> None:
    assert 0 <= delay(id, attempt, backoff) < BACKOFF_MAX_S
    assert delay(id, attempt, backoff) <= backoff * 2.0 ** min(attempt - 1, 100)
    assert delay(id, attempt, backoff) == delay(id, attempt, backoff)


def test_delays_are_spread_over_the_whole_bound() -> None:
    shares = sorted(delay(f"{n:032x}", 3, 1.0) / 4 for n in range(1000))
    assert all(abs(share - n / 1000) < 0.06 for n, share in enumerate(shares))


def test_a_call_that_waits_for_its_next_try_is_cancelled_at_once() -> None:
    desk = sent(TWO, retries=1, backoff=9.0, idempotent=True)
    desk.hears(ONE, CRASHED)
    assert errors(desk.hears(ANN, Cancel(id=ID))) == [(ANN, "cancelled", False)]
    assert handed(desk.lives(10, ANN, pings=[TWO])) == []


def test_a_call_that_waits_in_the_queue_for_its_next_try_expires_with_the_last_error() -> None:
    desk = sent(retries=1, backoff=0.1, idempotent=True)
    desk.hears(ONE, CRASHED)
    said = desk.lives(DEADLINE_S, ANN)
    assert errors(said) == [(ANN, "deadline_exceeded", False)]
    assert "attempt 1 failed: function_crashed: exit status 3" in error(said).message


def test_a_call_whose_caller_is_gone_is_not_tried_again() -> None:
    desk = sent(TWO, retries=1, backoff=40.0, idempotent=True)
    desk.hears(ONE, CRASHED)
    assert handed(desk.lives(50, pings=[TWO])) == []
    assert desk.phase() is None


def test_a_call_that_was_cancelled_is_not_tried_again() -> None:
    desk = sent(TWO, retries=1, idempotent=True)
    desk.hears(ANN, Cancel(id=ID))
    assert errors(desk.hears(ONE, CRASHED)) == [(ANN, "function_crashed", False)]


def test_a_call_of_a_function_that_was_removed_meanwhile_is_told() -> None:
    desk = sent(retries=1, backoff=0.1, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.sees(Catalogue({}))
    assert errors(desk.lives(0.2, ANN)) == [(ANN, "function_not_found", False)]


# Lost replicas


def lost(desk: Desk, *pings: bytes) -> list[tuple[bytes, Message]]:
    return desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=pings)


def test_a_call_that_may_run_twice_is_tried_again_at_once_when_its_replica_is_lost() -> None:
    desk = sent(TWO, idempotent=True)
    assert handed(lost(desk, TWO)) == [(TWO, ID)]


def test_a_call_that_loses_replica_after_replica_is_given_up() -> None:
    desk = sent(idempotent=True, call={"deadline_ms": 600_000})
    for attempt in range(1, LOST_TRIES):
        assert errors(lost(desk)) == []
        assert handed(desk.joins(TWO if attempt % 2 else ONE, once=True)) != []
    said = lost(desk)
    assert errors(said) == [(ANN, "replica_lost", False)]
    assert error(said).message.endswith(f"(attempt {LOST_TRIES})")


def test_a_call_that_may_not_run_twice_is_lost_with_its_replica() -> None:
    desk = sent(TWO, retries=9)
    assert errors(lost(desk, TWO)) == [(ANN, "replica_lost", False)]


# Functions that can't be loaded


def test_calls_of_a_function_that_cant_load_are_tried_again_too() -> None:
    desk = Desk()
    desk.sees(policy(retries=1, backoff=0.1))
    desk.stands()
    desk.called()
    assert errors(desk.hears(ONE, failed())) == []
    assert desk.phase() == "retrying"
    said = desk.lives(0.2, ANN)
    assert errors(said) == [(ANN, "init_failed", True)]
    assert error(said).message == "ImportError: no numpy (attempt 2)"


def test_a_call_that_waits_out_a_failure_is_served() -> None:
    desk = Desk()
    desk.sees(policy(retries=5, backoff=30.0))
    desk.stands()
    desk.called()
    desk.hears(ONE, failed())
    desk.lives(FAILED_S / 2, ANN)
    desk.joins(TWO)
    assert handed(desk.lives(30, ANN, pings=[TWO])) == [(TWO, ID)]


# What is repeated, and restarts


def test_an_error_that_is_repeated_counts_once() -> None:
    desk = sent(retries=3, backoff=0.1, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.joins(ONE, once=True, free=0, held=(ID,))
    for _ in range(3):
        assert acks(desk.hears(ONE, CRASHED)) == [(ONE, ID)]
    assert desk.phase() == "retrying"
    desk.joins(TWO, once=True)
    said = desk.lives(0.2, ANN, pings=[TWO])
    assert [m.attempt for _, m in said if isinstance(m, Call)] == [2]


def test_a_replica_that_comes_back_with_an_error_that_was_taken_is_acknowledged() -> None:
    desk = sent(retries=3, backoff=9.0, idempotent=True)
    desk.hears(ONE, CRASHED)
    said = desk.joins(ONE, once=True, free=0, held=(ID,))
    assert (acks(said), asked(said)) == ([(ONE, ID)], [])
    assert desk.hears(ONE, Accept(id=ID)) == []
    assert desk.phase() == "retrying"


def test_a_replica_that_stays_may_get_the_next_try_as_well() -> None:
    desk = Desk()
    desk.sees(policy(retries=1, backoff=0.1, idempotent=True))
    desk.stands()
    desk.joins(slots=2, free=2)
    desk.called()
    desk.hears(ONE, CRASHED)
    assert handed(desk.lives(0.2, ANN, pings=[ONE])) == [(ONE, ID)]
    assert errors(desk.hears(ONE, CRASHED)) == [(ANN, "function_crashed", False)]
    assert error([(ANN, desk.called(resend=True)[0][1])]).message.endswith("(attempt 2)")


def test_an_answer_that_comes_from_another_replica_meanwhile_is_taken() -> None:
    desk = sent(retries=1, backoff=9.0, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.joins(TWO, once=True, free=0)
    assert desk.hears(TWO, Result(id=ID)) == [(ANN, Result(id=ID))]
    assert handed(desk.lives(10, ANN)) == []


def test_a_new_router_tries_again_what_the_function_declares_to_be_harmless() -> None:
    desk = Desk(old=False)
    desk.sees(policy(retries=1, idempotent=True))
    desk.stands()
    desk.called(resend=True, accepted_by="add.one")
    desk.joins(TWO, once=True)
    assert handed(desk.lives(RECOVERY_S + 0.1, ANN, pings=[TWO])) == [(TWO, ID)]


def test_a_new_router_doesnt_try_again_what_may_have_run() -> None:
    desk = Desk(old=False)
    desk.sees(policy(retries=1))
    desk.stands()
    desk.called(resend=True, accepted_by="add.one")
    desk.joins(TWO, once=True)
    said = desk.lives(RECOVERY_S + 0.1, ANN, pings=[TWO])
    assert errors(said) == [(ANN, "replica_lost", False)]
    assert handed(said) == []


def test_a_busy_replica_costs_no_try() -> None:
    desk = sent(retries=1, backoff=0.01)
    desk.hears(ONE, Busy(id=ID, session=SESSIONS[ONE]))
    assert handed(desk.joins(TWO, once=True)) == [(TWO, ID)]
    desk.hears(ANN, Ack(id=ID))
    assert desk.phase() is None


def test_calls_that_wait_for_a_try_leave_nothing_behind() -> None:
    desk = sent(TWO, retries=1, backoff=0.1, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.hears(ANN, Ack(id=ID))
    assert desk.phase() is None
    assert handed(desk.lives(1, ANN, pings=[TWO])) == []
    assert handed(desk.called(id=OTHER_ID)) == [(TWO, OTHER_ID)]
    assert done().state()["inflight"] == 0


def test_a_last_error_that_its_replica_repeats_is_told_as_it_was() -> None:
    desk = sent(TWO, retries=1, backoff=0.01, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.lives(0.1, ANN, pings=[TWO])
    told = error(desk.hears(TWO, CRASHED))
    assert told.message.endswith("(attempt 2)")
    assert desk.hears(TWO, CRASHED) == [(ANN, told)]


def test_a_call_that_has_run_is_never_said_to_be_safe_whatever_its_last_try_was() -> None:
    desk = sent(TWO, retries=1, backoff=0.01, idempotent=True)
    desk.hears(ONE, CRASHED)
    desk.lives(0.1, ANN, pings=[TWO])
    assert errors(desk.hears(TWO, UNLOADED)) == [(ANN, "init_failed", False)]
