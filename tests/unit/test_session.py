"""A caller's standing with its router, rule by rule: what it hears, and what follows."""

from __future__ import annotations

import time
from typing import Any

import pytest

from funker.rpc.calls import DEADLINE_S
from funker.rpc.messages import (
    Accept,
    Ack,
    Call,
    Cancel,
    Error,
    Message,
    Ping,
    Pong,
    Query,
    Reply,
    Result,
)
from funker.rpc.session import (
    ACKED_S,
    ELSEWHERE_S,
    GRACE_S,
    HANG_UPS,
    KEEP_S,
    PING_S,
    QUERY_S,
    ROUTER_WAIT_S,
    SILENCE_S,
    STALE_S,
    VISITED,
    Action,
    Answer,
    Asked,
    CancelAsked,
    Connected,
    Disconnected,
    Event,
    Finish,
    Heard,
    HungUp,
    Reconnect,
    Refused,
    Send,
    Session,
    Submitted,
    Tick,
)

ID, OTHER_ID, THIRD_ID = "1d" * 16, "0d" * 16, "3d" * 16
DEADLINE_S_ = 60.0
JUST = 1e-6


class Caller:
    """A session and its clock. `sees` gives what follows from an event, `waits` from time alone."""

    def __init__(self, *, attached: bool = True) -> None:
        self.now = 1000.0
        self.session = Session(self.now)
        self.pings = 0
        self.stamp = 100
        if attached:
            self.connects()
            self.pong()

    def sees(self, event: Event) -> list[Action]:
        actions = self.session.on(event, self.now)
        self.pings += sum(isinstance(m, Ping) for m in sent(actions))
        return actions

    def hears(self, message: Message) -> list[Action]:
        return self.sees(Heard(message))

    def connects(self) -> list[Action]:
        return self.sees(Connected())

    def submits(self, id: str = ID, **fields: Any) -> list[Action]:
        return self.sees(Submitted(a_call(id, **fields)))

    def pong(self, epoch: str = "one", *, known: bool = True, number: int = 0) -> list[Action]:
        """The router answers, the latest PING if no other is named."""
        self.stamp += 1
        number = number or self.pings
        return self.hears(Pong(number=number, epoch=epoch, known=known, stamp=self.stamp))

    def waits(self, seconds: float) -> list[Action]:
        """What follows while time passes, with a tick whenever the session wants one."""
        end, actions, idle_ticks = self.now + seconds, [], 0
        while (due := self.session.wakeup()) <= end:
            self.now = max(due, self.now)
            step = self.sees(Tick())
            actions += step
            idle_ticks = 0 if step else idle_ticks + 1
            assert idle_ticks < 3, "it would spin"
        self.now = end
        return actions + self.sees(Tick())

    def lives(self, seconds: float, epoch: str = "one") -> list[Action]:
        """Time passes, and the router answers each PING."""
        actions: list[Action] = []
        end = self.now + seconds
        while self.now < end:
            step = self.waits(min(PING_S / 2, end - self.now))
            actions += step
            if any(isinstance(m, Ping) for m in sent(step)):
                actions += self.pong(epoch)
        return actions


def a_call(id: str = ID, **fields: Any) -> Call:
    patience = round(DEADLINE_S_ * 1000)
    return Call(**{"id": id, "function": "add", "deadline_ms": patience, "body": b"{}"} | fields)


def sent(actions: list[Action]) -> list[Message]:
    return [action.message for action in actions if isinstance(action, Send)]


def calls(actions: list[Action]) -> list[Call]:
    return [message for message in sent(actions) if isinstance(message, Call)]


def pings(actions: list[Action]) -> list[Ping]:
    return [message for message in sent(actions) if isinstance(message, Ping)]


def outcomes(actions: list[Action]) -> list[Result | Error]:
    return [action.outcome for action in actions if isinstance(action, Finish)]


