"""A replica whose slots are refilled: several calls at once, and one after the other."""

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
    Barren,
    Died,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Linked,
    Loaded,
    LoadFailed,
    Raised,
    Received,
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.replica import MAX_HELD, Replica, State
from funker_runtime.slot import ACCEPT_S, BEAT_S, DEATH_S, GONE_S, HOLD_S, REFILL_S
from funker_runtime.voice import BYE_S

SESSION = "5e55" * 8
ANN, BOB = b"ann", b"bob"
ONE, TWO, THREE = "01" * 16, "02" * 16, "03" * 16
JUST = 1e-6
BEFORE_IT_ANSWERED = "the function's process was killed by SIGKILL before it answered"


class Life:
    """A replica with slots that is loaded, and its clock."""

    def __init__(self, slots: int = 2, *, linked: bool = False, loaded: bool = True) -> None:
        self.now = 1000.0
        identity = Identity("add", ("add",), "add.1", SESSION)
        self.replica = Replica(
            identity, timeout=60.0, max_body=100, now=self.now, slots=slots, once=False
        )
        if linked:
            self.sees(Linked())
        for slot in range(slots if loaded else 0):
            self.sees(Loaded(slot, "enforced"))

    @property
    def state(self) -> State:
        return self.replica.state

    def sees(self, *events: Event) -> list[Action]:
        return [action for event in events for action in self.replica.on(event, self.now)]

    def hears(self, message: Message, *, peer: bytes = ANN) -> list[Action]:
        return self.sees(Received(peer, message))

    def runs(self, *ids: str, peer: bytes = ANN) -> None:
        for id in ids:
            self.hears(a_call(id), peer=peer)

    def waits(self, seconds: float) -> list[Action]:
        """What follows while time passes, without PINGs and other signs of life."""
        end, actions = self.now + seconds, []
        while (due := self.replica.wakeup()) <= end:
            assert due > self.now or not actions, "it doesn't get on"
            self.now = max(due, self.now)
            actions += self.sees(Tick())
            if Exit(0) in actions or Exit(1) in actions:
                break
        else:
            self.now = end
            actions += self.sees(Tick())
        return [
            action
            for action in actions
            if not (isinstance(action, Send) and isinstance(action.message, Ping | Pong))
        ]


def a_call(id: str, **fields: Any) -> Call:
    return Call(**{"id": id, "function": "add", "session": SESSION, "body": b"{}"} | fields)


def accept(id: str, peer: bytes = ANN) -> Send:
    return Send(peer, Accept(id=id, replica="add.1"))


def busy(id: str, peer: bytes = ANN) -> Send:
    return Send(peer, Busy(id=id, session=SESSION))


def answer(id: str, peer: bytes = ANN, body: bytes = b"3") -> Send:
    return Send(peer, Result(id=id, replica="add.1", times={"run": 0}, body=body))


def error(id: str, code: str, message: str, peer: bytes = ANN, **fields: Any) -> Send:
    told = {"id": id, "code": code, "message": message, "function": "add", "replica": "add.1"}
    return Send(peer, Error(**told, **fields))


def bye(*held: str, peer: bytes = ROUTER) -> Send:
    return Send(peer, Bye(replica="add.1", session=SESSION, held=held))


def ready(free: int, *held: str) -> Send:
    return Send(
        ROUTER,
        Ready(
            function="add",
            replica="add.1",
            session=SESSION,
            slots=2,
            free=free,
            held=held,
            residue="enforced",
        ),
    )


def ended(slot: int = 0) -> tuple[Event, Event]:
    """A worker has ended, the next one waits."""
    return Died("exited with status 0", "", slot), Loaded(slot)


# Calls


def test_each_free_slot_takes_a_call_and_the_next_call_is_answered_busy() -> None:
    life = Life()
    assert life.hears(a_call(ONE)) == [Start(a_call(ONE), 0), accept(ONE)]
    assert life.state is State.IDLE
    assert life.hears(a_call(TWO), peer=BOB) == [Start(a_call(TWO), 1), accept(TWO, BOB)]
    assert life.state is State.RUNNING
    assert life.hears(a_call(THREE)) == [busy(THREE)]


