"""What becomes of each call in the router, transition by transition."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from funker.controller.callers import AWAY_S, BACK_S, DISPATCH_S
from funker.controller.calls import KEPT_BODY
from funker.controller.ended import REMEMBER_S, Ended
from funker.controller.forward import json_text, pong
from funker.controller.liveness import LOST_S, PROBE_S, RETURN_S, SUSPECT_S, SWEEP_S
from funker.controller.names import NEXT_S
from funker.controller.recovery import RECOVERY_S
from funker.controller.replicas import FAILED_MAX_S, FAILED_S, FAILURE_S
from funker.controller.status import nothing
from funker.controller.tables import (
    GRACE_S,
    Catalogue,
    Limits,
    Printed,
    Record,
    Tick,
    Unreachable,
)
from funker.controller.waiting import ROUTED_S
from funker.rpc.messages import (
    PROTOCOL,
    Accept,
    Ack,
    Busy,
    Call,
    Cancel,
    Error,
    Message,
    Output,
    Ping,
    Pong,
    Result,
    encode,
)
from tests.unit.desk import (
    ANN,
    BOB,
    DEADLINE_S,
    ID,
    ONE,
    OTHER_ID,
    SESSIONS,
    THIRD_ID,
    THREE,
    TWO,
    Desk,
    a_call,
    a_ready,
    answered,
    asked,
    bye,
    done,
    error,
    errors,
    failed,
    handed,
    queued,
    recovering,
    running,
    sent,
)

JUST = 1e-6


# QUEUED


def test_a_queued_call_goes_to_a_replica_that_becomes_free() -> None:
    desk = queued()
    ready = a_ready()
    ((peer, call),) = desk.hears(ONE, ready)
    assert peer == ONE
    assert call == a_call(session=ready.session)
    assert desk.phase() == "sent"


def test_a_call_goes_at_once_to_a_free_replica_and_to_the_longest_idle_one() -> None:
    desk = Desk()
    desk.stands()
    desk.joins(ONE)
    desk.joins(TWO)
    assert handed(desk.called()) == [(ONE, ID)]
    assert handed(desk.called(id=OTHER_ID)) == [(TWO, OTHER_ID)]
    assert handed(desk.called(id=THIRD_ID)) == []


def test_a_replica_hears_what_is_left_of_the_deadline() -> None:
    desk = queued()
    desk.lives(20, ANN)
    ((_, call),) = desk.joins()
    assert isinstance(call, Call)
    assert call.deadline_ms == 40_000


def test_queued_calls_go_out_first_come_first_served() -> None:
    desk = queued()
    desk.called(id=OTHER_ID)
    desk.called(id=THIRD_ID)
    assert handed(desk.joins(free=2)) == [(ONE, ID), (ONE, OTHER_ID)]


def test_a_queued_call_that_is_cancelled_ends_at_once_and_never_ran() -> None:
    desk = queued()
    assert errors(desk.hears(ANN, Cancel(id=ID))) == [(ANN, "cancelled", True)]
    assert desk.state()["queued"] == 0
    assert desk.record.outcome == "cancelled"
    assert handed(desk.joins()) == []


def test_a_queued_call_whose_deadline_passes_ends_and_never_ran() -> None:
    desk = queued()
    assert errors(desk.lives(DEADLINE_S - 0.01, ANN)) == []
    ended = error(desk.lives(0.02, ANN))
    assert (ended.code, ended.retry_safe) == ("deadline_exceeded", True)
    assert "waited 60 s in the queue; 0 replicas" in ended.message
    assert ended.hint
    assert handed(desk.joins()) == []


def test_a_queued_call_whose_caller_is_gone_is_never_run() -> None:
    desk = queued()
    assert desk.waits(LOST_S + SWEEP_S + JUST) == []
    assert desk.state()["queued"] == 0
    assert desk.record.message == "its caller is gone"
    assert handed(desk.joins()) == []


def test_a_call_without_a_deadline_has_the_default_one() -> None:
    desk = queued(deadline_ms=None)
    assert errors(desk.lives(119, ANN)) == []
    assert errors(desk.lives(2, ANN)) == [(ANN, "deadline_exceeded", True)]


# SENT


def test_an_accept_makes_it_running_and_reaches_the_caller() -> None:
    desk = sent()
    accept = Accept(id=ID, replica="add.one")
    assert desk.hears(ONE, accept) == [(ANN, accept)]
    assert desk.phase() == "running"


def test_a_busy_replica_puts_the_call_back_to_the_head() -> None:
    desk = sent()
    desk.called(id=OTHER_ID)
    assert desk.hears(ONE, Busy(id=ID)) == []
    assert desk.phase() == "queued"
    assert handed(desk.joins(TWO)) == [(TWO, ID)]
    assert handed(desk.joins(THREE)) == [(THREE, OTHER_ID)]


def test_a_busy_replica_for_one_call_is_not_asked_again_before_it_is_ready() -> None:
    desk = queued()
    desk.joins(once=True)
    desk.hears(ONE, Busy(id=ID))
    assert handed(desk.lives(5, ANN, pings=[ONE])) == []
    assert handed(desk.joins(once=True)) == [(ONE, ID)]


def test_a_bye_that_lacks_the_call_puts_it_back_to_the_head() -> None:
    desk = sent(TWO)
    assert handed(desk.hears(ONE, bye())) == [(TWO, ID)]
    assert desk.hears(ONE, Busy(id=ID)) == [], "the crossing CALL's answer changes nothing"
    assert desk.phase() == "sent"


def test_a_bye_that_holds_the_call_leaves_it_there() -> None:
    desk = sent(TWO)
    assert desk.hears(ONE, bye(ONE, ID)) == [(ONE, Ack(id=SESSIONS[ONE]))]
    assert desk.phase() == "sent"


def test_a_replica_for_one_call_gets_no_other_after_its_outcome() -> None:
    desk = queued()
    desk.joins(once=True)
    desk.called(id=OTHER_ID)
    assert handed(desk.hears(ONE, Result(id=ID))) == []
    assert handed(desk.joins(TWO, once=True)) == [(TWO, OTHER_ID)]


def test_a_replica_for_one_call_that_has_refused_it_gets_another() -> None:
    desk = queued()
    desk.joins(once=True)
    desk.called(id=OTHER_ID)
    refusal = Error(id=ID, code="deadline_exceeded", message="late", retry_safe=True)
    assert handed(desk.hears(ONE, refusal)) == [(ONE, OTHER_ID)]


def test_a_call_that_could_not_be_sent_goes_to_another_replica_at_once() -> None:
    desk = sent(TWO)
    assert handed(desk.sees(Unreachable(ONE, ID))) == [(TWO, ID)]
    assert desk.state()["replicas"][0]["state"] != "free"


def test_a_replica_that_is_lost_with_a_call_loses_it() -> None:
    desk = sent(TWO)
    said = desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=[TWO])
    assert errors(said) == [(ANN, "replica_lost", False)]
    assert "may have run" in error(said).message
    assert handed(said) == []


def test_an_idempotent_call_whose_replica_is_lost_is_made_again() -> None:
    desk = sent(TWO, idempotent=True)
    said = desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=[TWO])
    assert handed(said) == [(TWO, ID)]
    (call,) = [m for _, m in said if isinstance(m, Call)]
    assert call.attempt == 2
    desk.hears(ANN, Cancel(id=ID))
    desk.waits(GRACE_S + JUST)
    assert desk.record.attempt == 2


def test_a_sent_call_that_is_cancelled_is_cancelled_at_the_replica() -> None:
    desk = sent()
    assert desk.hears(ANN, Cancel(id=ID)) == [(ONE, Cancel(id=ID))]
    assert desk.hears(ANN, Cancel(id=ID)) == []
    assert errors(desk.hears(ONE, Busy(id=ID))) == [(ANN, "cancelled", True)]


def test_a_refusal_is_an_outcome_and_frees_the_replica() -> None:
    desk = sent()
    refusal = Error(id=ID, code="payload_too_large", message="too much", retry_safe=True)
    assert desk.hears(ONE, refusal) == [(ANN, refusal)]
    assert desk.state()["free"] == 0
    desk.hears(ANN, Ack(id=ID))
    assert desk.state()["free"] == 1
    assert handed(desk.called(id=OTHER_ID)) == [(ONE, OTHER_ID)]


def test_a_refusal_frees_the_replica_for_who_waits() -> None:
    desk = sent()
    desk.called(id=OTHER_ID)
    refusal = Error(id=ID, code="payload_too_large", message="too much", retry_safe=True)
    assert handed(desk.hears(ONE, refusal)) == [(ONE, OTHER_ID)]


def test_a_refusal_that_comes_after_the_end_frees_the_replica_too() -> None:
    desk = sent()
    desk.hears(ANN, Cancel(id=ID))
    desk.waits(GRACE_S + JUST)
    desk.hears(ONE, Error(id=ID, code="payload_too_large", message="too much", retry_safe=True))
    desk.stands()
    assert handed(desk.called(id=OTHER_ID)) == [(ONE, OTHER_ID)]


# RUNNING


@pytest.mark.parametrize(
    "outcome",
    [Result(id=ID, body=b"3"), Error(id=ID, code="function_error", message="ValueError: no")],
)
def test_an_outcome_reaches_the_caller(outcome: Result | Error) -> None:
    desk = running()
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    assert desk.phase() == "answered"


def test_the_log_is_told_of_an_outcome_with_its_times() -> None:
    desk = queued()
    desk.lives(1, ANN)
    desk.joins()
    desk.lives(0.5, ANN)
    desk.hears(ONE, Accept(id=ID))
    desk.lives(0.25, ANN)
    desk.hears(ONE, Result(id=ID, replica="add.one"))
    assert desk.record == Record(
        id=ID,
        function="add",
        outcome="ok",
        replica="add.one",
        at=desk.now,
        queue_ms=1000,
        start_ms=500,
        run_ms=250,
        attempt=1,
        output_tail="",
        message="",
    )


def test_the_log_is_told_of_an_error_with_its_output() -> None:
    desk = running()
    code, tail = "function_error", "printed"
    desk.hears(ONE, Error(id=ID, code=code, message="no", replica="add.one", output_tail=tail))
    record = desk.record
    assert (record.outcome, record.output_tail, record.message) == (code, tail, "no")


def test_what_a_call_printed_is_told_to_the_log() -> None:
    desk = done()
    assert desk.hears(ONE, Output(id=ID, text="hello\n")) == []
    assert desk.printed == [Printed(ID, "hello\n")]


def test_a_running_call_that_is_cancelled_hears_it_from_its_replica() -> None:
    desk = running()
    assert desk.hears(ANN, Cancel(id=ID)) == [(ONE, Cancel(id=ID))]
    outcome = Error(id=ID, code="cancelled", message="the caller cancelled it")
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]


def test_a_cancelled_call_whose_replica_says_nothing_ends_after_the_grace() -> None:
    desk = running()
    desk.hears(ANN, Cancel(id=ID))
    assert errors(desk.waits(GRACE_S - JUST)) == []
    assert errors(desk.waits(2 * JUST)) == [(ANN, "cancelled", False)]


def test_a_running_call_past_its_deadline_waits_for_its_replicas_word() -> None:
    desk = running()
    assert errors(desk.lives(DEADLINE_S + GRACE_S - 0.01, ANN, pings=[ONE])) == []
    outcome = Error(id=ID, code="deadline_exceeded", message="the caller's deadline passed")
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]


def test_a_replica_that_says_nothing_past_the_deadline_is_told_to_stop() -> None:
    desk = running()
    said = desk.lives(DEADLINE_S + GRACE_S + 0.01, ANN, pings=[ONE])
    assert said == [
        (ONE, Cancel(id=ID)),
        (ANN, error(said)),
    ]
    assert error(said).code == "deadline_exceeded"


def test_a_running_call_whose_caller_is_gone_is_stopped() -> None:
    desk = running()
    assert desk.lives(LOST_S + SWEEP_S, pings=[ONE]) == [(ONE, Cancel(id=ID))]
    assert desk.phase() is None
    late = Error(id=ID, code="cancelled", message="the caller cancelled it")
    assert desk.hears(ONE, late) == [(ONE, Ack(id=ID))]


def test_a_running_call_whose_replica_is_lost_may_have_run() -> None:
    desk = running(TWO)
    said = desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=[TWO])
    assert errors(said) == [(ANN, "replica_lost", False)]


def test_a_running_idempotent_call_whose_replica_is_lost_is_made_again() -> None:
    desk = running(TWO, idempotent=True)
    assert handed(desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=[TWO])) == [(TWO, ID)]


def test_a_running_call_that_its_replica_denies_is_lost() -> None:
    assert errors(running().hears(ONE, Busy(id=ID))) == [(ANN, "replica_lost", False)]


def test_only_the_word_of_the_calls_own_replica_counts() -> None:
    desk = running(TWO)
    assert desk.hears(TWO, Accept(id=ID)) == []
    assert desk.hears(TWO, Busy(id=ID)) == []
    assert desk.hears(TWO, Result(id=ID, body=b"4")) == [(TWO, Ack(id=ID))]
    assert desk.phase() == "running"


def test_a_large_body_is_kept_while_it_runs_only_if_it_may_be_sent_again() -> None:
    body = b"x" * (KEPT_BODY + 1)
    for idempotent, kept in ((True, body), (False, None)):
        desk = running(body=body, idempotent=idempotent)
        assert desk.dispatch._ledger.open[ID].call.body == kept


# ANSWERED


def test_the_callers_acknowledgement_reaches_the_replica_and_ends_the_call() -> None:
    desk = answered()
    assert desk.hears(ANN, Ack(id=ID)) == [(ONE, Ack(id=ID))]
    assert desk.phase() is None


def test_another_callers_acknowledgement_counts_for_nothing() -> None:
    desk = answered()
    assert desk.hears(BOB, Ack(id=ID)) == []
    assert desk.phase() == "answered"


def test_a_caller_that_asks_again_hears_the_answer_from_the_replica() -> None:
    desk = answered()
    assert asked(desk.called(resend=True, accepted_by="add.one")) == [(ONE, ID)]
    again = Result(id=ID, replica="add.one", body=b"3")
    assert desk.hears(ONE, again) == [(ANN, again)]
    assert len(desk.records) == 1


def test_a_caller_that_asks_again_hears_an_error_from_the_router() -> None:
    outcome = Error(id=ID, code="function_error", message="ValueError: no")
    assert answered(outcome).called(resend=True) == [(ANN, outcome)]


def test_a_caller_that_is_gone_is_acknowledged_for() -> None:
    desk = answered()
    assert desk.lives(LOST_S + SWEEP_S, pings=[ONE]) == [(ONE, Ack(id=ID))]
    assert desk.phase() is None


def test_a_caller_that_never_acknowledges_is_acknowledged_for_after_the_deadline() -> None:
    desk = answered()
    assert desk.lives(DEADLINE_S + GRACE_S - 0.01, ANN, pings=[ONE]) == []
    assert desk.lives(0.02, ANN, pings=[ONE]) == [(ONE, Ack(id=ID))]
    assert desk.phase() is None


def test_a_replica_that_is_lost_after_it_answered_changes_nothing() -> None:
    desk = answered()
    assert desk.lives(LOST_S + 2 * SWEEP_S, ANN) == []
    assert desk.hears(ANN, Ack(id=ID)) == []
    assert desk.phase() is None


def test_an_answer_that_was_lost_with_its_replica_is_told_to_who_asks_again() -> None:
    desk = answered()
    desk.lives(LOST_S + 2 * SWEEP_S, ANN)
    assert errors(desk.called(resend=True)) == [(ANN, "replica_lost", False)]


def test_an_answer_that_comes_back_with_its_replica_is_repeated() -> None:
    desk = answered()
    desk.lives(LOST_S + 2 * SWEEP_S, ANN)
    assert asked(desk.joins(free=0, held=(ID,))) == [(ONE, ID)]
    again = Result(id=ID, replica="add.one", body=b"3")
    assert desk.hears(ONE, again) == [(ANN, again)]


# Done


def test_a_late_outcome_is_acknowledged_and_dropped() -> None:
    assert done().hears(ONE, Result(id=ID)) == [(ONE, Ack(id=ID))]


def test_a_late_duplicate_starts_nothing() -> None:
    desk = done()
    desk.joins(TWO)
    assert desk.called() == []
    assert desk.called(resend=True) == []


def test_a_caller_that_missed_the_routers_error_hears_it_again() -> None:
    desk = sent()
    desk.sees(Unreachable(ONE))
    assert errors(desk.lives(RETURN_S + 2 * SWEEP_S, ANN)) == [(ANN, "replica_lost", False)]
    assert errors(desk.called(resend=True)) == [(ANN, "replica_lost", False)]


def test_a_call_that_is_over_is_remembered_for_a_while() -> None:
    desk = done()
    desk.waits(REMEMBER_S + 2 * SWEEP_S)
    assert not desk.dispatch._ledger.ended


def test_a_replica_that_still_holds_what_is_over_is_told_so() -> None:
    desk = done()
    assert desk.joins(TWO, free=0, held=(ID,)) == [(TWO, Cancel(id=ID)), (TWO, Ack(id=ID))]


# RECOVERING


def test_a_call_that_a_replica_holds_already_is_claimed_and_asked_for() -> None:
    desk = Desk(old=False)
    desk.joins(free=0, held=(ID,))
    assert asked(desk.called(resend=True, accepted_by="add.one")) == [(ONE, ID)]
    assert desk.phase() == "running"


@pytest.mark.parametrize("function", ["add", "short"])
def test_a_call_is_claimed_by_a_replica_that_comes_later(function: str) -> None:
    desk = recovering(function=function)
    assert asked(desk.joins(free=0, held=(ID,))) == [(ONE, ID)]
    outcome = Result(id=ID, body=b"3")
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    assert desk.record.function == "add"


@pytest.mark.parametrize("first", [Accept(id=ID), Result(id=ID, body=b"3")])
def test_a_call_is_claimed_by_a_replica_that_speaks_of_it(first: Message) -> None:
    desk = recovering()
    desk.joins(TWO, free=0)
    desk.hears(ONE, a_ready(free=0))
    assert desk.hears(ONE, first) == [(ANN, first)]
    assert desk.phase() in ("running", "answered")
    assert handed(desk.lives(RECOVERY_S + 1, ANN, pings=[ONE, TWO])) == []


def test_while_it_recovers_a_call_isnt_handed_out() -> None:
    desk = recovering()
    assert desk.joins() == []
    assert handed(desk.lives(RECOVERY_S - 0.01, ANN, pings=[ONE])) == []


def test_when_the_window_is_over_a_call_that_was_never_accepted_is_run() -> None:
    desk = recovering()
    desk.joins()
    assert handed(desk.lives(RECOVERY_S + 0.01, ANN, pings=[ONE])) == [(ONE, ID)]


@pytest.mark.parametrize(
    ("age", "window"), [(1, RECOVERY_S - 1), (RECOVERY_S - 0.5, RETURN_S), (100, RECOVERY_S)]
)
def test_the_window_is_that_of_a_new_router_or_of_a_caller_that_is_new_to_it(
    age: float, window: float
) -> None:
    desk = Desk(old=False)
    desk.lives(age, pings=[ONE])
    desk.stands()
    desk.joins()
    desk.called(resend=True)
    assert handed(desk.lives(window - 0.01, ANN, pings=[ONE])) == []
    assert handed(desk.lives(0.02, ANN, pings=[ONE])) == [(ONE, ID)]


def test_when_the_window_is_over_calls_go_out_in_their_order() -> None:
    desk = recovering()
    for id in (OTHER_ID, THIRD_ID):
        desk.called(id=id, resend=True)
    desk.called(id="4d" * 16)
    desk.lives(RECOVERY_S + 0.01, ANN)
    assert handed(desk.joins(free=4)) == [
        (ONE, ID),
        (ONE, OTHER_ID),
        (ONE, THIRD_ID),
        (ONE, "4d" * 16),
    ]


def test_when_the_window_is_over_a_call_that_was_accepted_is_lost() -> None:
    desk = recovering(accepted_by="add.9")
    assert errors(desk.lives(LOST_S - 0.01, ANN)) == []
    said = desk.lives(0.02, ANN)
    assert errors(said) == [(ANN, "replica_lost", False)]
    assert "add.9 had accepted it" in error(said).message


def test_a_call_that_was_accepted_may_be_claimed_long_after_the_window() -> None:
    desk = recovering(accepted_by="add.9")
    desk.lives(RECOVERY_S + 1, ANN)
    desk.joins(held=(ID,))
    assert desk.phase() == "running"
    assert errors(desk.lives(LOST_S, ANN, pings=[ONE])) == []


def test_when_the_window_is_over_an_idempotent_call_is_run_again() -> None:
    desk = recovering(accepted_by="add.9", idempotent=True)
    desk.joins()
    assert handed(desk.lives(RECOVERY_S + 0.01, ANN, pings=[ONE])) == [(ONE, ID)]


def test_when_the_window_is_over_a_question_without_a_body_is_answered() -> None:
    desk = recovering(body=None)
    assert errors(desk.lives(RECOVERY_S + 0.01, ANN)) == [(ANN, "replica_lost", False)]


def test_new_calls_go_out_while_others_recover() -> None:
    desk = recovering()
    desk.joins()
    assert handed(desk.called(id=OTHER_ID)) == [(ONE, OTHER_ID)]


def test_a_recovering_call_that_is_cancelled_ends_and_may_have_run() -> None:
    desk = recovering()
    assert errors(desk.hears(ANN, Cancel(id=ID))) == [(ANN, "cancelled", False)]


def test_a_recovering_call_whose_deadline_passes_ends_and_may_have_run() -> None:
    desk = recovering(deadline_ms=1000)
    assert errors(desk.lives(1.01, ANN)) == [(ANN, "deadline_exceeded", False)]


def test_a_recovering_call_whose_caller_is_gone_is_dropped() -> None:
    desk = recovering()
    desk.sees(Unreachable(ANN))
    assert desk.waits(RETURN_S + 2 * SWEEP_S) == []
    assert desk.phase() is None


def test_an_answer_whose_caller_hasnt_come_yet_is_not_acknowledged() -> None:
    desk = Desk(old=False)
    desk.joins(free=0, held=(ID,))
    assert desk.hears(ONE, Result(id=ID)) == []
    assert desk.lives(LOST_S - 0.5, pings=[ONE]) == []
    assert asked(desk.called(resend=True)) == [(ONE, ID)]


def test_what_nobody_comes_to_ask_for_is_stopped_and_acknowledged() -> None:
    desk = Desk(old=False)
    desk.joins(free=0, held=(ID,))
    said = desk.lives(LOST_S + 2 * SWEEP_S, pings=[ONE])
    assert said == [(ONE, Cancel(id=ID)), (ONE, Ack(id=ID))]
    assert errors(desk.called(resend=True)) == [(ANN, "replica_lost", False)]


def test_what_a_lost_replica_held_is_asked_of_nobody() -> None:
    desk = Desk(old=False)
    desk.joins(free=0, held=(ID,))
    desk.lives(LOST_S + SWEEP_S)
    assert desk.called(resend=True, accepted_by="add.one") == []
    assert desk.phase() == "recovering"


def test_an_acknowledgement_that_comes_before_its_call_is_passed_on() -> None:
    desk = Desk(old=False)
    desk.joins(free=0, held=(ID,))
    assert desk.hears(ANN, Ack(id=ID)) == [(ONE, Ack(id=ID))]


def test_an_acknowledgement_that_comes_before_its_replica_is_passed_on_to_it() -> None:
    desk = Desk(old=False)
    assert desk.hears(ANN, Ack(id=ID)) == []
    assert (ONE, Ack(id=ID)) in desk.joins(free=0, held=(ID,))


def test_an_acknowledgement_ends_a_call_that_another_router_answered() -> None:
    desk = recovering()
    assert desk.hears(ANN, Ack(id=ID)) == []
    assert desk.phase() is None
    assert handed(desk.joins()) == []


# Resent calls


def test_a_resent_call_that_waits_keeps_waiting_in_its_place() -> None:
    desk = queued()
    desk.called(id=OTHER_ID)
    desk.lives(BACK_S, ANN)
    assert desk.called(resend=True) == []
    assert handed(desk.joins()) == [(ONE, ID)]


@pytest.mark.parametrize("start", [sent, running])
def test_a_resent_call_that_is_with_a_replica_is_asked_for(start: Any) -> None:
    assert asked(start().called(resend=True)) == [(ONE, ID)]


def test_a_call_that_never_came_is_queued_when_a_caller_of_long_standing_resends_it() -> None:
    desk = Desk()
    desk.lives(BACK_S + 1, ANN)
    desk.joins()
    assert handed(desk.called(resend=True)) == [(ONE, ID)]


def test_a_caller_of_long_standing_hears_at_once_that_an_accepted_call_is_lost() -> None:
    desk = Desk()
    desk.lives(BACK_S + 1, ANN)
    assert errors(desk.called(resend=True, accepted_by="add.9")) == [(ANN, "replica_lost", False)]


def test_a_question_about_an_unknown_call_starts_nothing() -> None:
    desk = Desk()
    desk.lives(BACK_S + 1, ANN)
    desk.joins()
    said = desk.called(resend=True, body=None)
    assert errors(said) == [(ANN, "replica_lost", False)]
    assert handed(said) == []


def test_an_error_on_a_resent_call_is_never_safe() -> None:
    desk = Desk()
    desk.lives(BACK_S + 1, ANN)
    desk.called(resend=True)
    assert errors(desk.hears(ANN, Cancel(id=ID))) == [(ANN, "cancelled", False)]


def test_a_call_that_another_connection_resends_is_that_ones() -> None:
    desk = running()
    assert asked(desk.called(BOB, resend=True)) == [(ONE, ID)]
    outcome = Result(id=ID)
    assert desk.hears(ONE, outcome) == [(BOB, outcome)]


# Two routers for a moment


def test_a_call_is_not_handed_out_before_its_caller_has_echoed() -> None:
    desk = Desk()
    desk.joins()
    assert handed(desk.called()) == []
    ((_, pong),) = desk.hears(ANN, Ping(number=1))
    assert isinstance(pong, Pong)
    assert handed(desk.hears(ANN, Ping(number=2, echo=pong.stamp + 1))) == []
    assert handed(desk.hears(ANN, Ping(number=3, echo=pong.stamp))) == [(ONE, ID)]


def test_a_call_is_handed_out_within_a_while_of_sending_the_pong_that_was_echoed() -> None:
    for late, expected in ((-0.01, [(ONE, ID)]), (0.01, [])):
        desk = Desk()
        ((_, pong),) = desk.hears(ANN, Ping(number=1))
        assert isinstance(pong, Pong)
        desk.called()
        desk.waits(1)
        desk.hears(ANN, Ping(number=2, echo=pong.stamp))
        desk.waits(DISPATCH_S - 1 + late)
        assert handed(desk.joins()) == expected


def test_another_callers_echo_counts_for_nothing() -> None:
    desk = Desk()
    desk.joins()
    desk.called()
    ((_, pong),) = desk.hears(ANN, Ping(number=1))
    assert isinstance(pong, Pong)
    assert handed(desk.hears(BOB, Ping(number=1, echo=pong.stamp))) == []


def test_a_silent_callers_call_is_passed_over_and_goes_first_when_it_is_back() -> None:
    desk = queued()
    desk.called(id=OTHER_ID)
    desk.lives(DISPATCH_S, BOB)
    desk.called(BOB, id=THIRD_ID)
    assert handed(desk.joins()) == [(ONE, THIRD_ID)]
    desk.joins(TWO)
    assert handed(desk.stands(ANN)) == [(TWO, ID)]
    assert handed(desk.joins(THREE)) == [(THREE, OTHER_ID)]


@pytest.mark.parametrize("cause", ["cancel", "deadline"])
def test_a_call_that_ends_while_its_caller_is_silent_is_never_run(cause: str) -> None:
    desk = queued(deadline_ms=5000)
    desk.waits(DISPATCH_S)
    assert handed(desk.joins()) == []
    if cause == "cancel":
        desk.hears(BOB, Cancel(id=ID))
    else:
        desk.lives(5, pings=[ONE])
    assert desk.phase() is None
    assert handed(desk.stands()) == []
    assert handed(desk.lives(1, ANN, pings=[ONE])) == []


def test_a_stalled_call_whose_function_is_removed_doesnt_hurt() -> None:
    desk = queued()
    desk.waits(DISPATCH_S)
    desk.joins()
    desk.hears(ONE, bye())
    desk.sees(Catalogue({}))
    assert desk.stands() == []
    assert errors(desk.sees(Catalogue({}))) == [(ANN, "function_not_found", True)]


def test_a_stalled_call_stays_its_callers_behind_another_connection() -> None:
    desk = queued()
    desk.waits(DISPATCH_S)
    desk.joins()
    desk.lives(BACK_S + 1, BOB, pings=[ONE])
    assert handed(desk.called(BOB, resend=True)) == []
    assert handed(desk.stands(BOB)) == [(ONE, ID)]


@pytest.mark.parametrize("accepted_by", ["", "add.9"])
def test_a_call_that_waited_while_its_caller_was_elsewhere_is_judged_anew(accepted_by: str) -> None:
    desk = queued()
    desk.waits(DISPATCH_S + AWAY_S)
    desk.joins()
    assert desk.called(resend=True, accepted_by=accepted_by) == []
    assert desk.phase() == "recovering"
    assert handed(desk.stands()) == []
    said = desk.lives(LOST_S + 0.01, ANN, pings=[ONE])
    assert handed(said) == ([] if accepted_by else [(ONE, ID)])
    assert errors(said) == ([(ANN, "replica_lost", False)] if accepted_by else [])


def test_a_caller_that_stalls_for_seconds_loses_nothing() -> None:
    desk = queued()
    desk.waits(5)
    desk.joins()
    assert handed(desk.stands()) == [(ONE, ID)]


def test_a_caller_that_was_given_up_may_come_back_with_calls_that_waited() -> None:
    desk = queued()
    desk.waits(LOST_S + 2 * SWEEP_S)
    desk.joins()
    desk.stands()
    assert desk.called(resend=True) == []
    assert handed(desk.lives(RECOVERY_S + 0.01, ANN, pings=[ONE])) == [(ONE, ID)]


def test_a_caller_that_was_given_up_hears_of_calls_that_ran() -> None:
    desk = running()
    desk.lives(LOST_S + 2 * SWEEP_S, pings=[ONE])
    assert errors(desk.called(resend=True)) == [(ANN, "replica_lost", False)]


# PING and PONG


def test_a_ping_is_answered_with_its_number_the_epoch_and_a_new_stamp() -> None:
    desk = Desk()
    ((peer, first),) = desk.hears(ANN, Ping(number=7))
    ((_, second),) = desk.hears(ANN, Ping(number=8))
    assert isinstance(first, Pong)
    assert isinstance(second, Pong)
    assert (peer, first.number, first.epoch, first.known) == (ANN, 7, "one", False)
    assert (second.number, second.known) == (8, True)
    assert second.stamp != first.stamp


def test_a_replica_that_the_router_lost_is_told_so() -> None:
    desk = Desk()
    desk.joins()
    ((_, pong),) = desk.hears(ONE, Ping(number=0))
    assert isinstance(pong, Pong)
    assert pong.known
    desk.lives(LOST_S + 2 * SWEEP_S)
    ((_, pong),) = desk.hears(ONE, Ping(number=0))
    assert isinstance(pong, Pong)
    assert not pong.known


def test_a_replica_that_asked_while_it_loaded_is_unknown_when_it_is_lost() -> None:
    desk = Desk()
    desk.hears(ONE, Ping(number=0))
    desk.joins()
    desk.sees(Unreachable(ONE))
    desk.waits(RETURN_S + 2 * SWEEP_S)
    ((_, pong),) = desk.hears(ONE, Ping(number=0))
    assert isinstance(pong, Pong)
    assert not pong.known


def test_an_idle_caller_is_forgotten() -> None:
    desk = Desk()
    desk.stands()
    desk.waits(LOST_S + 2 * SWEEP_S)
    assert not desk.dispatch._callers


def test_messages_for_others_are_passed_over() -> None:
    desk = running()
    assert desk.hears(ANN, Pong(number=1)) == []
    assert desk.hears(b"stranger", Accept(id=OTHER_ID)) == []
    assert desk.hears(b"stranger", Result(id=OTHER_ID)) == []
    assert desk.hears(b"stranger", Error(code="protocol_error", message="what?")) == []
    assert desk.hears(b"stranger", Busy(id=ID)) == []
    assert desk.hears(b"stranger", Cancel(id=OTHER_ID)) == []
    assert desk.hears(b"stranger", bye(TWO)) == [(b"stranger", Ack(id=SESSIONS[TWO]))]
    assert desk.phase() == "running"


# Replicas


def test_a_ready_replica_is_free() -> None:
    desk = Desk()
    desk.joins(node="n1", version="v1", residue="off: no Landlock")
    assert desk.state()["replicas"] == [
        {
            "replica": "add.one",
            "node": "n1",
            "version": "v1",
            "session": SESSIONS[ONE],
            "residue": "off: no Landlock",
            "protocol": PROTOCOL,
            "state": "free",
            "calls": [],
        }
    ]
    assert desk.state()["free"] == 1


def test_a_replica_with_a_call_is_busy_and_gets_no_other() -> None:
    desk = sent()
    assert desk.state()["busy"] == 1
    assert handed(desk.called(id=OTHER_ID)) == []
    assert desk.state()["queued"] == 1
    assert desk.state()["queued_bytes"] == sum(map(len, encode(a_call(OTHER_ID))[1:]))


def test_an_answer_frees_a_slot_of_a_replica_that_stays() -> None:
    desk = sent()
    desk.called(id=OTHER_ID)
    desk.hears(ONE, Accept(id=ID))
    assert handed(desk.hears(ONE, Result(id=ID))) == [(ONE, OTHER_ID)]


def test_an_answer_frees_nothing_of_a_replica_that_leaves() -> None:
    desk = running()
    desk.called(id=OTHER_ID)
    assert handed(desk.hears(ONE, Result(id=ID))) == []
    assert handed(desk.hears(ANN, Ack(id=ID))) == []
    assert desk.state()["replicas"] == []


def test_a_replica_that_is_silent_gets_no_new_call_until_it_speaks() -> None:
    desk = Desk()
    desk.joins()
    desk.lives(SUSPECT_S + 0.1, ANN)
    assert desk.state()["replicas"][0]["state"] == "suspect"
    assert handed(desk.called()) == []
    desk.hears(ONE, Ping(number=0))
    assert handed(desk.lives(SWEEP_S, ANN)) == [(ONE, ID)]


def test_a_replica_that_is_silent_for_long_is_gone() -> None:
    desk = Desk()
    desk.joins()
    desk.lives(LOST_S)
    assert desk.state()["replicas"] != []
    desk.lives(2 * SWEEP_S)
    assert desk.state()["replicas"] == []


def test_peers_that_are_silent_are_asked_once_a_second_whether_they_are_there() -> None:
    desk = sent()
    desk.lives(PROBE_S - 0.1, pings=[ONE])
    assert desk.probed == []
    desk.waits(2 * PROBE_S)
    assert sorted(desk.probed) == [ANN, ANN, ONE]


def test_an_idle_caller_is_left_alone() -> None:
    desk = Desk()
    desk.stands()
    desk.waits(LOST_S)
    assert desk.probed == []


def test_an_unreachable_replica_that_joins_again_in_time_keeps_its_call() -> None:
    desk = running()
    desk.sees(Unreachable(ONE))
    assert desk.lives(RETURN_S, ANN) == []
    assert desk.state()["replicas"][0]["state"] == "suspect"
    assert asked(desk.joins(free=0, held=(ID,))) == [(ONE, ID)]
    outcome = Result(id=ID)
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]


def test_an_unreachable_replica_that_doesnt_is_lost_soon() -> None:
    desk = running()
    desk.sees(Unreachable(ONE))
    said = desk.lives(RETURN_S + 2 * SWEEP_S, ANN)
    assert errors(said) == [(ANN, "replica_lost", False)]


def test_a_replica_that_leaves_gets_no_call_and_is_forgotten() -> None:
    desk = Desk()
    desk.stands()
    desk.joins()
    assert desk.hears(ONE, bye()) == [(ONE, Ack(id=SESSIONS[ONE]))]
    assert desk.state()["replicas"] == []
    assert handed(desk.called()) == []


def test_a_replica_that_leaves_with_its_call_is_shown_until_the_end() -> None:
    desk = running()
    assert desk.state()["busy"] == 1
    desk.hears(ONE, Result(id=ID))
    desk.hears(ANN, Ack(id=ID))
    assert desk.state()["replicas"] == []


def test_a_replica_with_a_direct_call_is_shown_as_leaving() -> None:
    desk = Desk()
    desk.joins()
    desk.hears(ONE, bye(ONE, OTHER_ID))
    assert desk.state()["leaving"] == 1


def test_a_bye_that_lacks_what_was_accepted_loses_it() -> None:
    desk = sent()
    desk.hears(ONE, Accept(id=ID))
    assert errors(desk.hears(ONE, bye())) == [(ANN, "replica_lost", False)]


def test_a_duplicate_ready_changes_nothing() -> None:
    desk = Desk()
    desk.stands()
    for _ in range(2):
        assert desk.joins() == []
    assert handed(desk.called()) == [(ONE, ID)]
    assert handed(desk.called(id=OTHER_ID)) == []


def test_a_ready_that_crosses_a_call_asks_for_it_and_doesnt_send_it_twice() -> None:
    desk = sent()
    desk.called(id=OTHER_ID)
    said = desk.joins()
    assert asked(said) == [(ONE, ID)]
    assert handed(said) == []
    assert desk.phase() == "sent"


def test_a_call_that_never_arrived_is_handed_out_again_on_the_replicas_word() -> None:
    desk = sent()
    desk.joins()
    assert handed(desk.hears(ONE, Busy(id=ID))) == [(ONE, ID)]
    assert handed(desk.called(id=OTHER_ID)) == []


def test_a_call_that_never_arrived_and_ends_meanwhile_leaves_the_replica_free() -> None:
    desk = sent()
    desk.joins()
    desk.hears(ANN, Cancel(id=ID))
    assert errors(desk.waits(GRACE_S + JUST)) == [(ANN, "cancelled", False)]
    desk.stands()
    assert handed(desk.called(id=OTHER_ID)) == [(ONE, OTHER_ID)]


def test_a_call_that_never_arrived_waits_for_its_caller_like_any_other() -> None:
    desk = sent()
    desk.waits(DISPATCH_S)
    desk.joins()
    assert handed(desk.hears(ONE, Busy(id=ID))) == []
    assert handed(desk.stands()) == [(ONE, ID)]


def test_a_ready_with_a_new_session_loses_what_the_old_one_had_and_it_lacks() -> None:
    desk = sent()
    assert errors(desk.joins(session="dd" * 16)) == [(ANN, "replica_lost", False)]
    assert handed(desk.called(id=OTHER_ID)) == [(ONE, OTHER_ID)]


def test_a_ready_with_a_new_session_keeps_what_it_holds() -> None:
    desk = running()
    assert asked(desk.joins(session="dd" * 16, free=0, held=(ID,))) == [(ONE, ID)]
    assert desk.phase() == "running"


def test_each_call_names_the_session_that_it_is_meant_for() -> None:
    desk = queued()
    ((_, call),) = desk.joins(session="dd" * 16)
    assert isinstance(call, Call)
    assert call.session == "dd" * 16


def test_an_idempotent_call_that_runs_twice_has_the_first_outcome() -> None:
    desk = running(TWO, idempotent=True)
    desk.lives(LOST_S + 2 * SWEEP_S, ANN, pings=[TWO])
    desk.joins(ONE, free=0, held=(ID,))
    assert desk.hears(ONE, Result(id=ID, body=b"1")) == [(ONE, Ack(id=ID))]
    outcome = Result(id=ID, body=b"2")
    assert desk.hears(TWO, outcome) == [(ANN, outcome)]


def test_an_idempotent_call_that_waits_again_takes_the_outcome_of_who_was_lost() -> None:
    desk = running(idempotent=True)
    desk.lives(LOST_S + 2 * SWEEP_S, ANN)
    assert desk.phase() == "queued"
    assert asked(desk.joins(ONE, free=0, held=(ID,))) == [(ONE, ID)]
    outcome = Result(id=ID, body=b"1")
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    assert handed(desk.joins(TWO)) == []


@pytest.mark.parametrize("protocol", [PROTOCOL, PROTOCOL - 1])
def test_this_protocol_and_the_one_before_are_served(protocol: int) -> None:
    assert handed(queued().joins(protocol=protocol)) == [(ONE, ID)]


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, PROTOCOL + 7])
def test_other_protocols_are_refused_and_shown(protocol: int) -> None:
    desk = queued()
    said = desk.joins(protocol=protocol)
    assert errors(said) == [(ONE, "protocol_error", False)]
    assert handed(said) == []
    assert desk.state()["replicas"][0]["protocol"] == protocol
    assert handed(desk.lives(1, ANN, pings=[ONE])) == []


def test_a_replica_of_another_protocol_gets_no_call_even_after_it_has_answered_one() -> None:
    desk = recovering()
    assert asked(desk.joins(protocol=PROTOCOL + 1, held=(ID,))) == [(ONE, ID)]
    assert desk.state()["replicas"][0]["state"] == "busy"
    desk.hears(ONE, Result(id=ID))
    desk.hears(ANN, Ack(id=ID))
    assert desk.state()["replicas"][0]["state"] == "refused"
    assert handed(desk.called(id=OTHER_ID)) == []
    assert handed(desk.joins(TWO)) == [(TWO, OTHER_ID)]


def test_a_router_that_slept_blames_nobody_for_it() -> None:
    desk = running()
    desk.now += LOST_S + 1
    assert desk.sees(Tick()) == []
    outcome = Result(id=ID)
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]


# FAILED


def wait_of(said: list[tuple[bytes, Message]]) -> float:
    ((_, ack),) = [(p, m) for p, m in said if isinstance(m, Ack)]
    assert isinstance(ack, Ack)
    assert ack.wait_ms is not None
    return ack.wait_ms / 1000


def test_a_replica_that_cant_load_is_told_to_wait() -> None:
    desk = Desk()
    said = desk.hears(ONE, failed())
    assert said == [(ONE, Ack(id=SESSIONS[ONE], wait_ms=round(FAILED_S * 1000)))]
    assert desk.state()["failing"] == "ImportError: no numpy"
    assert desk.state()["free"] == 0


def test_one_that_fails_after_others_have_loaded_is_an_accident_and_two_are_not() -> None:
    desk = Desk()
    desk.joins()
    desk.stands()
    desk.hears(ONE, bye())
    desk.called()
    assert errors(desk.hears(TWO, failed(TWO))) == []
    assert desk.state()["failing"] is None
    assert errors(desk.hears(THREE, failed(THREE))) == [(ANN, "init_failed", True)]
    desk.called(id=OTHER_ID)
    assert desk.phase(OTHER_ID) is None


def test_replicas_that_go_on_failing_wait_longer_and_longer() -> None:
    desk = Desk()
    waits = []
    for _ in range(6):
        waits.append(wait_of(desk.hears(ONE, failed())))
        desk.waits(waits[-1] + 0.5)
    assert waits == [5, 10, 20, 40, 60, FAILED_MAX_S]


def test_many_replicas_that_fail_at_once_are_one_step() -> None:
    desk = Desk()
    assert [wait_of(desk.hears(peer, failed(peer))) for peer in (ONE, TWO, THREE)] == [FAILED_S] * 3


def test_the_waits_never_overflow() -> None:
    desk = Desk()
    for _ in range(3000):
        assert wait_of(desk.hears(ONE, failed())) <= FAILED_MAX_S
        desk.now += FAILED_MAX_S


def test_a_replica_that_said_that_it_failed_isnt_asked_to_say_it_again() -> None:
    desk = Desk()
    desk.hears(ONE, failed())
    ((_, pong),) = desk.hears(ONE, Ping(number=0))
    assert isinstance(pong, Pong)
    assert pong.known


def test_callers_that_wait_hear_why_the_function_cant_load() -> None:
    desk = queued()
    said = desk.hears(ONE, failed())
    assert errors(said) == [(ANN, "init_failed", True)]
    assert error(said).message == "ImportError: no numpy"
    assert error(said).traceback == "Traceback"


def test_callers_that_come_meanwhile_hear_it_at_once() -> None:
    desk = Desk()
    desk.stands()
    desk.hears(ONE, failed())
    assert errors(desk.called()) == [(ANN, "init_failed", True)]


def test_a_failure_of_long_ago_fails_nobody() -> None:
    desk = Desk()
    desk.hears(ONE, failed())
    desk.waits(FAILED_S + FAILURE_S + 1)
    desk.stands()
    assert desk.called() == []
    assert desk.phase() == "queued"


def test_while_other_replicas_serve_a_failure_fails_nobody() -> None:
    desk = sent()
    desk.called(id=OTHER_ID)
    assert errors(desk.hears(TWO, failed(TWO))) == []


def test_a_replica_that_is_ready_ends_the_failure() -> None:
    desk = Desk()
    desk.hears(ONE, failed())
    desk.joins(TWO)
    assert desk.state()["failing"] is None
    desk.waits(FAILED_S)
    assert wait_of(desk.hears(THREE, failed(THREE))) == FAILED_S


def test_an_idle_replica_that_fails_gives_back_what_was_sent_to_it() -> None:
    desk = sent(TWO)
    said = desk.hears(ONE, failed())
    assert handed(said) == [(TWO, ID)]
    refusal = Error(id=ID, code="init_failed", message="no", retry_safe=True)
    assert errors(desk.hears(ONE, refusal)) == []
    assert desk.phase() == "sent"


# Bounds


def test_a_full_queue_says_so() -> None:
    desk = Desk(limits=Limits(queue=2))
    for n in range(2):
        desk.called(id=f"{n:032x}")
    said = desk.called()
    assert errors(said) == [(ANN, "queue_full", True)]
    assert "add: 2 calls are waiting" in error(said).message
    assert "funker scale" in error(said).hint
    assert desk.called(id=OTHER_ID, function="sub") == []


def test_the_waiting_bytes_of_all_functions_are_bounded() -> None:
    desk = Desk(limits=Limits(queued_bytes=1 << 20))
    desk.called(id=OTHER_ID, body=b"x" * (1 << 19), function="sub")
    said = desk.called(body=b"x" * (1 << 19))  # and there are their headers
    assert errors(said) == [(ANN, "queue_full", True)]
    assert "of 1 MiB" in error(said).message
    assert "FUNKER_QUEUE_BYTES" in error(said).hint
    desk.hears(ANN, Cancel(id=OTHER_ID))
    assert desk.called(body=b"x" * ((1 << 20) - 200)) == []


def test_the_open_calls_of_one_caller_are_bounded() -> None:
    desk = Desk(limits=Limits(caller=1))
    desk.called()
    said = desk.called(id=OTHER_ID)
    assert errors(said) == [(ANN, "queue_full", True)]
    assert "of yours" in error(said).message
    assert "wait for some" in error(said).hint
    assert desk.called(BOB, id=OTHER_ID) == []


def test_a_call_that_goes_back_to_a_full_queue_is_taken() -> None:
    desk = Desk(limits=Limits(queue=1))
    desk.stands()
    desk.joins()
    desk.called()
    desk.called(id=OTHER_ID)
    assert errors(desk.hears(ONE, Busy(id=ID))) == []
    assert desk.state()["queued"] == 2


def test_nothing_is_left_of_calls_that_are_over() -> None:
    desk = Desk()
    desk.stands()
    for n in range(3000):
        id = f"{n:032x}"
        desk.joins(**({} if n == 0 else {"session": f"5e55{n:028x}"}))
        desk.called(id=id, body=b"x" * 1000)
        desk.hears(ONE, Accept(id=id))
        desk.hears(ONE, Result(id=id))
        desk.hears(ANN, Ack(id=id))
    dispatch = desk.dispatch
    assert not dispatch._ledger.open
    assert dispatch._replicas.budget.used == 0
    assert len(dispatch._ledger.agenda) < 2000


# Names


def named(**functions: Sequence[str]) -> Desk:
    desk = Desk()
    desk.sees(Catalogue(functions))
    desk.stands()
    return desk


def test_a_short_name_means_the_one_function_that_has_it() -> None:
    desk = named(shop_add=["add"], shop_sub=["sub"])
    desk.called(function="add")
    assert desk.state("shop_add")["queued"] == 1
    ((_, call),) = desk.joins(function="shop_add")
    assert isinstance(call, Call)
    assert call.function == "shop_add"


def test_a_short_name_of_two_functions_is_ambiguous() -> None:
    said = named(shop_add=["add"], math_add=["add"]).called(function="add")
    assert errors(said) == [(ANN, "ambiguous_function", True)]
    assert "math_add or shop_add" in error(said).message


def test_a_full_name_comes_before_a_short_one() -> None:
    desk = named(add=["add"], shop_add=["add"])
    desk.called(function="add")
    assert desk.state("add")["queued"] == 1


@pytest.mark.parametrize(
    ("name", "hint"), [("shop_ad", "did you mean 'shop_add'?"), ("sube", ""), ("addd", "'add'")]
)
def test_an_unknown_name_is_told_with_what_may_be_meant(name: str, hint: str) -> None:
    desk = named(shop_add=["add"])
    for id in (ID, OTHER_ID):
        assert desk.called(id=id, function=name) == []
        said = desk.sees(Catalogue({"shop_add": ["add"]}))
        assert errors(said) == [(ANN, "function_not_found", True)]
        assert hint in error(said).hint
        assert bool(hint) == bool(error(said).hint)
    assert name not in desk.dispatch.status(desk.now)


def test_a_function_that_was_made_a_moment_ago_is_waited_for() -> None:
    desk = named(sub=[])
    assert desk.called(function="add") == []
    assert desk.sees(Catalogue({"sub": [], "shop_add": ["add"]})) == []
    assert handed(desk.joins(function="shop_add")) == [(ONE, ID)]


def test_an_unknown_name_is_told_at_once_where_nobody_tells_of_functions_any_more() -> None:
    desk = named(add=[])
    desk.called(function="sub")
    said = desk.lives(NEXT_S + 0.5, ANN)
    assert errors(said) == [(ANN, "function_not_found", True)]
    assert errors(desk.called(id=OTHER_ID, function="sub")) == [(ANN, "function_not_found", True)]


def test_before_anybody_told_what_functions_there_are_all_names_may_be_right() -> None:
    desk = queued(function="anything")
    assert desk.state("anything")["queued"] == 1


def test_a_call_by_its_short_name_finds_its_function_when_that_is_told() -> None:
    desk = queued(function="add")
    desk.joins(function="shop_add")
    assert handed(desk.sees(Catalogue({"shop_add": ["add"]}))) == [(ONE, ID)]


def test_a_call_by_a_wrong_name_is_told_when_the_functions_are() -> None:
    desk = queued(function="ad")
    said = desk.sees(Catalogue({"add": []}))
    assert errors(said) == [(ANN, "function_not_found", True)]
    assert error(said).hint == "did you mean 'add'?"


def test_calls_of_a_function_that_is_removed_are_told() -> None:
    desk = named(add=[])
    desk.called()
    assert errors(desk.sees(Catalogue({}))) == [(ANN, "function_not_found", True)]
    assert "add" not in desk.dispatch.status(desk.now)


def test_a_function_that_is_removed_ends_its_last_calls_first() -> None:
    desk = named(add=[])
    desk.joins()
    desk.called()
    assert desk.sees(Catalogue({})) == []
    outcome = Result(id=ID)
    desk.hears(ONE, Accept(id=ID))
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    desk.hears(ONE, bye())
    desk.sees(Catalogue({}))
    desk.called(id=OTHER_ID)
    assert errors(desk.sees(Catalogue({}))) == [(ANN, "function_not_found", True)]


def test_a_function_that_nobody_told_of_is_known_by_its_replicas() -> None:
    desk = named(sub=[])
    desk.joins()
    assert handed(desk.called()) == [(ONE, ID)]
    desk.hears(ONE, bye(ONE, ID))
    assert desk.called(id=OTHER_ID) == []
    assert desk.phase(OTHER_ID) == "queued"


def test_a_recovering_call_of_a_function_that_isnt_there_is_told() -> None:
    desk = Desk(old=False)
    desk.stands()
    desk.called(resend=True, function="gone")
    desk.sees(Catalogue({"add": []}))
    said = desk.lives(RECOVERY_S + 0.1, ANN)
    assert errors(said) == [(ANN, "function_not_found", False)]


def test_names_that_nobody_has_told_of_are_bounded_and_forgotten_with_their_last_call() -> None:
    desk = Desk(limits=Limits(names=2))
    for n in range(2):
        desk.called(id=f"{n:032x}", function=f"made up {n}")
    assert errors(desk.called()) == [(ANN, "queue_full", True)]
    desk.hears(ANN, Cancel(id=f"{0:032x}"))
    desk.waits(SWEEP_S)
    assert "made up 0" not in desk.dispatch.status(desk.now)
    assert desk.called() == []


def test_names_that_somebody_has_told_of_are_not_bounded_by_that() -> None:
    desk = Desk(limits=Limits(names=1))
    desk.sees(Catalogue({"add": [], "sub": []}))
    assert desk.called() == []
    assert desk.called(id=OTHER_ID, function="sub") == []


# Functions whose replicas can't come here


UNROUTED = Catalogue({"add": ["a"], "sub": []}, frozenset({"add"}))


def test_calls_that_wait_for_a_function_that_cant_come_here_are_told() -> None:
    desk = queued()
    desk.called(id=OTHER_ID, function="sub")
    said = desk.sees(UNROUTED)
    assert errors(said) == [(ANN, "router_unavailable", True)]
    assert "lack its key" in error(said).message
    assert "--secret-add funker-client-key add" in error(said).hint
    assert (desk.phase(), desk.phase(OTHER_ID)) == (None, "queued")
    assert desk.record.outcome == "router_unavailable"


@pytest.mark.parametrize("name", ["add", "a"])
def test_calls_of_a_function_that_cant_come_here_are_told_at_once(name: str) -> None:
    desk = Desk()
    desk.sees(UNROUTED)
    assert errors(desk.called(function=name)) == [(ANN, "router_unavailable", True)]
    assert desk.called(id=OTHER_ID, function="sub") == []


def test_what_may_have_run_is_not_safe_to_be_called_elsewhere() -> None:
    desk = Desk(old=False)
    desk.stands()
    desk.called(resend=True)
    desk.sees(UNROUTED)
    said = desk.lives(RECOVERY_S + 0.1, ANN)
    assert errors(said) == [(ANN, "router_unavailable", False)]


def test_a_replica_that_comes_all_the_same_is_given_calls() -> None:
    desk = Desk()
    desk.stands()
    desk.sees(UNROUTED)
    desk.joins()
    assert handed(desk.called()) == [(ONE, ID)]
    desk.hears(ONE, bye(ONE, ID))
    assert desk.called(id=OTHER_ID) == []  # the next one is on its way
    assert desk.sees(UNROUTED) == []
    desk.lives(ROUTED_S + LOST_S + 1, ANN)
    assert errors(desk.called(id=THIRD_ID)) == [(ANN, "router_unavailable", True)]


def test_a_function_that_was_given_the_key_is_called_like_any_other() -> None:
    desk = Desk()
    desk.stands()
    desk.sees(UNROUTED)
    desk.sees(Catalogue({"add": []}))
    assert desk.called() == []
    assert handed(desk.joins()) == [(ONE, ID)]


# Fairness and cost


def test_many_calls_that_wait_for_one_function_dont_hold_up_another() -> None:
    desk = Desk()
    desk.stands(BOB)
    for n in range(10_000):
        desk.called(BOB, id=f"{n:032x}", function="slow")
    desk.stands()
    desk.joins()
    assert handed(desk.called()) == [(ONE, ID)]


def test_a_call_costs_the_same_however_many_wait() -> None:
    def seconds(waiting: int) -> float:
        desk = Desk()
        desk.stands(BOB)
        for n in range(waiting):
            desk.called(BOB, id=f"{n:032x}", function="slow")
        desk.stands()
        desk.joins(free=1)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for n in range(100):
                id = f"f{n:031x}"
                assert handed(desk.called(id=id)) == [(ONE, id)]
                desk.hears(ONE, Accept(id=id))
                desk.hears(ONE, Result(id=id))
                desk.hears(ANN, Ack(id=id))
                desk.dispatch._ledger.ended = Ended()
            best = min(best, time.perf_counter() - start)
        return best

    few, many = seconds(10), seconds(10_000)
    assert many < 5 * few


def test_the_status_of_a_function_without_anything_has_all_fields() -> None:
    desk = queued()
    assert desk.state().keys() == nothing().keys()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("epoch", ["1f", 'é"\\'])
def test_a_pong_is_written_as_encode_writes_it(epoch: str, known: bool) -> None:
    written = pong(2**53 - 1, json_text(epoch), stamp=7, known=known)
    assert written == encode(Pong(number=2**53 - 1, epoch=epoch, stamp=7, known=known))