def failure(actions: list[Action], id: str = ID) -> tuple[str, bool]:
    (finish,) = [action for action in actions if isinstance(action, Finish)]
    assert finish.id == finish.outcome.id == id
    assert isinstance(finish.outcome, Error)
    assert finish.outcome.function == "add"
    return finish.outcome.code, finish.outcome.retry_safe


def running(**fields: Any) -> Caller:
    caller = Caller()
    caller.submits(**fields)
    caller.hears(Accept(id=ID, replica="add.1"))
    return caller


# Attaching


def test_a_connection_is_greeted_with_a_ping() -> None:
    assert Caller(attached=False).connects() == [Send(Ping(number=1))]


def test_a_call_waits_for_the_router_to_answer_and_goes_out_with_the_stamp() -> None:
    caller = Caller(attached=False)
    assert caller.submits() == []
    caller.connects()
    assert caller.pong() == [Send(a_call()), Send(Ping(number=2, echo=101))]


def test_a_call_to_a_router_that_has_answered_goes_out_at_once_after_the_stamp() -> None:
    caller = Caller()
    assert caller.submits() == [Send(Ping(number=2, echo=101)), Send(a_call())]


def test_what_the_router_is_told_of_the_deadline_is_what_is_left() -> None:
    caller = Caller(attached=False)
    caller.submits()
    caller.connects()
    caller.now += 1.5
    (call,) = calls(caller.pong())
    assert call.deadline_ms == 58_500
    assert not call.resend


def test_a_call_without_a_deadline_has_the_default_one() -> None:
    caller = Caller()
    (call,) = calls(caller.submits(deadline_ms=None))
    assert call.deadline_ms == round(DEADLINE_S * 1000)


def test_a_later_call_goes_out_alone_while_the_stamp_is_fresh() -> None:
    caller = Caller()
    caller.submits()
    caller.lives(3)
    caller.hears(Result(id=ID))
    caller.now += STALE_S / 5
    assert caller.submits(OTHER_ID) == [Send(a_call(OTHER_ID))]


def test_after_a_pause_the_stamp_is_made_fresh_with_the_call_and_with_its_answer() -> None:
    caller = running()
    caller.hears(Result(id=ID))
    caller.now += 30
    assert caller.submits(OTHER_ID) == [
        Send(Ping(number=3, echo=101)),
        Send(a_call(OTHER_ID)),
    ]
    assert caller.pong() == [Send(Ping(number=4, echo=102))]
    assert caller.pong() == []


def test_a_router_that_had_forgotten_the_caller_meanwhile_gets_a_new_call_once() -> None:
    caller = running()
    caller.hears(Result(id=ID))
    caller.now += 30
    caller.submits(OTHER_ID)
    assert calls(caller.pong(known=False)) == []


# Outcomes


@pytest.mark.parametrize(
    "outcome", [Result(id=ID, body=b"3"), Error(id=ID, code="function_error", message="no")]
)
def test_an_outcome_is_acknowledged_and_ends_the_call(outcome: Result | Error) -> None:
    caller = running()
    assert caller.hears(outcome) == [Finish(ID, outcome), Send(Ack(id=ID))]
    assert caller.session.idle


def test_an_outcome_that_comes_again_is_acknowledged_again_and_ends_nothing() -> None:
    caller = running()
    caller.hears(Result(id=ID))
    assert caller.hears(Result(id=ID)) == [Send(Ack(id=ID))]


def test_an_error_about_no_call_is_passed_over() -> None:
    assert running().hears(Error(code="protocol_error", message="what?")) == []


def test_each_call_gets_its_own_outcome() -> None:
    caller = running()
    caller.submits(OTHER_ID)
    assert caller.hears(Result(id=OTHER_ID))[0] == Finish(OTHER_ID, Result(id=OTHER_ID))
    assert not caller.session.idle
    assert caller.hears(Result(id=ID))[0] == Finish(ID, Result(id=ID))


