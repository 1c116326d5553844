"""A direct call, transition by transition: what the caller sees, and what follows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from funker.rpc.calls import (
    ASK_S,
    BOOT_PROBE_S,
    BUSY_PROBE_S,
    CONNECT_S,
    GRACE_S,
    LOOKUP_MAX_S,
    LOOKUP_S,
    NAME_S,
    RETRY_S,
    SILENCE_S,
    STRANGER_S,
    Action,
    CancelAsked,
    Connect,
    Connected,
    DirectCall,
    Disconnect,
    Disconnected,
    Event,
    Finish,
    Heard,
    Resolve,
    Resolved,
    Send,
    State,
    Tick,
)
from funker.rpc.messages import Accept, Ack, Busy, Bye, Call, Cancel, Error, Ping, Pong, Result

ID, OTHER_ID = "1d" * 16, "0d" * 16
#: Addresses of replicas, and their sessions.
A, B, C = "10.0.1.2:5570", "10.0.1.3:5570", "10.0.1.4:5570"
SESSIONS = {A: "aa" * 16, B: "bb" * 16, C: "cc" * 16}
DEADLINE_S = 120.0
JUST = 1e-6


class Calling:
    """A call and its clock. `sees` gives what follows from an event, `waits` from time alone."""

    def __init__(self, name: str = "add", *, fixed: bool = False, **fields: Any) -> None:
        self.now = 1000.0
        self.call = Call(
            **{"id": ID, "function": name, "deadline_ms": 120_000, "body": b"{}"} | fields
        )
        self.machine = DirectCall(self.call, now=self.now, jitter=lambda: 0.5, fixed=fixed)
        assert self.sees(Tick()) == [Resolve()]

    @property
    def state(self) -> State:
        return self.machine.state

    def sees(self, event: Event) -> list[Action]:
        return self.machine.on(event, self.now)

    def hears(self, message: Any, *, at: str = A) -> list[Action]:
        return self.sees(Heard(at, message))

    def resolves(self, *addresses: str) -> list[Action]:
        return self.sees(Resolved(addresses))

    def waits(self, seconds: float) -> list[Action]:
        """What follows while time passes, with a tick whenever the call wants one."""
        end, actions, idle_ticks = self.now + seconds, [], 0
        while self.state is not State.DONE and (due := self.machine.wakeup()) <= end:
            self.now = max(due, self.now)
            step = self.sees(Tick())
            actions += step
            idle_ticks = 0 if step else idle_ticks + 1
            assert idle_ticks < 3, "it would spin"
        self.now = end
        return actions + self.sees(Tick())

    def sent(self, *, at: str = A, resend: bool = False, attempt: int = 1) -> Send:
        """The CALL as it goes to a replica now."""
        assert self.call.deadline_ms is not None
        patience = self.call.deadline_ms - round((self.now - 1000.0) * 1000)
        return Send(
            at,
            self.call.replace(
                session=SESSIONS[at], deadline_ms=patience, resend=resend, attempt=attempt
            ),
        )


def a_pong(
    state: str = "idle", *, at: str = A, function: str = "add", names: Any = ("add",)
) -> Pong:
    reason = {"message": "ImportError: no", "traceback": "Traceback"} if state == "failed" else {}
    return Pong(
        number=1,
        function=function,
        names=names,
        replica=f"{function}.{at}",
        session=SESSIONS[at],
        state=state,
        **reason,
    )


def seeking(*states: str, **fields: Any) -> Calling:
    """Connected to A, B, …, which have answered in these states."""
    calling = Calling(**fields)
    addresses = list(SESSIONS)[: len(states)]
    calling.resolves(*addresses)
    for address in addresses:
        calling.sees(Connected(address))
    for address, state in zip(addresses, states, strict=True):
        for action in calling.hears(a_pong(state, at=address), at=address):
            assert action == calling.sent(), "only the call to A is expected"
    return calling


def sent(*others: str, **fields: Any) -> Calling:
    """The call is with A; the others have answered in these states since."""
    calling = seeking("idle", *others, **fields)
    assert calling.state is State.SENT
    return calling


def running(*others: str, **fields: Any) -> Calling:
    calling = sent(*others, **fields)
    calling.hears(Accept(id=ID))
    assert calling.state is State.RUNNING
    return calling


def asking(*, accepted: bool, **fields: Any) -> Calling:
    """A cut us off, and is connected to again."""
    calling = running(**fields) if accepted else sent(**fields)
    assert calling.sees(Disconnected(A)) == [Disconnect(A), Connect(A)]
    assert calling.state is State.ASKING
    return calling


def finish(code: str, message: str, *, safe: bool = False, hint: str = "") -> Finish:
    return Finish(
        Error(id=ID, code=code, message=message, hint=hint, function="add", retry_safe=safe)
    )


def outcome(actions: list[Action]) -> Result | Error:
    (found,) = [action.outcome for action in actions if isinstance(action, Finish)]
    return found


def failure(actions: list[Action]) -> tuple[str, bool]:
    """The code of the error that the call ended with, and whether it is safe to call again."""
    error = outcome(actions)
    assert isinstance(error, Error)
    assert error.id == ID
    return error.code, error.retry_safe


def calls_in(actions: list[Action]) -> list[str]:
    """The addresses that were sent the call."""
    return [a.address for a in actions if isinstance(a, Send) and isinstance(a.message, Call)]


# SEEKING: from a name to an idle replica


def test_a_call_looks_its_name_up_connects_probes_and_goes_to_the_idle_replica() -> None:
    calling = Calling()
    assert calling.resolves(A, B) == [Connect(A), Connect(B)]
    assert calling.sees(Connected(A)) == [Send(A, Ping(number=1, function="add"))]
    assert calling.sees(Connected(B)) == [Send(B, Ping(number=2, function="add"))]
    assert calling.hears(a_pong("busy")) == []
    assert calling.hears(a_pong("idle", at=B), at=B) == [calling.sent(at=B)]
    assert calling.state is State.SENT


def test_a_call_goes_to_the_first_idle_replica_without_waiting_for_the_others() -> None:
    calling = Calling()
    calling.resolves(A, B, C)
    calling.sees(Connected(A))
    assert calls_in(calling.hears(a_pong("idle"))) == [A]


def test_what_a_replica_is_told_of_the_deadline_is_what_is_left() -> None:
    calling = seeking("busy")
    calling.now += 100
    (call,) = [a.message for a in calling.hears(a_pong("idle")) if isinstance(a, Send)]
    assert isinstance(call, Call)
    assert call.deadline_ms == 20_000


def test_while_nobody_is_idle_the_name_is_looked_up_again_less_and_less_often() -> None:
    calling = seeking("busy")
    times = []
    for _ in range(12):
        while Resolve() not in calling.waits(0.001):
            pass
        times.append(calling.now)
        calling.resolves(A)
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert times[0] - 1000.0 == pytest.approx(LOOKUP_S, abs=0.002)
    assert gaps[-1] == pytest.approx(LOOKUP_MAX_S, abs=0.002)


def test_one_look_up_at_a_time() -> None:
    calling = Calling()
    assert Resolve() not in calling.waits(NAME_S - JUST)


def test_a_replica_that_is_new_in_the_name_is_tried_and_a_known_one_is_left_alone() -> None:
    calling = seeking("busy")
    assert calling.resolves(A, B) == [Connect(B)]


@pytest.mark.parametrize(
    ("state", "pause"), [("boot", BOOT_PROBE_S), ("busy", BUSY_PROBE_S), ("idle", CONNECT_S)]
)
def test_a_replica_is_asked_again_after_a_while(state: str, pause: float) -> None:
    calling = seeking(state, "boot")
    if state == "idle":  # one that can't be called: another function may have the alias
        calling = Calling()
        calling.resolves(A, B)
        calling.sees(Connected(A))
        calling.sees(Connected(B))
        calling.hears(a_pong("idle", function="shop_add", names=("shop_add", "add")))
    at = [a for a in calling.waits(pause) if isinstance(a, Send) and a.address == A]
    assert len(at) == 1
    assert isinstance(at[0].message, Ping)


def test_an_address_that_refuses_is_tried_again_soon() -> None:
    calling = Calling()
    calling.resolves(A)
    assert calling.sees(Disconnected(A)) == []
    calling.waits(RETRY_S - JUST)
    assert calling.resolves(A) == []
    calling.waits(2 * JUST)
    assert calling.resolves(A) == [Connect(A)]


@pytest.mark.parametrize("connected", [False, True])
def test_an_address_that_is_silent_is_given_up_and_tried_again_later(connected: bool) -> None:
    calling = Calling()
    calling.resolves(A)
    if connected:
        calling.sees(Connected(A))
    assert Disconnect(A) not in calling.waits(CONNECT_S - JUST)
    assert Disconnect(A) in calling.waits(2 * JUST)
    calling.waits(RETRY_S + JUST)
    assert Connect(A) in calling.resolves(A)


def test_a_stranger_at_the_one_address_that_was_given_ends_the_call() -> None:
    calling = Calling(fixed=True)
    calling.resolves(A)
    calling.sees(Connected(A))
    [finish] = calling.hears(a_pong("idle", function="mul", names=("mul",)))
    assert isinstance(finish, Finish)
    assert isinstance(finish.outcome, Error)
    assert finish.outcome.code == "function_not_found"
    assert "'mul'" in finish.outcome.message
    assert finish.outcome.retry_safe


def test_a_stranger_at_an_address_is_left_alone_for_a_while() -> None:
    calling = Calling()
    calling.resolves(A)
    calling.sees(Connected(A))
    stranger = a_pong("idle", function="mul", names=("mul",))
    assert calling.hears(stranger) == [Disconnect(A)]
    assert calling.resolves(A) == []
    calling.waits(STRANGER_S)
    assert calling.resolves(A) == [Connect(A)]


def test_a_state_that_nobody_knows_is_no_answer() -> None:
    calling = seeking("tired")
    assert calling.state is State.SEEKING
    assert Disconnect(A) in calling.waits(CONNECT_S)


def test_a_replica_that_says_bye_is_acknowledged_and_taken_for_busy() -> None:
    calling = seeking("busy")
    bye = Bye(replica="add.1", session=SESSIONS[A], held=(OTHER_ID,))
    assert calling.hears(bye) == [Send(A, Ack(id=SESSIONS[A]))]
    assert calling.state is State.SEEKING


def test_messages_out_of_turn_change_nothing() -> None:
    calling = seeking("busy")
    for message in (Accept(id=ID), Busy(id=ID, session=SESSIONS[A]), Result(id=ID)):
        assert calling.hears(message) == []
        assert calling.hears(message, at="10.9.9.9:5570") == []
    assert calling.hears(Error(id=ID, code="function_error", message="no")) == []
    assert calling.hears(a_pong("idle", at=B), at=B) == []  # never connected to
    assert calling.state is State.SEEKING


# Names


def test_a_name_that_nobody_ever_had_is_an_unknown_function() -> None:
    calling = Calling()
    calling.resolves()
    actions: list[Action] = []
    while calling.state is not State.DONE:
        actions = calling.waits(0.01)
        calling.resolves()
    assert calling.now - 1000.0 == pytest.approx(NAME_S, abs=0.02)
    assert failure(actions) == ("function_not_found", True)


def test_a_name_that_is_unknown_until_an_early_deadline_is_an_unknown_function_too() -> None:
    assert failure(Calling(deadline_ms=2000).waits(2)) == ("function_not_found", True)


def test_a_name_that_once_was_known_is_waited_for_until_the_deadline() -> None:
    calling = Calling()
    calling.resolves(A)
    calling.sees(Disconnected(A))
    calling.resolves()
    assert not [a for a in calling.waits(DEADLINE_S - JUST) if isinstance(a, Finish)]
    assert failure(calling.waits(JUST)) == ("deadline_exceeded", True)


def test_a_name_that_appears_late_is_found() -> None:
    calling = Calling()
    calling.resolves()
    calling.waits(NAME_S - 1)
    calling.resolves(A)
    calling.sees(Connected(A))
    assert calls_in(calling.hears(a_pong("idle"))) == [A]


def test_an_alias_waits_until_all_addresses_have_said_who_they_are() -> None:
    calling = Calling()
    calling.resolves(A, B)
    calling.sees(Connected(A))
    calling.sees(Connected(B))
    shop = a_pong("idle", function="shop_add", names=("shop_add", "add"))
    assert calling.hears(shop) == []
    also = a_pong("busy", at=B, function="shop_add", names=("shop_add", "add"))
    assert calling.hears(also, at=B) == [calling.sent(at=A)]


def test_an_alias_waits_for_an_address_that_is_silent_only_until_it_is_given_up() -> None:
    calling = Calling()
    calling.resolves(A, B)
    calling.sees(Connected(A))
    calling.hears(a_pong("idle", function="shop_add", names=("shop_add", "add")))
    actions = calling.waits(CONNECT_S)
    assert Disconnect(B) in actions
    if not calls_in(actions):  # A's word is a second old by then, so it was asked again
        actions = calling.hears(a_pong("idle", function="shop_add", names=("shop_add", "add")))
    assert calls_in(actions) == [A]


def test_an_alias_of_two_functions_is_ambiguous() -> None:
    calling = Calling()
    calling.resolves(A, B)
    calling.sees(Connected(A))
    calling.sees(Connected(B))
    calling.hears(a_pong("idle", function="shop_add", names=("shop_add", "add")))
    blog = a_pong("busy", at=B, function="blog_add", names=("blog_add", "add"))
    assert calling.hears(blog, at=B) == [
        finish(
            "ambiguous_function",
            "'add' may be blog_add or shop_add",
            safe=True,
            hint="call it by its full name",
        )
    ]


def test_who_has_the_name_itself_goes_before_who_has_it_as_an_alias() -> None:
    calling = Calling()
    calling.resolves(A, B)
    calling.sees(Connected(A))
    calling.sees(Connected(B))
    calling.hears(a_pong("idle", function="shop_add", names=("shop_add", "add")))
    assert calling.hears(a_pong("busy", at=B), at=B) == []
    assert calls_in(calling.hears(a_pong("idle", at=B), at=B)) == [B]


# Replicas that failed


def test_when_all_replicas_have_failed_the_call_has_too_and_says_why() -> None:
    calling = seeking("failed", "boot")
    assert calling.hears(a_pong("failed", at=B), at=B) == [
        Finish(
            Error(
                id=ID,
                code="init_failed",
                message="ImportError: no",
                traceback="Traceback",
                function="add",
                replica=f"add.{A}",
                retry_safe=True,
            )
        )
    ]


def test_one_that_failed_is_passed_over_while_another_may_serve() -> None:
    calling = seeking("failed", "busy")
    assert calling.state is State.SEEKING
    assert calls_in(calling.hears(a_pong("idle", at=B), at=B)) == [B]


def test_one_that_failed_isnt_the_end_before_all_have_been_heard() -> None:
    calling = Calling()
    calling.resolves(A, B)
    calling.sees(Connected(A))
    assert calling.hears(a_pong("failed")) == []
    assert failure(calling.sees(Disconnected(B))) == ("init_failed", True)


def test_a_replica_that_fails_just_before_the_call_comes_is_passed_over() -> None:
    calling = sent("idle")
    refused = Error(id=ID, code="init_failed", message="ImportError: no", retry_safe=True)
    assert calling.hears(refused) == [Disconnect(A), calling.sent(at=B)]


# SENT


def test_busy_sends_the_call_to_the_next_idle_replica() -> None:
    calling = sent("idle")
    assert calling.hears(Busy(id=ID, session=SESSIONS[A])) == [calling.sent(at=B)]
    assert calling.state is State.SENT


def test_busy_with_nobody_else_idle_goes_on_seeking_at_once() -> None:
    calling = sent("busy")
    calling.resolves(A, B)
    assert calling.hears(Busy(id=ID, session=SESSIONS[A])) == [Resolve()]
    assert calling.state is State.SEEKING
    assert calls_in(calling.hears(a_pong("idle", at=B), at=B)) == [B]


def test_a_bye_that_crosses_the_call_sends_it_to_the_next_idle_replica() -> None:
    calling = sent("idle")
    bye = Bye(replica="add.1", session=SESSIONS[A], held=(OTHER_ID,))
    assert calling.hears(bye) == [Send(A, Ack(id=SESSIONS[A])), calling.sent(at=B)]


def test_a_bye_that_holds_the_call_means_that_it_was_accepted() -> None:
    calling = sent("idle")
    assert calling.hears(Bye(replica="add.1", session=SESSIONS[A], held=(ID,))) == []
    assert calling.state is State.SENT


def test_a_bye_of_another_session_says_nothing_about_the_call() -> None:
    calling = sent("idle")
    assert failure(calling.hears(Bye(replica="add.1", session=SESSIONS[C]))) == (
        "replica_lost",
        False,
    )


def test_busy_of_another_session_says_nothing_about_the_call() -> None:
    calling = sent("idle")
    assert failure(calling.hears(Busy(id=ID, session=SESSIONS[C]))) == ("replica_lost", False)


def test_what_is_said_about_another_call_is_ignored() -> None:
    calling = sent("idle")
    for message in (
        Busy(id=OTHER_ID, session=SESSIONS[A]),
        Accept(id=OTHER_ID),
        Result(id=OTHER_ID),
        Error(id=OTHER_ID, code="init_failed", message="no"),
        Error(id=OTHER_ID, code="function_error", message="no"),
    ):
        assert calling.hears(message) == []
    assert calling.state is State.SENT


def test_what_others_say_about_the_call_is_ignored() -> None:
    calling = sent("busy")
    for message in (Busy(id=ID, session=SESSIONS[B]), Accept(id=ID), Result(id=ID)):
        assert calling.hears(message, at=B) == []
    assert calling.state is State.SENT


def test_accepting_lets_go_of_all_the_others() -> None:
    calling = sent("busy", "busy")
    assert calling.hears(Accept(id=ID)) == [Disconnect(B), Disconnect(C)]
    assert calling.state is State.RUNNING


def test_an_answer_that_overtakes_the_accept_counts() -> None:
    calling = sent()
    assert calling.hears(Result(id=ID)) == [Send(A, Ack(id=ID)), Finish(Result(id=ID))]


def test_a_refusal_is_the_outcome() -> None:
    error = Error(id=ID, code="payload_too_large", message="101 bytes", retry_safe=True)
    assert sent().hears(error) == [Send(A, Ack(id=ID)), Finish(error)]


def test_a_complaint_about_frames_that_could_not_be_read_is_the_outcome() -> None:
    error = Error(code="protocol_error", message="unknown kind")
    assert sent().hears(error) == [Send(A, Ack(id=ID)), Finish(error)]


def test_a_replica_of_the_name_that_doesnt_know_it_any_more_is_passed_over() -> None:
    calling = sent("idle")
    refused = Error(id=ID, code="function_not_found", message="serves mul", retry_safe=True)
    assert calling.hears(refused) == [Disconnect(A), calling.sent(at=B)]


# RUNNING


@pytest.mark.parametrize(
    "message",
    [
        Result(id=ID, body=b"3"),
        Error(id=ID, code="function_error", message="ValueError: no"),
        Error(id=ID, code="init_failed", message="said by a handler's own call"),
    ],
)
def test_the_outcome_is_acknowledged_and_ends_the_call(message: Any) -> None:
    calling = running()
    assert calling.hears(message) == [Send(A, Ack(id=ID)), Finish(message)]
    assert calling.state is State.DONE


def test_after_the_end_nothing_follows_from_anything() -> None:
    calling = running("busy")
    calling.hears(Result(id=ID))
    for event in (
        Heard(A, Result(id=ID)),
        Disconnected(A),
        CancelAsked(),
        Tick(),
        Resolved((B,)),
        Connected(B),
        Heard(B, a_pong("idle", at=B)),
    ):
        calling.now += 100
        assert calling.sees(event) == []


def test_signs_of_life_keep_a_long_call_alive() -> None:
    calling = running()
    for _ in range(200):
        assert calling.waits(0.5) == []
        assert calling.hears(Pong(number=0, names=("add",), state="busy")) == []
    assert calling.state is State.RUNNING


def test_the_replica_that_has_the_call_isnt_let_go_whatever_its_pongs_say() -> None:
    calling = sent("idle")
    assert calling.hears(a_pong("idle", function="mul", names=("mul",))) == []
    assert calling.hears(Busy(id=ID, session=SESSIONS[A])) == [calling.sent(at=B)]


@pytest.mark.parametrize("accepted", [False, True])
def test_silence_means_that_the_replica_is_lost(accepted: bool) -> None:
    calling = running() if accepted else sent()
    assert calling.waits(SILENCE_S - JUST) == []
    assert failure(calling.waits(2 * JUST)) == ("replica_lost", False)


def test_a_bye_of_one_that_had_accepted_means_that_it_forgot() -> None:
    calling = running()
    bye = Bye(replica="add.1", session=SESSIONS[A])
    assert failure(calling.hears(bye)) == ("replica_lost", False)


def test_busy_after_accepting_means_that_another_is_there() -> None:
    calling = running()
    assert failure(calling.hears(Busy(id=ID, session=SESSIONS[A]))) == ("replica_lost", False)


# ASKING: cut off


@pytest.mark.parametrize("accepted", [False, True])
def test_one_that_cuts_us_off_is_asked_again_in_the_same_session(accepted: bool) -> None:
    calling = asking(accepted=accepted)
    calling.waits(0.01)
    assert calling.sees(Connected(A)) == [calling.sent(resend=True)]
    assert calling.state is (State.RUNNING if accepted else State.SENT)
    assert calling.hears(Accept(id=ID)) == []
    assert calling.hears(Result(id=ID)) == [Send(A, Ack(id=ID)), Finish(Result(id=ID))]


def test_one_that_refuses_is_asked_again_until_it_is_given_up() -> None:
    calling = asking(accepted=True)
    started, attempts, actions = calling.now, 0, []
    while calling.state is not State.DONE:
        if Connect(A) in actions or not attempts:
            attempts += 1
            calling.sees(Disconnected(A))
        actions = calling.waits(0.01)
    assert calling.now - started == pytest.approx(ASK_S, abs=0.02)
    assert 20 < attempts < 60
    assert failure(actions) == ("replica_lost", False)


def test_one_that_never_answers_is_given_up_in_time() -> None:
    calling = asking(accepted=True)
    assert calling.waits(ASK_S - JUST) == []
    assert failure(calling.waits(2 * JUST)) == ("replica_lost", False)


def test_one_that_keeps_cutting_us_off_without_a_word_is_given_up() -> None:
    # As a replica does whose limit for messages is lower than the call is large.
    calling = sent("idle")
    started, sent_again, actions = calling.now, 0, []
    while calling.state is not State.DONE:
        assert calling.now - started < ASK_S + 0.1
        actions = calling.sees(Disconnected(A)) + calling.waits(RETRY_S)
        if Connect(A) in actions:
            sent_again += len(calls_in(calling.sees(Connected(A))))
    assert 1 < sent_again < 60
    assert failure(actions) == ("replica_lost", False)


def test_one_that_was_heard_between_two_cuts_has_the_whole_time_again() -> None:
    calling = running()
    for _ in range(5):
        calling.sees(Disconnected(A))
        calling.waits(ASK_S * 0.9)
        calling.sees(Connected(A))
        calling.hears(Accept(id=ID))
    assert calling.state is State.RUNNING


def test_another_replica_at_the_old_address_means_that_ours_is_lost() -> None:
    calling = asking(accepted=False)
    calling.sees(Connected(A))
    assert failure(calling.hears(Busy(id=ID, session=SESSIONS[C]))) == ("replica_lost", False)


def test_one_that_cut_us_off_and_never_got_the_call_says_so_and_the_call_goes_on() -> None:
    calling = sent("idle")
    calling.sees(Disconnected(A))
    calling.sees(Connected(A))
    assert calls_in(calling.hears(Busy(id=ID, session=SESSIONS[A]))) == [B]


def test_a_call_that_isnt_idempotent_is_never_sent_to_another_after_a_loss() -> None:
    calling = sent("idle")
    calling.sees(Disconnected(A))
    assert calls_in(calling.waits(ASK_S)) == []
    assert calling.state is State.DONE


def test_others_that_end_dont_matter_while_a_replica_has_the_call() -> None:
    calling = sent("busy")
    assert calling.sees(Disconnected(B)) == []
    assert calling.state is State.SENT


# Idempotent calls


@pytest.mark.parametrize("how", ["cut off", "silent", "replaced", "forgotten"])
def test_an_idempotent_call_goes_on_with_another_replica_after_a_loss(how: str) -> None:
    calling = sent("idle", idempotent=True)
    actions: list[Action] = []
    if how == "cut off":
        calling.sees(Disconnected(A))
        actions = calling.waits(ASK_S)
    elif how == "silent":
        actions = calling.waits(SILENCE_S)
    elif how == "replaced":
        actions = calling.hears(Busy(id=ID, session=SESSIONS[C]))
    elif how == "forgotten":
        actions = calling.hears(Bye(replica="add.1", session=SESSIONS[C]))
    if not calls_in(actions):
        actions = calling.hears(a_pong("idle", at=B), at=B)
    assert [a for a in actions if isinstance(a, Send) and isinstance(a.message, Call)] == [
        calling.sent(at=B, attempt=2)
    ]


def test_after_a_loss_no_error_of_an_idempotent_call_says_that_it_never_started() -> None:
    calling = running(idempotent=True)
    calling.sees(Disconnected(A))
    calling.waits(ASK_S)
    assert calling.state is State.SEEKING
    assert failure(calling.waits(DEADLINE_S)) == ("deadline_exceeded", False)


# Deadlines


def test_a_deadline_that_passes_while_waiting_says_that_nothing_started() -> None:
    calling = seeking("busy", "boot", deadline_ms=20)
    assert calling.waits(0.02) == [
        finish(
            "deadline_exceeded",
            "no replica of 'add' was free before the deadline; its replicas: boot, busy",
            safe=True,
            hint="raise the deadline, or the number of replicas",
        )
    ]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_deadline_that_passes_while_running_waits_for_the_replicas_own_word(
    accepted: bool,
) -> None:
    calling = running(deadline_ms=5000) if accepted else sent(deadline_ms=5000)
    assert calling.waits(5 + GRACE_S - JUST) == []
    word = Error(id=ID, code="deadline_exceeded", message="the caller's deadline passed")
    assert calling.hears(word) == [Send(A, Ack(id=ID)), Finish(word)]


def test_a_deadline_that_passes_without_a_word_cancels_the_call() -> None:
    calling = running(deadline_ms=5000)
    assert calling.waits(5 + GRACE_S) == [
        Send(A, Cancel(id=ID)),
        finish("deadline_exceeded", "the deadline passed while the call was running"),
    ]


def test_a_deadline_that_passes_while_asking_ends_the_call() -> None:
    calling = asking(accepted=True, deadline_ms=500)
    assert failure(calling.waits(0.5 + GRACE_S)) == ("deadline_exceeded", False)


def test_nothing_is_sent_after_the_deadline() -> None:
    calling = seeking("busy", deadline_ms=5000)
    calling.now += 5  # an event that was waiting while this process slept
    assert failure(calling.hears(a_pong("idle"))) == ("deadline_exceeded", True)
    calling = sent("idle", deadline_ms=5000)
    calling.waits(5.1)
    assert failure(calling.hears(Busy(id=ID, session=SESSIONS[A]))) == ("deadline_exceeded", True)


# Cancelling


def test_cancelling_while_seeking_ends_the_call_and_nothing_started() -> None:
    calling = seeking("busy")
    assert calling.sees(CancelAsked()) == [
        finish("cancelled", "cancelled by the caller", safe=True)
    ]


def test_cancelling_while_asking_ends_the_call() -> None:
    assert failure(asking(accepted=True).sees(CancelAsked())) == ("cancelled", False)


@pytest.mark.parametrize("accepted", [False, True])
def test_cancelling_a_call_that_a_replica_has_tells_it_and_waits_for_its_word(
    accepted: bool,
) -> None:
    calling = running() if accepted else sent()
    assert calling.sees(CancelAsked()) == [Send(A, Cancel(id=ID))]
    assert calling.sees(CancelAsked()) == []
    word = Error(id=ID, code="cancelled", message="the caller cancelled it", output_tail="tail")
    assert calling.hears(word) == [Send(A, Ack(id=ID)), Finish(word)]


def test_an_answer_that_crosses_the_cancelling_counts() -> None:
    calling = running()
    calling.sees(CancelAsked())
    assert outcome(calling.hears(Result(id=ID))) == Result(id=ID)


def test_cancelling_a_call_whose_replica_says_nothing_ends_it_after_the_grace() -> None:
    calling = running()
    calling.sees(CancelAsked())
    assert calling.waits(GRACE_S - JUST) == []
    assert calling.waits(2 * JUST) == [finish("cancelled", "cancelled by the caller")]


def test_a_cancelled_call_that_wasnt_taken_goes_to_nobody_else() -> None:
    calling = sent("idle")
    calling.sees(CancelAsked())
    assert calling.hears(Busy(id=ID, session=SESSIONS[A])) == [
        finish("cancelled", "cancelled by the caller", safe=True)
    ]


def test_a_cancelled_idempotent_call_isnt_made_again_after_a_loss() -> None:
    calling = sent("idle", idempotent=True)
    calling.sees(CancelAsked())
    assert failure(calling.hears(Busy(id=ID, session=SESSIONS[C]))) == ("cancelled", False)


def test_a_cancelled_call_that_is_cut_off_ends_after_the_grace() -> None:
    calling = running()
    calling.sees(CancelAsked())
    calling.sees(Disconnected(A))
    assert failure(calling.waits(GRACE_S)) == ("cancelled", False)