def test_a_call_that_comes_while_the_next_worker_is_on_its_way_starts_with_it() -> None:
    life = Life(1)
    life.runs(ONE)
    assert life.sees(Answered("application/json", b"3")) == [answer(ONE)]
    assert life.hears(a_call(TWO)) == []
    assert life.hears(a_call(TWO, resend=True)) == []  # neither accepted nor refused yet
    assert life.sees(Died("exited with status 0", "")) == []
    assert life.sees(Loaded()) == [Start(a_call(TWO), 0), accept(TWO)]


def test_a_worker_that_waits_goes_before_one_that_is_on_its_way() -> None:
    life = Life()
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"))
    assert life.hears(a_call(TWO))[0] == Start(a_call(TWO), 1)


def test_each_call_has_a_worker_of_its_own() -> None:
    life = Life(1)
    for number in range(10):
        id = f"{number:032x}"
        assert life.hears(a_call(id)) == [Start(a_call(id), 0), accept(id)]
        assert life.sees(Answered("application/json", b"3")) == [answer(id)]
        assert life.sees(*ended()) == []
        assert life.hears(Ack(id=id)) == []
    assert life.state is State.IDLE


def test_outcomes_are_held_beside_other_calls_until_they_are_acknowledged() -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"), *ended())
    life.runs(TWO)
    assert life.hears(a_call(ONE, resend=True, body=None), peer=BOB) == [answer(ONE, BOB)]
    life.hears(Ack(id=ONE))
    assert life.hears(a_call(ONE, resend=True, body=None)) == [busy(ONE)]
    assert life.sees(Answered("application/json", b"3"), *ended()) == [answer(TWO)]
    assert life.waits(HOLD_S) == []
    assert life.hears(a_call(TWO, resend=True, body=None)) == [busy(TWO)]


def test_no_more_outcomes_are_held_than_so_many() -> None:
    life = Life(1)
    for number in range(MAX_HELD):
        life.runs(f"{number:032x}")
        life.sees(Answered("application/json", b"3"), *ended())
    one_more = "f" * 32
    assert life.hears(a_call(one_more)) == [busy(one_more)]
    life.hears(Ack(id="0" * 32))
    assert life.hears(a_call(one_more))[0] == Start(a_call(one_more), 0)


def test_what_goes_wrong_in_one_slot_is_nothing_to_the_other() -> None:
    life = Life()
    life.runs(ONE, TWO)
    assert life.hears(Cancel(id=TWO)) == [Kill(1)]
    assert life.sees(Died("was killed by SIGKILL", "said", 1)) == [
        error(TWO, "cancelled", "the caller cancelled it", output_tail="said")
    ]
    assert life.sees(Raised("ValueError: no", "ValueError", "Traceback", 0)) == []
    told = life.sees(Died("exited with status 0", "", 0))
    assert told == [
        error(
            ONE,
            "function_error",
            "ValueError: no",
            exception_type="ValueError",
            traceback="Traceback",
        )
    ]
    assert life.sees(Loaded(0), Loaded(1)) == []
    assert life.state is State.IDLE


def test_time_is_up_for_each_call_by_itself() -> None:
    life = Life()
    life.hears(a_call(ONE, timeout_ms=1000))
    life.hears(a_call(TWO, timeout_ms=3000))
    assert life.waits(1.0) == [Kill(0)]
    life.sees(Died("was killed by SIGKILL", "", 0))
    assert life.waits(2.0) == [Kill(1)]


def test_a_caller_that_is_gone_cancels_its_own_call_only() -> None:
    life = Life()
    life.runs(ONE)
    life.runs(TWO, peer=BOB)
    life.sees(Gone(BOB))
    assert life.waits(GONE_S) == [Kill(1)]


def test_a_worker_that_has_answered_and_stays_is_killed() -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"))
    assert life.waits(DEATH_S - JUST) == []
    assert life.waits(2 * JUST) == [Kill()]
    life.runs(TWO)
    assert life.sees(*ended()) == [Start(a_call(TWO), 0), accept(TWO)]