def test_without_open_calls_nothing_is_said_and_no_tick_is_wanted() -> None:
    caller = Caller()
    assert caller.session.wakeup() == float("inf")
    caller.submits()
    caller.hears(Result(id=ID))
    caller.waits(KEEP_S)
    assert caller.session.wakeup() == float("inf")
    caller.now += 3600
    assert caller.sees(Tick()) == []


def test_a_call_soon_after_another_isnt_preceded_by_a_ping() -> None:
    caller = running()
    caller.lives(PING_S)
    caller.hears(Result(id=ID))
    for _ in range(100):
        caller.lives(KEEP_S / 100)
        made = caller.submits(OTHER_ID)
        assert [type(message) for message in sent(made)] == [Call]
        caller.hears(Result(id=OTHER_ID))


def test_pings_go_on_for_a_while_after_the_last_call() -> None:
    caller = running()
    caller.hears(Result(id=ID))
    assert len(pings(caller.lives(KEEP_S))) >= KEEP_S / PING_S
    assert caller.lives(3600) == []


def test_with_open_calls_the_router_is_pinged_and_its_stamp_echoed() -> None:
    caller = running()
    heard = []
    for _ in range(6):
        heard += pings(caller.waits(PING_S))
        caller.pong()
    assert [ping.echo for ping in heard] == [101, 102, 103, 104, 105, 106]


# A connection that broke


def test_over_a_new_connection_what_was_sent_is_sent_again_with_who_had_accepted_it() -> None:
    caller = running()
    caller.submits(OTHER_ID)
    caller.now += 0.1
    assert sent(caller.connects()) == [Ping(number=3)]
    left = {"deadline_ms": 59_900, "resend": True}
    assert sent(caller.pong()) == [
        a_call(accepted_by="add.1", **left),
        a_call(OTHER_ID, **left),
        Ping(number=4, echo=102),
    ]


def test_what_is_submitted_while_the_connection_is_new_is_sent_once() -> None:
    caller = running()
    caller.connects()
    assert caller.submits(OTHER_ID) == []
    again, new = sorted(calls(caller.pong()), key=lambda call: not call.resend)
    assert (again.id, again.resend, new.id, new.resend) == (ID, True, OTHER_ID, False)
    assert calls(caller.pong()) == []


def test_an_answer_over_the_connection_before_attaches_nothing() -> None:
    caller = running()
    caller.connects()
    assert caller.pong(number=caller.pings - 1) == []
    assert calls(caller.pong()) != []


def test_a_call_whose_deadline_has_passed_is_not_sent_again() -> None:
    caller = running()
    caller.lives(DEADLINE_S_ - 0.2)
    caller.connects()
    caller.now += 0.3
    assert calls(caller.pong()) == []


def test_what_was_acknowledged_just_before_is_acknowledged_again() -> None:
    caller = running()
    caller.hears(Result(id=ID))
    caller.submits(OTHER_ID)
    caller.connects()
    assert Ack(id=ID) in sent(caller.pong())
    caller.connects()
    caller.now += ACKED_S + JUST
    assert Ack(id=ID) not in sent(caller.pong())


def test_a_cancelled_call_is_cancelled_again_and_never_sent_again() -> None:
    caller = running()
    caller.sees(CancelAsked(ID))
    caller.connects()
    assert sent(caller.pong()) == [Cancel(id=ID), Ping(number=4, echo=102)]


def test_silence_makes_the_connection_anew() -> None:
    caller = running()
    assert Reconnect() not in caller.waits(SILENCE_S - JUST)
    assert caller.waits(JUST) == [Reconnect()]


def test_any_word_breaks_the_silence() -> None:
    caller = running()
    caller.waits(SILENCE_S - JUST)
    caller.hears(Accept(id=OTHER_ID))
    assert Reconnect() not in caller.waits(SILENCE_S - JUST)


