"""The life of a replica, transition by transition: what it sees, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from funker.rpc.messages import Accept, Ack, Busy, Bye, Call, Cancel, Error, Ping, Pong, Result
from funker_runtime.events import (
    Action,
    Answered,
    Died,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Loaded,
    LoadFailed,
    Raised,
    Received,
    Release,
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.replica import FAILED_S, LOAD_S, STEADY_S, Replica, State
from funker_runtime.slot import BEAT_S, DEATH_S, GONE_S, HOLD_S, RELEASE_S
from funker_runtime.voice import BYE_S, PROBE_S

SESSION = "5e55" * 8
FUNCTION, ALIAS, REPLICA = "shop_add", "add", "shop_add.1"
#: A caller, one more caller, and one who has only probed.
ANN, BOB, EVE = b"ann", b"bob", b"eve"
ID, OTHER_ID = "1d" * 16, "0d" * 16
TIMEOUT_S = 60.0
MAX_BODY = 100
JUST = 1e-6


class Life:
    """A replica and its clock. `sees` gives what follows from an event, `waits` from time alone."""

    def __init__(self, state: State = State.IDLE, *, call: Call | None = None) -> None:
        self.now = 1000.0
        identity = Identity(FUNCTION, (FUNCTION, ALIAS), REPLICA, SESSION)
        self.replica = Replica(identity, timeout=TIMEOUT_S, max_body=MAX_BODY, now=self.now)
        self.call = call or a_call()
        if state is State.FAILED:
            self.sees(LoadFailed("ImportError: no numpy", "Traceback: no numpy"))
        elif state is not State.BOOT:
            self.sees(Loaded())
        if state in (State.RUNNING, State.HOLDING, State.LEAVING):
            self.sees(Received(ANN, self.call))
        if state in (State.HOLDING, State.LEAVING):
            self.sees(Answered("application/json", b"3"))
        if state is State.LEAVING:
            self.sees(Received(ANN, Ack(id=self.call.id)))
        assert self.state is state

    @property
    def state(self) -> State:
        return self.replica.state

    def sees(self, event: Event) -> list[Action]:
        return self.replica.on(event, self.now)

    def hears(self, message: Any, *, peer: bytes = ANN) -> list[Action]:
        return self.sees(Received(peer, message))

    def waits(self, seconds: float) -> list[Action]:
        """What follows while time passes, with a tick whenever the replica wants one."""
        end, actions = self.now + seconds, []
        while (due := self.replica.wakeup()) <= end:
            assert due > self.now or not actions, "it doesn't get on"
            self.now = max(due, self.now)
            step = self.sees(Tick())
            actions += step
            if any(isinstance(action, Exit) for action in step):
                return actions
        self.now = end
        return actions + self.sees(Tick())


def a_call(id: str = ID, **fields: Any) -> Call:
    return Call(**{"id": id, "function": FUNCTION, "session": SESSION, "body": b"{}"} | fields)


def accept(peer: bytes = ANN, id: str = ID) -> Send:
    return Send(peer, Accept(id=id, replica=REPLICA))


def busy(peer: bytes = ANN, id: str = ID) -> Send:
    return Send(peer, Busy(id=id, session=SESSION))


def bye(peer: bytes, *held: str) -> Send:
    return Send(peer, Bye(replica=REPLICA, session=SESSION, held=held))


def error(code: str, message: str, *, peer: bytes = ANN, id: str = ID, **fields: Any) -> Send:
    signed = {"function": FUNCTION, "replica": REPLICA} | fields
    return Send(peer, Error(id=id, code=code, message=message, **signed))


def answer(body: bytes = b"3", *, peer: bytes = ANN, run: int = 0) -> Send:
    return Send(peer, Result(id=ID, replica=REPLICA, times={"run": run}, body=body))


def pong(peer: bytes, state: str, number: int = 1, **fields: str) -> Send:
    names = (FUNCTION, ALIAS)
    return Send(
        peer,
        Pong(
            number=number,
            function=FUNCTION,
            names=names,
            replica=REPLICA,
            session=SESSION,
            state=state,
            **fields,  # type: ignore[arg-type]
        ),
    )


def without_beats(actions: list[Action]) -> list[Action]:
    return [
        action
        for action in actions
        if not (isinstance(action, Send) and isinstance(action.message, Pong))
    ]


def test_one_that_somebody_keeps_leaves_at_once_when_its_idle_worker_dies() -> None:
    identity = Identity(FUNCTION, (FUNCTION, ALIAS), REPLICA, SESSION)
    replica = Replica(identity, timeout=TIMEOUT_S, max_body=MAX_BODY, now=0.0, kept=True)
    replica.on(Loaded(), 0.0)
    assert replica.on(Died("was killed by SIGKILL", ""), 1.0) == [Exit(1)]


# BOOT


def test_in_boot_a_loaded_handler_makes_it_idle() -> None:
    life = Life(State.BOOT)
    assert life.sees(Loaded()) == []
    assert life.state is State.IDLE


def test_in_boot_a_handler_that_cant_be_loaded_makes_it_failed() -> None:
    life = Life(State.BOOT)
    assert life.sees(LoadFailed("ImportError: no numpy", "Traceback")) == []
    assert life.state is State.FAILED


def test_in_boot_a_process_that_dies_makes_it_failed_with_its_last_output() -> None:
    life = Life(State.BOOT)
    assert life.sees(Died("exited with status 3", "bye")) == []
    assert life.state is State.FAILED
    message = "the function's process exited with status 3 before any call"
    assert life.hears(Ping(number=1)) == [pong(ANN, "failed", message=message, traceback="bye")]


def test_loading_that_takes_too_long_is_killed_and_makes_it_failed() -> None:
    life = Life(State.BOOT)
    assert life.waits(LOAD_S - JUST) == []
    assert life.waits(JUST) == [Kill()]
    assert life.state is State.FAILED
    assert life.sees(Loaded()) == []
    assert life.state is State.FAILED


def test_in_boot_a_call_is_answered_busy_and_a_ping_with_boot() -> None:
    life = Life(State.BOOT)
    assert life.hears(a_call()) == [busy()]
    assert life.hears(Ping(number=1)) == [pong(ANN, "boot")]
    assert life.state is State.BOOT


def test_in_boot_sigterm_ends_it_at_once() -> None:
    assert Life(State.BOOT).sees(Terminate()) == [Exit(0)]


# IDLE


def test_in_idle_a_call_with_the_right_session_is_accepted_and_started() -> None:
    life = Life()
    assert life.hears(a_call()) == [Start(a_call()), accept()]
    assert life.state is State.RUNNING


def test_in_idle_a_call_by_an_alias_is_accepted() -> None:
    life = Life()
    call = a_call(function=ALIAS)
    assert life.hears(call) == [Start(call), accept()]


def test_accepting_a_call_tells_everyone_who_was_told_idle() -> None:
    life = Life()
    for peer in (ANN, BOB, EVE):
        assert life.hears(Ping(number=1), peer=peer) == [pong(peer, "idle")]
    assert life.hears(a_call()) == [Start(a_call()), accept(), bye(BOB, ID), bye(EVE, ID)]


def test_who_has_probed_long_ago_or_is_gone_isnt_told() -> None:
    life = Life()
    life.hears(Ping(number=1), peer=EVE)
    life.waits(PROBE_S + JUST)
    life.hears(Ping(number=1), peer=BOB)
    life.sees(Gone(BOB))
    assert life.hears(a_call()) == [Start(a_call()), accept()]


def test_many_probes_are_forgotten_in_time() -> None:
    life = Life()
    for number in range(1000):
        life.hears(Ping(number=number), peer=b"%d" % number)
        life.waits(0.1)
    assert len(life.replica._voice._told) <= 257


@pytest.mark.parametrize("state", [State.BOOT, State.IDLE, State.FAILED])
def test_a_stale_session_is_answered_busy_whatever_else_is_wrong(state: State) -> None:
    life = Life(state)
    for call in (a_call(session=""), a_call(session="01d" * 10), a_call(session="", function="x")):
        assert life.hears(call) == [busy()]
    assert life.state is state


@pytest.mark.parametrize("state", [State.BOOT, State.IDLE, State.RUNNING, State.FAILED])
def test_a_call_of_another_function_is_refused(state: State) -> None:
    life = Life(state)
    assert life.hears(a_call(OTHER_ID, function="mul"), peer=BOB) == [
        error(
            "function_not_found",
            "this replica serves shop_add, not mul",
            peer=BOB,
            id=OTHER_ID,
            retry_safe=True,
        )
    ]
    assert life.state is state


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_runs() -> None:
    life = Life()
    assert life.hears(a_call(OTHER_ID, body=b"x" * (MAX_BODY + 1))) == [
        error(
            "payload_too_large",
            "the body has 101 bytes, the limit is 100",
            id=OTHER_ID,
            retry_safe=True,
        )
    ]
    assert life.state is State.IDLE
    life.hears(a_call(body=b"x" * MAX_BODY))
    assert life.state is State.RUNNING


def test_the_question_what_became_of_an_unknown_call_starts_nothing() -> None:
    life = Life()
    assert life.hears(a_call(resend=True, body=None)) == [busy()]
    assert life.state is State.IDLE


def test_a_call_that_is_sent_again_with_its_body_runs_if_it_is_unknown() -> None:
    life = Life()
    call = a_call(resend=True)
    assert life.hears(call) == [Start(call), accept()]


def test_a_call_with_no_body_at_all_runs() -> None:
    life = Life()
    assert life.hears(a_call(body=None)) == [Start(a_call(body=None)), accept()]


def test_in_idle_a_worker_that_dies_makes_it_failed_and_tells_who_was_told_idle() -> None:
    life = Life()
    life.hears(Ping(number=1), peer=EVE)
    assert life.sees(Died("was killed by SIGKILL", "tail")) == [bye(EVE)]
    assert life.state is State.FAILED
    assert life.waits(FAILED_S)[-1] == Exit(1)


def test_in_idle_for_a_while_a_worker_that_dies_makes_room_for_the_next() -> None:
    life = Life()
    life.waits(STEADY_S)
    life.hears(Ping(number=1), peer=EVE)
    assert life.sees(Died("was killed by SIGKILL", "tail")) == [bye(EVE)]
    assert life.state is State.LEAVING
    assert life.hears(a_call(), peer=BOB) == [busy(BOB)]
    assert life.hears(Ack(id=SESSION), peer=EVE) == [Exit(1)]


def test_in_idle_sigterm_with_nobody_told_kills_the_worker_and_exits_with_it() -> None:
    life = Life()
    assert life.sees(Terminate()) == [Kill()]
    assert life.state is State.LEAVING
    assert life.sees(Died("was killed by SIGKILL", "")) == [Exit(0)]


def test_an_idle_replica_waits_for_ever() -> None:
    assert Life().replica.wakeup() == float("inf")


def test_messages_of_other_kinds_change_nothing() -> None:
    life = Life()
    for message in (Accept(id=ID), Busy(id=ID), Result(id=ID), Pong(number=1), Cancel(id=ID)):
        assert life.hears(message) == []
    assert life.hears(Error(code="protocol_error", message="no")) == []
    assert life.state is State.IDLE


# RUNNING


def test_in_running_the_same_id_again_repeats_the_accept_and_starts_nothing() -> None:
    life = Life(State.RUNNING)
    assert life.hears(a_call()) == [accept()]
    assert life.hears(a_call(resend=True, body=None)) == [accept()]
    assert life.state is State.RUNNING


def test_in_running_another_id_is_answered_busy_and_a_ping_too() -> None:
    life = Life(State.RUNNING)
    assert life.hears(a_call(OTHER_ID), peer=BOB) == [busy(BOB, OTHER_ID)]
    assert life.hears(Ping(number=1), peer=BOB) == [pong(BOB, "busy")]


def test_in_running_an_answer_goes_to_the_caller_with_its_time() -> None:
    life = Life(State.RUNNING)
    life.waits(0.25)
    assert life.sees(Answered("application/json", b"3")) == [answer(run=250)]
    assert life.state is State.HOLDING


def test_an_answer_over_the_limit_is_an_error_and_one_at_the_limit_is_sent() -> None:
    life = Life(State.RUNNING)
    assert life.sees(Answered("application/json", b"x" * (MAX_BODY + 1))) == [
        error("payload_too_large", "the answer has 101 bytes, the limit is 100")
    ]
    assert life.state is State.HOLDING
    life = Life(State.RUNNING)
    assert life.sees(Answered("application/json", b"x" * MAX_BODY)) == [answer(b"x" * MAX_BODY)]


def test_a_handler_that_raises_is_reported_when_its_last_output_is_in() -> None:
    life = Life(State.RUNNING)
    assert life.sees(Raised("ValueError: no", "ValueError", "Traceback")) == []
    assert life.sees(Died("exited with status 0", "last words")) == [
        error(
            "function_error",
            "ValueError: no",
            exception_type="ValueError",
            traceback="Traceback",
            output_tail="last words",
        )
    ]
    assert life.state is State.HOLDING


def test_a_handler_that_raises_is_reported_without_output_if_its_process_lingers() -> None:
    life = Life(State.RUNNING)
    life.sees(Raised("ValueError: no", "ValueError", "Traceback"))
    actions = without_beats(life.waits(DEATH_S))
    assert actions == [
        error(
            "function_error", "ValueError: no", exception_type="ValueError", traceback="Traceback"
        )
    ]
    assert life.sees(Died("exited with status 0", "too late")) == []


def test_a_process_that_dies_without_an_answer_has_crashed() -> None:
    life = Life(State.RUNNING)
    assert life.sees(Died("was killed by SIGABRT", "last words")) == [
        error(
            "function_crashed",
            "the function's process was killed by SIGABRT before it answered",
            output_tail="last words",
        )
    ]
    assert life.state is State.HOLDING


TOO_LONG = "ran longer than its time-out of"
TOO_LATE = "the caller's deadline passed while it ran"


@pytest.mark.parametrize(
    ("fields", "after", "code", "message"),
    [
        ({}, 60, "function_timeout", f"{TOO_LONG} 60 s"),
        ({"timeout_ms": 2500}, 2.5, "function_timeout", f"{TOO_LONG} 2.5 s"),
        ({"timeout_ms": 10**6}, 60, "function_timeout", f"{TOO_LONG} 60 s"),
        ({"deadline_ms": 10**6}, 60, "function_timeout", f"{TOO_LONG} 60 s"),
        ({"deadline_ms": 900}, 0.9, "deadline_exceeded", TOO_LATE),
        ({"deadline_ms": 900, "timeout_ms": 500}, 0.5, "function_timeout", f"{TOO_LONG} 0.5 s"),
        ({"deadline_ms": 500, "timeout_ms": 900}, 0.5, "deadline_exceeded", TOO_LATE),
    ],
)
def test_the_earlier_of_time_out_and_deadline_kills_the_handler(
    fields: dict[str, int], after: float, code: str, message: str
) -> None:
    life = Life(State.RUNNING, call=a_call(**fields))
    assert Kill() not in life.waits(after - 0.001)
    assert Kill() in life.waits(0.001)
    assert life.sees(Answered("application/json", b"3")) == []  # too late
    assert life.sees(Died("was killed by SIGKILL", "tail")) == [
        error(code, message, output_tail="tail")
    ]
    assert life.state is State.HOLDING


def test_a_kill_that_never_ends_is_reported_all_the_same() -> None:
    life = Life(State.RUNNING, call=a_call(timeout_ms=1000))
    actions = without_beats(life.waits(1 + DEATH_S))
    assert actions == [
        Kill(),
        error("function_timeout", "ran longer than its time-out of 1 s"),
    ]
    life.hears(Ack(id=ID))
    assert without_beats(life.waits(DEATH_S)) == [Exit(0)]


def test_cancel_kills_the_handler_and_the_caller_is_told_when_it_is_dead() -> None:
    life = Life(State.RUNNING)
    assert life.hears(Cancel(id=ID)) == [Kill()]
    assert life.hears(Cancel(id=ID)) == []
    assert life.sees(Died("was killed by SIGKILL", "tail")) == [
        error("cancelled", "the caller cancelled it", output_tail="tail")
    ]
    assert life.state is State.HOLDING


def test_cancel_of_another_call_changes_nothing() -> None:
    life = Life(State.RUNNING)
    assert life.hears(Cancel(id=OTHER_ID)) == []
    assert life.state is State.RUNNING


def test_in_running_the_caller_gets_a_sign_of_life_each_half_second() -> None:
    life = Life(State.RUNNING)
    assert life.waits(BEAT_S - JUST) == []
    assert life.waits(JUST) == [pong(ANN, "busy", number=0)]
    assert life.waits(3 * BEAT_S) == [pong(ANN, "busy", number=0)] * 3


def test_in_running_a_caller_that_is_gone_has_some_time_to_come_back() -> None:
    life = Life(State.RUNNING)
    life.sees(Gone(ANN))
    assert life.waits(GONE_S - JUST) == []  # and nobody to send signs of life to
    assert life.hears(a_call(resend=True), peer=BOB) == [accept(BOB)]
    assert Kill() not in life.waits(2 * GONE_S)
    assert life.sees(Answered("application/json", b"3"))[0].peer == BOB  # type: ignore[union-attr]


def test_in_running_a_caller_that_stays_away_cancels_its_call() -> None:
    life = Life(State.RUNNING)
    life.sees(Gone(ANN))
    life.waits(GONE_S / 2)
    life.sees(Gone(ANN))  # heard of again: the first time counts
    assert life.waits(GONE_S / 2 - JUST) == []
    assert life.waits(JUST) == [Kill()]
    # Nobody has come for the outcome in all that time, so it isn't held.
    assert life.sees(Died("was killed by SIGKILL", "")) == [
        error("cancelled", "its caller is gone"),
        Exit(0),
    ]


def test_a_connection_that_is_gone_after_the_caller_has_come_back_doesnt_matter() -> None:
    life = Life(State.RUNNING)
    life.hears(a_call(resend=True), peer=BOB)
    life.sees(Gone(ANN))
    assert Kill() not in life.waits(10 * GONE_S)


def test_of_two_callers_with_the_same_id_the_later_gets_the_outcome() -> None:
    life = Life(State.RUNNING)
    assert life.hears(a_call(), peer=BOB) == [accept(BOB)]
    assert life.sees(Answered("application/json", b"3")) == [answer(peer=BOB)]


def test_in_running_sigterm_interrupts_nothing() -> None:
    life = Life(State.RUNNING)
    assert life.sees(Terminate()) == []
    assert life.state is State.RUNNING
    assert life.sees(Answered("application/json", b"3")) == [answer()]
    assert life.sees(Terminate()) == []
    assert life.state is State.HOLDING
    assert life.sees(Died("exited with status 0", "")) == []
    assert life.hears(Ack(id=ID)) == [Exit(0)]


# HOLDING


def test_in_holding_the_same_id_repeats_the_outcome() -> None:
    life = Life(State.HOLDING)
    assert life.hears(a_call(resend=True), peer=BOB) == [answer(peer=BOB)]
    assert life.hears(a_call(resend=True, body=None), peer=BOB) == [answer(peer=BOB)]
    assert life.state is State.HOLDING


def test_in_holding_another_id_is_answered_busy() -> None:
    life = Life(State.HOLDING)
    assert life.hears(a_call(OTHER_ID), peer=BOB) == [busy(BOB, OTHER_ID)]
    assert life.hears(Ping(number=1), peer=BOB) == [pong(BOB, "busy")]


def test_a_worker_that_has_answered_ends_after_a_while_also_without_acknowledgement() -> None:
    life = Life(State.HOLDING)
    assert life.waits(RELEASE_S - JUST) == []
    assert life.waits(JUST) == [Release()]
    assert life.hears(Ack(id=ID)) == []


def test_in_holding_the_acknowledgement_ends_it_with_its_worker() -> None:
    life = Life(State.HOLDING)
    assert life.hears(Ack(id=ID)) == [Release()]
    assert life.state is State.LEAVING
    assert life.sees(Died("exited with status 0", "")) == [Exit(0)]


def test_in_holding_an_acknowledgement_of_another_call_changes_nothing() -> None:
    life = Life(State.HOLDING)
    assert life.hears(Ack(id=OTHER_ID)) == []
    assert life.state is State.HOLDING


def test_an_acknowledgement_before_the_outcome_changes_nothing() -> None:
    life = Life(State.RUNNING)
    assert life.hears(Ack(id=ID)) == []
    assert life.state is State.RUNNING


def test_in_holding_an_outcome_that_nobody_acknowledges_is_kept_for_its_time() -> None:
    life = Life(State.HOLDING)
    life.sees(Died("exited with status 0", ""))
    kept = life.waits(HOLD_S - JUST)
    assert without_beats(kept) == []
    assert kept == [pong(ANN, "busy", number=0)] * (round(HOLD_S / BEAT_S) - 1)
    assert without_beats(life.waits(JUST)) == [Exit(0)]


def test_in_holding_a_caller_that_is_gone_has_some_time_to_come_back() -> None:
    life = Life(State.HOLDING)
    life.sees(Died("exited with status 0", ""))
    life.sees(Gone(ANN))
    assert life.waits(GONE_S - JUST) == []
    assert life.hears(a_call(resend=True), peer=BOB) == [answer(peer=BOB)]
    assert without_beats(life.waits(GONE_S)) == []
    life.sees(Gone(BOB))
    assert without_beats(life.waits(GONE_S)) == [Exit(0)]


def test_in_holding_sigterm_changes_nothing() -> None:
    life = Life(State.HOLDING)
    assert life.sees(Terminate()) == []
    assert life.state is State.HOLDING


def test_in_holding_cancel_comes_too_late() -> None:
    life = Life(State.HOLDING)
    assert life.hears(Cancel(id=ID)) == []
    assert life.hears(a_call()) == [answer()]


def test_a_held_call_keeps_its_outcome_but_not_its_body() -> None:
    life = Life(State.HOLDING)
    assert life.replica._runs[ID].call.body is None


# LEAVING


def leaving_with(*probers: bytes, worker_dead: bool = True) -> Life:
    """Told to stop while idle, after these have heard that it was idle."""
    life = Life()
    for peer in probers:
        life.hears(Ping(number=1), peer=peer)
    assert life.sees(Terminate()) == [*map(bye, probers), Kill()]
    if worker_dead:
        life.sees(Died("was killed by SIGKILL", ""))
    assert life.state is State.LEAVING
    return life


def test_in_leaving_a_call_that_crosses_is_answered_busy() -> None:
    life = leaving_with(ANN)
    assert life.hears(a_call()) == [busy()]
    assert life.hears(Ping(number=1)) == [pong(ANN, "busy")]


def test_leaving_waits_until_all_who_were_told_idle_have_acknowledged() -> None:
    life = leaving_with(ANN, BOB)
    assert life.hears(Ack(id=SESSION)) == []
    assert life.hears(Ack(id=SESSION)) == []
    assert life.hears(Ack(id=ID), peer=BOB) == []
    assert life.hears(Ack(id=SESSION), peer=BOB) == [Exit(0)]


def test_leaving_doesnt_wait_for_who_is_gone() -> None:
    assert leaving_with(ANN).sees(Gone(ANN)) == [Exit(0)]


def test_leaving_waits_300_ms_for_who_doesnt_acknowledge() -> None:
    life = leaving_with(ANN)
    assert life.waits(BYE_S - JUST) == []
    assert life.waits(JUST) == [Exit(0)]


def test_leaving_waits_for_the_worker_to_die() -> None:
    life = leaving_with(ANN, worker_dead=False)
    assert life.hears(Ack(id=SESSION)) == []
    assert life.waits(DEATH_S / 2) == []
    assert life.sees(Died("was killed by SIGKILL", "")) == [Exit(0)]


def test_leaving_ends_with_the_worker_once_the_300_ms_are_over() -> None:
    life = leaving_with(ANN, worker_dead=False)
    assert life.waits(BYE_S + 0.1) == []
    assert life.sees(Died("was killed by SIGKILL", "")) == [Exit(0)]


def test_leaving_doesnt_wait_for_ever_for_a_worker_that_cant_die() -> None:
    life = leaving_with(ANN, worker_dead=False)
    assert life.waits(DEATH_S - JUST) == []
    assert life.waits(JUST) == [Exit(0)]


def test_in_leaving_the_outcome_is_still_repeated() -> None:
    life = Life(State.LEAVING)
    assert life.hears(a_call(resend=True), peer=BOB) == [answer(peer=BOB)]
    assert life.hears(a_call(OTHER_ID), peer=BOB) == [busy(BOB, OTHER_ID)]


def test_in_leaving_sigterm_changes_nothing() -> None:
    assert leaving_with(ANN).sees(Terminate()) == []


# FAILED


def test_in_failed_a_call_is_told_why() -> None:
    life = Life(State.FAILED)
    assert life.hears(a_call()) == [
        error(
            "init_failed",
            "ImportError: no numpy",
            traceback="Traceback: no numpy",
            retry_safe=True,
        )
    ]
    assert life.hears(Ping(number=1)) == [
        pong(ANN, "failed", message="ImportError: no numpy", traceback="Traceback: no numpy")
    ]
    assert life.state is State.FAILED


def test_a_failed_replica_exits_with_1_after_5_seconds_for_a_fresh_try() -> None:
    life = Life(State.FAILED)
    assert life.sees(Died("exited with status 1", "")) == []
    assert life.waits(FAILED_S - JUST) == []
    assert life.waits(JUST) == [Exit(1)]


def test_in_failed_sigterm_exits_with_1_at_once() -> None:
    assert Life(State.FAILED).sees(Terminate()) == [Exit(1)]