# A next worker that is late


def test_a_call_isnt_accepted_if_no_worker_comes_for_it() -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"), Died("exited with status 0", ""))
    life.runs(TWO)
    assert life.waits(REFILL_S) == [busy(TWO)]
    assert life.hears(a_call(TWO)) == [busy(TWO)]  # nor is another
    assert life.hears(Ping(number=1))[0].message.state == "busy"  # type: ignore[union-attr]
    life.sees(Loaded())
    assert life.hears(a_call(TWO)) == [Start(a_call(TWO), 0), accept(TWO)]


@pytest.mark.parametrize(
    ("then", "code", "message"),
    [
        (Received(BOB, Cancel(id=TWO)), "cancelled", "the caller cancelled it"),
        (Gone(BOB), "cancelled", "its caller is gone"),
        (
            Tick(),
            "deadline_exceeded",
            "the caller's deadline passed before a process was free",
        ),
    ],
)
def test_a_call_that_waits_for_its_worker_may_end_without_it(
    then: Event, code: str, message: str
) -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"))
    patience = 500 if isinstance(then, Tick) else None
    assert life.hears(a_call(TWO, deadline_ms=patience), peer=BOB) == []
    actions = life.sees(then) + life.waits(GONE_S)
    sent = [action for action in actions if isinstance(action, Send)]
    assert sent == [error(TWO, code, message, peer=BOB, retry_safe=True)]
    assert life.hears(a_call(THREE)) == []
    assert life.sees(*ended())[0] == Start(a_call(THREE), 0)


def test_an_idle_worker_that_dies_is_replaced() -> None:
    life = Life(1)
    assert life.sees(Died("was killed by SIGKILL", "")) == []
    life.runs(ONE)
    assert life.sees(Loaded())[0] == Start(a_call(ONE), 0)


# The router


def test_the_router_hears_of_the_slots_and_what_is_held() -> None:
    life = Life(linked=True, loaded=False)
    assert life.sees(Loaded(1, "enforced")) == [ready(2)]
    assert life.sees(Loaded(0, "enforced")) == []
    life.runs(ONE, TWO, peer=ROUTER)
    assert life.hears(Pong(number=0, epoch="e", known=False), peer=ROUTER) == [ready(0, ONE, TWO)]
    life.sees(Answered("application/json", b"3", 1))
    assert life.hears(Pong(number=0, epoch="f"), peer=ROUTER) == [ready(1, ONE, TWO)]


def test_a_call_that_waits_for_its_worker_isnt_held_yet() -> None:
    life = Life(1, linked=True)
    life.runs(ONE, peer=ROUTER)
    life.sees(Answered("application/json", b"3"))
    life.runs(TWO, peer=ROUTER)
    (said,) = life.hears(Pong(number=0, epoch="e", known=False), peer=ROUTER)
    assert (said.message.free, said.message.held) == (0, (ONE,))  # type: ignore[union-attr]


def test_a_call_of_the_router_is_no_reason_for_a_bye_and_a_direct_one_neither() -> None:
    life = Life(linked=True)
    assert life.hears(a_call(ONE), peer=ROUTER) == [Start(a_call(ONE), 0)]
    assert life.hears(a_call(TWO)) == [Start(a_call(TWO), 1), accept(TWO)]
    assert life.waits(ACCEPT_S) == [accept(ONE, ROUTER)]


def test_what_a_call_printed_follows_its_answer_while_the_next_one_waits() -> None:
    life = Life(1, linked=True)
    life.runs(ONE, peer=ROUTER)
    life.sees(Answered("application/json", b"3"))
    life.runs(TWO, peer=ROUTER)
    assert life.sees(Died("exited with status 0", "hello\n")) == [
        Send(ROUTER, Output(id=ONE, text="hello\n"))
    ]
    assert life.sees(Loaded()) == [Start(a_call(TWO), 0)]


# The end