def test_a_router_that_stays_away_is_dialled_again_and_again() -> None:
    caller = running()
    assert caller.waits(10 * SILENCE_S + JUST).count(Reconnect()) == 10


def test_the_silence_of_a_pause_is_none() -> None:
    caller = Caller()
    caller.now += 3600
    assert Reconnect() not in caller.submits()
    assert Reconnect() not in caller.waits(SILENCE_S - JUST)


# Another router


def test_another_router_gets_the_calls_two_seconds_after_the_last_word_of_the_one_before() -> None:
    caller = running()
    caller.pong()
    last_word = caller.now
    caller.now += 0.3
    caller.connects()
    caller.pong("two")
    assert calls(caller.lives(last_word + ELSEWHERE_S - caller.now - 0.01, "two")) == []
    again = calls(caller.lives(0.02, "two"))
    assert [(call.id, call.resend, call.accepted_by) for call in again] == [(ID, True, "add.1")]


def test_another_router_that_comes_late_gets_the_calls_at_once() -> None:
    caller = running()
    caller.now += ELSEWHERE_S
    caller.connects()
    (call,) = calls(caller.pong("two", known=False))
    assert (call.resend, call.accepted_by) == (True, "add.1")


def test_new_calls_go_to_another_router_at_once_and_are_valid_there() -> None:
    caller = running()
    caller.connects()
    assert pings(caller.pong("two")) == [Ping(number=4, echo=caller.stamp)]
    assert [call.id for call in calls(caller.submits(OTHER_ID))] == [OTHER_ID]
    assert [call.id for call in calls(caller.lives(ELSEWHERE_S, "two"))] == [ID]


def test_a_router_that_forgets_the_caller_meanwhile_doesnt_shorten_the_wait() -> None:
    caller = running()
    caller.connects()
    caller.pong("two", known=False)
    caller.waits(0.5)
    assert calls(caller.pong("two", known=False)) == []
    caller.lives(ELSEWHERE_S - 0.6, "two")
    assert calls(caller.lives(0.2, "two")) != []


def test_a_third_router_counts_from_the_last_word_of_any() -> None:
    caller = running()
    caller.connects()
    caller.lives(1.5, "two")
    caller.pong("two")
    caller.connects()
    caller.pong("three")
    assert calls(caller.lives(ELSEWHERE_S - 0.01, "three")) == []
    assert [call.id for call in calls(caller.lives(0.02, "three"))] == [ID]


def test_a_router_that_was_left_and_is_back_hears_no_echo_before_the_calls() -> None:
    caller = running()
    for epoch in ("two", "one"):
        caller.connects()
        caller.pong(epoch)
        before = caller.lives(ELSEWHERE_S - 0.1, epoch)
        assert calls(before) == []
        assert any(ping.echo for ping in pings(before)) == (epoch == "two")
        resent = sent(caller.lives(0.2, epoch))
        assert isinstance(resent[0], Call)
        assert isinstance(resent[1], Ping)
        assert resent[1].echo


@pytest.mark.parametrize(("moved", "safe"), [(False, True), (True, False)])
def test_a_router_cant_vouch_for_a_call_that_another_one_had(moved: bool, safe: bool) -> None:
    caller = Caller()
    caller.submits()
    for epoch in ("two", "one") if moved else ():
        caller.connects()
        caller.pong(epoch)
        caller.lives(ELSEWHERE_S + 0.1, epoch)
    outcome = Error(id=ID, code="deadline_exceeded", message="waited", retry_safe=True)
    assert caller.hears(outcome)[0] == Finish(ID, outcome.replace(retry_safe=safe))


def test_a_router_that_was_restarted_often_is_no_burden() -> None:
    caller = running(deadline_ms=3_600_000)
    for epoch in range(10 * VISITED):
        caller.connects()
        caller.lives(ELSEWHERE_S + 0.1, str(epoch))
    assert len(caller.session._visited) == VISITED


