"""A replica and its router: what it tells it, and what its coming and going changes."""

from __future__ import annotations

from typing import Any

import pytest

from funker.rpc.messages import (
    Accept,
    Ack,
    Busy,
    Bye,
    Call,
    Cancel,
    Error,
    Failed,
    Message,
    Output,
    Ping,
    Pong,
    Ready,
    Result,
)
from funker_runtime.events import (
    ROUTER,
    Action,
    Answered,
    Died,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Linked,
    Loaded,
    LoadFailed,
    Received,
    Release,
    Relink,
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.replica import FAILED_S, Replica, State
from funker_runtime.slot import ACCEPT_S, BEAT_S, HOLD_S, RELEASE_S
from funker_runtime.uplink import SILENCE_S
from funker_runtime.voice import BYE_S

SESSION = "5e55" * 8
ID, OTHER_ID = "1d" * 16, "0d" * 16
ANN = b"ann"
JUST = 1e-6


class Life:
    """A replica that is linked to its router, and its clock."""

    def __init__(self, state: State = State.IDLE) -> None:
        self.now = 1000.0
        identity = Identity("add", ("add",), "add.1", SESSION, "n1", "v1")
        self.replica = Replica(identity, timeout=60.0, max_body=100, now=self.now)
        self.sees(Linked())
        if state is State.FAILED:
            self.sees(LoadFailed("ImportError: no numpy", "Traceback"))
        elif state is not State.BOOT:
            self.sees(Loaded())
        if state in (State.RUNNING, State.HOLDING):
            self.hears(a_call())
            self.waits(ACCEPT_S)
            self.hears(Ack(id=SESSION))
        if state is State.HOLDING:
            self.sees(Answered("application/json", b"3"))
        assert self.replica.state is state

    def sees(self, event: Event) -> list[Action]:
        return self.replica.on(event, self.now)

    def hears(self, message: Message, *, peer: bytes = ROUTER) -> list[Action]:
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

    def lives(self, seconds: float) -> list[Action]:
        """Time passes, and the router answers each PING. PINGs are left out."""
        actions: list[Action] = []
        end = self.now + seconds
        while self.now < end:
            actions += self.waits(min(BEAT_S, end - self.now))
            actions += self.hears(Pong(number=0, epoch="one", stamp=1))
        return [a for a in actions if not isinstance(a, Send) or not isinstance(a.message, Ping)]


def a_call(id: str = ID, **fields: Any) -> Call:
    return Call(**{"id": id, "function": "add", "session": SESSION, "body": b"{}"} | fields)


def ready(*held: str) -> Send:
    """READY as it is said by who is free, or holds a call."""
    return Send(
        ROUTER,
        Ready(
            function="add",
            replica="add.1",
            node="n1",
            version="v1",
            session=SESSION,
            free=0 if held else 1,
            held=held,
            once=True,
        ),
    )


def bye(*held: str, peer: bytes = ROUTER) -> Send:
    return Send(peer, Bye(replica="add.1", session=SESSION, held=held))


def ping(echo: int = 0) -> Send:
    return Send(ROUTER, Ping(number=0, echo=echo))


FAILED = Send(
    ROUTER,
    Failed(
        function="add",
        replica="add.1",
        version="v1",
        session=SESSION,
        message="ImportError: no numpy",
        traceback="Traceback",
    ),
)
ANSWER = Send(ROUTER, Result(id=ID, replica="add.1", times={"run": 2}, body=b"3"))


# Joining


def test_a_replica_that_loads_while_it_is_linked_says_ready() -> None:
    assert Life(State.BOOT).sees(Loaded()) == [ready()]


def test_a_replica_that_is_linked_when_it_has_loaded_says_ready() -> None:
    life = Life(State.BOOT)
    life.sees(Gone(ROUTER))
    assert life.sees(Loaded()) == []
    assert life.sees(Linked()) == [ready(), ping()]


def test_a_replica_that_loads_says_nothing_but_ping() -> None:
    life = Life(State.BOOT)
    assert life.sees(Linked()) == [ping()]
    assert life.hears(Pong(number=0, epoch="one", known=False)) == []


@pytest.mark.parametrize("state", [State.RUNNING, State.HOLDING])
def test_a_replica_with_a_call_says_that_it_holds_it_and_will_take_no_other(state: State) -> None:
    life = Life(state)
    life.sees(Gone(ROUTER))
    assert life.sees(Linked()) == [ready(ID), bye(ID), ping()]


@pytest.mark.parametrize("state", [State.RUNNING, State.HOLDING])
def test_a_router_that_knows_nothing_of_a_call_is_told(state: State) -> None:
    life = Life(state)
    assert life.hears(Pong(number=0, epoch="one", known=False)) == [ready(ID), bye(ID)]


def test_a_replica_says_ready_again_to_a_router_that_lost_it_or_is_another() -> None:
    life = Life()
    assert life.hears(Pong(number=0, epoch="one")) == []
    assert life.hears(Pong(number=0, epoch="one")) == []
    assert life.hears(Pong(number=0, epoch="one", known=False)) == [ready()]
    assert life.hears(Pong(number=0, epoch="two")) == [ready()]
    assert life.hears(Pong(number=0, epoch="two")) == []


def test_a_replica_that_is_with_a_direct_caller_is_none_of_the_routers_business() -> None:
    life = Life()
    life.hears(a_call(), peer=ANN)
    life.sees(Gone(ROUTER))
    assert life.sees(Linked()) == [ping()]
    assert life.hears(Pong(number=0, epoch="two", known=False)) == []


# Liveness


def test_the_router_is_pinged_and_its_stamp_echoed() -> None:
    life = Life()
    assert life.waits(BEAT_S) == [ping()]
    life.hears(Pong(number=0, epoch="one", stamp=7))
    assert life.waits(BEAT_S) == [ping(echo=7)]


def test_a_silent_router_is_dialled_anew_once() -> None:
    life = Life()
    assert Relink() not in life.waits(SILENCE_S - JUST)
    assert life.waits(JUST) == [Relink()]
    life.sees(Gone(ROUTER))
    assert life.waits(60) == []
    assert life.sees(Linked()) == [ready(), ping()]


def test_without_a_link_nothing_is_said() -> None:
    life = Life()
    life.sees(Gone(ROUTER))
    assert life.waits(60) == []
    assert life.replica.wakeup() == float("inf")


# Calls


def test_a_call_starts_and_the_router_hears_so_after_a_moment() -> None:
    life = Life()
    assert life.hears(a_call()) == [Start(a_call())]
    assert life.waits(ACCEPT_S - JUST) == []
    assert life.waits(JUST) == [Send(ROUTER, Accept(id=ID, replica="add.1"))]
    assert life.waits(BEAT_S / 2) == []


def test_of_a_short_call_the_router_hears_the_outcome_alone() -> None:
    life = Life()
    life.hears(a_call())
    life.waits(ACCEPT_S - JUST)
    answer = Result(id=ID, replica="add.1", times={"run": 2}, body=b"3")
    assert life.sees(Answered("application/json", b"3")) == [Send(ROUTER, answer)]
    assert life.waits(RELEASE_S) == [Release()]


def test_whoever_asks_hears_of_a_call_before_its_time() -> None:
    life = Life()
    life.hears(a_call())
    question = a_call(resend=True, body=None)
    assert life.hears(question) == [Send(ROUTER, Accept(id=ID, replica="add.1"))]


def test_a_router_that_comes_back_hears_of_a_call_at_once() -> None:
    life = Life()
    life.hears(a_call())
    life.sees(Gone(ROUTER))
    assert life.waits(ACCEPT_S) == []
    assert life.sees(Linked()) == [ready(ID), bye(ID), ping()]


def test_a_router_that_forgot_the_replica_hears_of_a_call_at_once() -> None:
    life = Life()
    life.hears(a_call())
    assert life.hears(Pong(number=0, epoch="one", known=False)) == [ready(ID), bye(ID)]
    assert life.waits(ACCEPT_S) == []


def test_a_call_for_another_session_is_not_taken() -> None:
    life = Life()
    assert life.hears(a_call(session="0d" * 16)) == [Send(ROUTER, Busy(id=ID, session=SESSION))]
    assert life.replica.state is State.IDLE


def test_a_question_about_an_unknown_call_starts_nothing() -> None:
    life = Life()
    question = a_call(resend=True, body=None)
    assert life.hears(question) == [Send(ROUTER, Busy(id=ID, session=SESSION))]
    assert life.replica.state is State.IDLE


def test_a_question_is_answered_with_accept_and_then_with_the_outcome() -> None:
    life = Life(State.RUNNING)
    question = a_call(resend=True, body=None)
    assert life.hears(question) == [Send(ROUTER, Accept(id=ID, replica="add.1"))]
    life.sees(Answered("application/json", b"3"))
    assert life.hears(question) == [ANSWER]


def test_another_call_is_not_taken_while_one_runs_or_is_held() -> None:
    for state in (State.RUNNING, State.HOLDING):
        busy = Send(ROUTER, Busy(id=OTHER_ID, session=SESSION))
        assert Life(state).hears(a_call(OTHER_ID)) == [busy]


def test_a_router_that_is_gone_doesnt_stop_the_call() -> None:
    life = Life(State.RUNNING)
    life.sees(Gone(ROUTER))
    assert Kill() not in life.waits(30)
    assert life.replica.state is State.RUNNING
    assert life.sees(Answered("application/json", b"3"))[0] == Send(
        ROUTER, Result(id=ID, replica="add.1", times={"run": 30_002}, body=b"3")
    )
    life.sees(Gone(ROUTER))
    assert life.sees(Linked())[0] == ready(ID)
    assert life.hears(Ack(id=ID)) == [Release()]
    assert life.replica.state is State.LEAVING


def test_the_router_hears_no_signs_of_life_but_pings() -> None:
    life = Life(State.RUNNING)
    assert life.waits(BEAT_S) == [ping()]


def test_a_cancelled_call_ends_with_its_error() -> None:
    life = Life(State.RUNNING)
    assert life.hears(Cancel(id=ID)) == [Kill()]
    outcome = life.sees(Died("was killed by SIGKILL", "said"))
    assert outcome == [
        Send(
            ROUTER,
            Error(
                id=ID,
                code="cancelled",
                message="the caller cancelled it",
                function="add",
                replica="add.1",
                output_tail="said",
            ),
        )
    ]


def test_an_acknowledged_answer_lets_it_leave_when_its_worker_is_dead() -> None:
    life = Life(State.HOLDING)
    assert life.hears(Ack(id=ID)) == [Release()]
    assert life.sees(Died("exited with status 0", "")) == [Exit(0)]


def test_an_answer_that_nobody_acknowledges_is_held_for_a_while() -> None:
    life = Life(State.HOLDING)
    life.sees(Died("exited with status 0", ""))
    assert life.lives(HOLD_S - 2 * JUST) == []
    assert Exit(0) in life.waits(3 * JUST)


@pytest.mark.parametrize(("output", "told"), [("hello\n", True), ("", False)])
def test_what_a_call_printed_follows_its_answer(output: str, told: bool) -> None:
    said = Life(State.HOLDING).sees(Died("exited with status 0", output))
    assert said == ([Send(ROUTER, Output(id=ID, text=output))] if told else [])


def test_a_direct_callers_output_is_not_for_the_router() -> None:
    life = Life()
    life.hears(a_call(), peer=ANN)
    life.sees(Answered("application/json", b"3"))
    assert life.sees(Died("exited with status 0", "hello\n")) == []


def test_a_direct_call_tells_the_router_that_it_can_have_none() -> None:
    life = Life()
    assert bye(ID) in life.hears(a_call(), peer=ANN)
    assert life.hears(a_call(OTHER_ID)) == [Send(ROUTER, Busy(id=OTHER_ID, session=SESSION))]


def test_a_call_by_the_router_tells_who_was_told_idle_that_it_can_have_none() -> None:
    life = Life()
    life.hears(Ping(number=1), peer=ANN)
    assert life.hears(a_call()) == [Start(a_call()), bye(ID, peer=ANN)]


# Leaving


def test_sigterm_says_bye_and_leaves_when_it_is_acknowledged() -> None:
    life = Life()
    assert life.sees(Terminate()) == [bye(), Kill()]
    assert life.hears(a_call()) == [Send(ROUTER, Busy(id=ID, session=SESSION))]
    assert life.sees(Died("was killed by SIGKILL", "")) == []
    assert life.hears(Ack(id=SESSION)) == [Exit(0)]


def test_a_bye_that_nobody_acknowledges_is_waited_for_briefly() -> None:
    life = Life()
    life.sees(Terminate())
    life.sees(Died("was killed by SIGKILL", ""))
    assert life.waits(BYE_S - JUST) == []
    assert life.waits(2 * JUST) == [Exit(0)]


def test_sigterm_without_a_link_leaves_at_once() -> None:
    life = Life()
    life.sees(Gone(ROUTER))
    assert life.sees(Terminate()) == [Kill()]
    assert life.sees(Died("was killed by SIGKILL", "")) == [Exit(0)]


def test_sigterm_while_a_call_runs_is_told_by_nothing() -> None:
    life = Life(State.RUNNING)
    assert life.sees(Terminate()) == []
    assert life.sees(Answered("application/json", b"3")) == [ANSWER]


def test_a_replica_that_leaves_doesnt_join_again() -> None:
    life = Life()
    life.sees(Terminate())
    assert life.hears(Pong(number=0, epoch="two", known=False)) == []


# Failing


def test_a_replica_that_cant_load_tells_the_router() -> None:
    life = Life(State.BOOT)
    assert life.sees(LoadFailed("ImportError: no numpy", "Traceback")) == [FAILED]
    assert life.sees(Linked()) == [FAILED, ping()]


def test_a_replica_that_lost_its_worker_doesnt_tell_a_new_router_that_the_function_fails() -> None:
    life = Life()
    told = life.sees(Died("was killed by SIGKILL", ""))
    assert [each.message.kind for each in told if isinstance(each, Send)] == ["BYE", "FAILED"]
    life.sees(Gone(ROUTER))
    assert life.sees(Linked()) == [ping()]


def test_it_waits_as_long_as_the_router_says() -> None:
    life = Life(State.FAILED)
    life.hears(Ack(id=SESSION, wait_ms=20_000))
    assert Exit(1) not in life.waits(20 - JUST)
    assert Exit(1) in life.waits(2 * JUST)


def test_without_the_routers_word_it_waits_its_own_while() -> None:
    life = Life(State.FAILED)
    life.sees(Gone(ROUTER))
    assert life.waits(FAILED_S - JUST) == []
    assert life.waits(2 * JUST) == [Exit(1)]


def test_an_idle_worker_that_dies_takes_the_readiness_back_first() -> None:
    actions = Life().sees(Died("exited with status 3", "bye"))
    assert [type(a.message) for a in actions if isinstance(a, Send)] == [Bye, Failed]
    assert actions[0] == bye()