def test_sigterm_lets_what_runs_end_and_takes_nothing_more() -> None:
    life = Life(linked=True)
    life.runs(ONE, peer=ROUTER)
    assert life.sees(Terminate()) == [bye(ONE)]
    assert life.hears(a_call(TWO), peer=ROUTER) == [busy(TWO, ROUTER)]
    life.hears(Ack(id=SESSION), peer=ROUTER)
    assert life.sees(Answered("application/json", b"3")) == [answer(ONE, ROUTER)]
    assert life.state is State.HOLDING
    assert life.hears(Ack(id=ONE), peer=ROUTER) == []
    assert life.sees(Died("exited with status 0", "")) == [Exit(0)]


def test_sigterm_lets_a_call_run_that_waits_for_its_worker() -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Answered("application/json", b"3"))
    life.runs(TWO)
    life.sees(Terminate())
    assert life.sees(*ended()) == [Start(a_call(TWO), 0), accept(TWO)]
    life.hears(Ack(id=ONE))
    life.sees(Answered("application/json", b"3"))
    life.hears(Ack(id=TWO))
    assert life.sees(Died("exited with status 0", "")) == [Exit(0)]


def test_sigterm_ends_an_idle_one_when_it_was_heard() -> None:
    life = Life(linked=True)
    assert life.sees(Terminate()) == [bye()]
    assert life.hears(Ack(id=SESSION), peer=ROUTER) == [Exit(0)]
    life = Life(linked=True)
    life.sees(Terminate())
    assert life.waits(BYE_S)[-1] == Exit(0)
    assert Life().sees(Terminate()) == [Exit(0)]


def test_without_a_source_of_workers_it_ends_with_what_it_has_and_1() -> None:
    life = Life(1, linked=True)
    life.runs(ONE, peer=ROUTER)
    life.sees(Answered("application/json", b"3"))
    life.runs(TWO, peer=ROUTER)
    assert life.sees(Barren("was killed by SIGKILL", "")) == [bye(ONE, TWO), busy(TWO, ROUTER)]
    life.hears(Ack(id=SESSION), peer=ROUTER)
    life.hears(Ack(id=ONE), peer=ROUTER)
    assert life.sees(Died("was killed by SIGKILL", "")) == [Exit(1)]


def test_calls_that_run_when_the_source_of_workers_dies_have_crashed() -> None:
    life = Life(1)
    life.runs(ONE)
    life.sees(Barren("was killed by SIGKILL", ""))
    assert life.sees(Died("was killed by SIGKILL", "")) == [
        error(ONE, "function_crashed", BEFORE_IT_ANSWERED)
    ]
    assert life.hears(Ack(id=ONE)) == [Exit(1)]


def test_before_it_has_loaded_a_dead_source_of_workers_is_a_handler_that_cant_be_loaded() -> None:
    life = Life(loaded=False)
    assert life.sees(Barren("exited with status 3", "bye")) == []
    assert life.state is State.FAILED
    assert life.replica.failure == {
        "message": "the function's process exited with status 3 before any call",
        "traceback": "bye",
    }
    assert life.sees(Barren("exited with status 3", "bye")) == []
    life = Life(loaded=False)
    life.sees(LoadFailed("ImportError: no", "Traceback"), Barren("exited with status 1", ""))
    assert life.replica.failure["message"] == "ImportError: no"


def test_a_worker_that_dies_before_it_has_loaded_is_replaced() -> None:
    life = Life(1, loaded=False)
    assert life.sees(Died("was killed by SIGKILL", "")) == []
    assert life.state is State.BOOT
    life.sees(Loaded())
    assert life.state is State.IDLE


def test_signs_of_life_go_to_each_direct_caller() -> None:
    life = Life()
    life.runs(ONE)
    life.runs(TWO, peer=BOB)
    life.now += BEAT_S
    said = [action for action in life.sees(Tick()) if isinstance(action, Send)]
    assert {action.peer for action in said} == {ANN, BOB}
    assert {action.message.state for action in said} == {"busy"}  # type: ignore[attr-defined]