def test_a_router_that_forgot_the_caller_gets_its_calls_again_at_once() -> None:
    caller = running()
    caller.waits(PING_S)
    (call,) = calls(caller.pong(known=False))
    assert (call.resend, call.accepted_by) == (True, "add.1")
    assert calls(caller.pong()) == []


# Cancelling


def test_a_call_that_was_not_sent_yet_is_cancelled_on_the_spot() -> None:
    caller = Caller(attached=False)
    caller.submits()
    assert failure(caller.sees(CancelAsked(ID))) == ("cancelled", True)


def test_a_call_that_was_sent_is_cancelled_by_the_routers_word() -> None:
    caller = running()
    assert caller.sees(CancelAsked(ID)) == [Send(Cancel(id=ID))]
    assert caller.sees(CancelAsked(ID)) == []
    outcome = Error(id=ID, code="cancelled", message="the caller cancelled it")
    assert caller.hears(outcome)[0] == Finish(ID, outcome)


def test_an_answer_may_overtake_a_cancellation() -> None:
    caller = running()
    caller.sees(CancelAsked(ID))
    assert caller.hears(Result(id=ID))[0] == Finish(ID, Result(id=ID))


def test_without_the_routers_word_it_is_cancelled_after_the_grace() -> None:
    caller = running()
    caller.sees(CancelAsked(ID))
    assert not [a for a in caller.waits(GRACE_S - JUST) if isinstance(a, Finish)]
    assert failure(caller.waits(JUST)) == ("cancelled", False)


@pytest.mark.parametrize("id", [OTHER_ID, ID])
def test_cancelling_what_is_over_or_unknown_does_nothing(id: str) -> None:
    caller = running()
    caller.hears(Result(id=ID))
    assert caller.sees(CancelAsked(id)) == []


# Deadlines


def test_a_call_that_was_sent_waits_past_its_deadline_for_the_routers_word() -> None:
    caller = running()
    actions = caller.lives(DEADLINE_S_ + GRACE_S - 0.01)
    assert not [a for a in actions if isinstance(a, Finish)]
    outcome = Error(id=ID, code="deadline_exceeded", message="waited 60 s")
    assert caller.hears(outcome)[0] == Finish(ID, outcome)


def test_without_the_routers_word_the_deadline_is_exceeded_after_the_grace() -> None:
    caller = running()
    actions = caller.lives(DEADLINE_S_ + GRACE_S + 0.01)
    assert failure(actions) == ("deadline_exceeded", False)
    assert caller.session.idle


def test_a_router_that_went_away_with_the_call_makes_it_unsafe_to_repeat() -> None:
    caller = running()
    assert failure(caller.waits(DEADLINE_S_ + GRACE_S)) == ("router_unavailable", False)


def test_a_short_deadline_isnt_held_up_by_a_long_one() -> None:
    caller = running()
    caller.submits(OTHER_ID, deadline_ms=1000)
    assert failure(caller.lives(1 + GRACE_S + 0.01), OTHER_ID) == ("deadline_exceeded", False)


# Without a router


def test_without_any_router_a_call_ends_after_a_while_and_may_take_another_way() -> None:
    caller = Caller(attached=False)
    caller.submits()
    assert outcomes(caller.waits(ROUTER_WAIT_S - JUST)) == []
    actions = caller.waits(JUST)
    assert failure(actions) == ("router_unavailable", True)
    (error,) = outcomes(actions)
    assert isinstance(error, Error)
    assert error.message == "no router at the router for 3.0 s"
    assert "funker up" in error.hint


def test_the_wait_for_a_router_takes_at_most_half_of_the_calls_patience() -> None:
    caller = Caller(attached=False)
    caller.submits(deadline_ms=1000)
    assert outcomes(caller.waits(0.5 - JUST)) == []
    assert failure(caller.waits(JUST)) == ("router_unavailable", True)


def test_who_has_been_without_a_router_for_long_waits_no_more() -> None:
    caller = Caller(attached=False)
    caller.now += 1
    caller.submits()
    assert failure(caller.waits(ROUTER_WAIT_S - 1)) == ("router_unavailable", True)
    assert failure(caller.submits(OTHER_ID), OTHER_ID) == ("router_unavailable", True)


@pytest.mark.parametrize("loss", [Disconnected(), Connected()])
def test_what_comes_while_the_connection_is_gone_waits_for_a_router_unsent(loss: Event) -> None:
    caller = running()
    caller.now += 100
    caller.sees(loss)
    assert calls(caller.submits(OTHER_ID)) == []
    assert failure(caller.waits(ROUTER_WAIT_S), OTHER_ID) == ("router_unavailable", True)


def test_a_silent_router_is_gone_since_its_last_word() -> None:
    caller = running()
    assert caller.waits(SILENCE_S) != []
    caller.submits(OTHER_ID)
    assert outcomes(caller.waits(ROUTER_WAIT_S - SILENCE_S - JUST)) == []
    assert failure(caller.waits(JUST), OTHER_ID) == ("router_unavailable", True)


def test_a_router_that_comes_in_time_gets_the_call() -> None:
    caller = Caller(attached=False)
    caller.submits()
    caller.waits(ROUTER_WAIT_S - 0.1)
    caller.connects()
    (call,) = calls(caller.pong())
    assert (call.id, call.resend) == (ID, False)
    assert outcomes(caller.lives(DEADLINE_S_ - ROUTER_WAIT_S)) == []


def test_a_call_that_a_router_has_had_never_takes_another_way() -> None:
    caller = running()
    for event in (Disconnected(), Connected(), Disconnected(), HungUp(), HungUp(), HungUp()):
        caller.sees(event)
        caller.waits(1)
    caller.sees(Refused("it doesn't know the key"))
    assert failure(caller.waits(DEADLINE_S_)) == ("router_unavailable", False)


@pytest.mark.parametrize(("moved", "safe"), [(False, True), (True, False)])
def test_the_routers_own_word_that_it_cant_reach_the_function_is_passed_on(
    moved: bool, safe: bool
) -> None:
    caller = Caller()
    caller.submits()
    if moved:
        caller.connects()
        caller.lives(ELSEWHERE_S + 0.1, "two")
    own = Error(id=ID, code="router_unavailable", message="no key there", hint="h", retry_safe=True)
    assert caller.hears(own)[0] == Finish(ID, own.replace(retry_safe=safe))


def test_the_last_word_over_a_connection_that_is_gone_attaches_nothing() -> None:
    caller = Caller(attached=False)
    caller.connects()
    caller.sees(Disconnected())
    caller.pong()
    assert calls(caller.submits()) == []


# Keys


def test_a_router_that_refuses_us_ends_what_it_hasnt_got_and_nothing_else() -> None:
    caller = running()
    caller.connects()
    caller.submits(OTHER_ID)
    actions = caller.sees(Refused("it doesn't know the key"))
    assert failure(actions, OTHER_ID) == ("unauthorized", True)
    (error,) = outcomes(actions)
    assert isinstance(error, Error)
    assert error.message == "the router refuses this process: it doesn't know the key"
    assert "funker-client-key" in error.hint


def test_each_call_after_a_refusal_knocks_again_and_is_refused_again() -> None:
    caller = Caller(attached=False)
    for n in range(3):
        caller.submits(f"{n:032x}")
        failed = caller.sees(Refused("no"))
        assert failure(failed, f"{n:032x}") == ("unauthorized", True)
        caller.now += 100
    assert caller.submits() == [Reconnect()]
    assert caller.submits(OTHER_ID) == []
    caller.connects()
    assert {call.id for call in calls(caller.pong())} == {ID, OTHER_ID}


def test_a_refusal_outlasts_the_dialling_for_calls_that_are_with_routers() -> None:
    caller = running()
    caller.sees(Refused("no"))
    assert Reconnect() in caller.waits(ROUTER_WAIT_S + 1)
    assert outcomes(caller.submits(OTHER_ID)) == []  # not «no router»: it may not go directly
    assert failure(caller.sees(Refused("no")), OTHER_ID) == ("unauthorized", True)


@pytest.mark.parametrize(
    ("times", "code"), [(HANG_UPS - 1, "router_unavailable"), (HANG_UPS, "unauthorized")]
)
def test_who_breaks_off_in_the_handshake_again_and_again_has_other_keys(
    times: int, code: str
) -> None:
    caller = Caller(attached=False)
    caller.submits()
    for _ in range(times):
        caller.sees(HungUp())
    assert failure(caller.waits(ROUTER_WAIT_S)) == (code, True)
    caller.connects()
    caller.sees(Disconnected())
    assert failure(caller.submits()) == ("router_unavailable", True)


# Questions


def answers(actions: list[Action]) -> list[Answer]:
    return [action for action in actions if isinstance(action, Answer)]


def test_a_question_is_sent_and_answered_by_number() -> None:
    caller = Caller()
    query = Query(number=7, what="status")
    assert Send(query) in caller.sees(Asked(query))
    assert caller.hears(Reply(number=8)) == []
    reply = Reply(number=7, body=b"{}")
    assert caller.hears(reply) == [Answer(7, reply)]
    assert caller.session.idle
    assert caller.hears(reply) == []


def test_a_question_waits_for_a_router_and_is_asked_again_over_each_connection() -> None:
    caller = Caller(attached=False)
    query = Query(number=7, what="status")
    assert caller.sees(Asked(query)) == []
    for _ in range(2):
        caller.connects()
        assert Send(query) in caller.pong()


def test_a_question_keeps_the_pings_going_and_is_given_up_in_the_end() -> None:
    caller = Caller()
    caller.sees(Asked(Query(number=7, what="status")))
    assert answers(caller.lives(QUERY_S - 0.1)) == []
    (answer,) = answers(caller.lives(0.2))
    assert isinstance(answer.outcome, Error)
    assert (answer.number, answer.outcome.code) == (7, "router_unavailable")
    assert "gave no answer" in answer.outcome.message
    assert caller.session.wakeup() == float("inf")


def test_a_question_to_nobody_ends_like_a_call() -> None:
    caller = Caller(attached=False)
    caller.sees(Asked(Query(number=7, what="status")))
    (answer,) = answers(caller.waits(ROUTER_WAIT_S))
    assert isinstance(answer.outcome, Error)
    assert answer.outcome.code == "router_unavailable"
    caller.sees(Refused("no"))
    assert caller.sees(Asked(Query(number=8, what="status"))) == [Reconnect()]
    (answer,) = answers(caller.sees(Refused("no")))
    assert isinstance(answer.outcome, Error)
    assert (answer.number, answer.outcome.code) == (8, "unauthorized")


# Cost


def test_a_call_costs_the_same_however_many_are_open() -> None:
    def seconds(open_calls: int) -> float:
        caller = Caller()
        for n in range(open_calls):
            caller.submits(f"{n:032x}")
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for n in range(200):
                caller.submits(f"f{n:031x}")
                caller.hears(Accept(id=f"f{n:031x}"))
                caller.hears(Result(id=f"f{n:031x}"))
            best = min(best, time.perf_counter() - start)
        return best

    few, many = seconds(10), seconds(10_000)
    assert many < 5 * few


def test_ended_calls_are_forgotten_long_before_their_deadlines() -> None:
    caller = Caller()
    for n in range(5000):
        caller.submits(f"{n:032x}", deadline_ms=3_600_000)
        caller.hears(Result(id=f"{n:032x}"))
    assert len(caller.session._dues) < 200
    assert len(caller.session._acked) <= 1024
