"""The replica's invariants, whatever it sees in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from funker.rpc.messages import (
    Accept,
    Ack,
    Busy,
    Bye,
    Call,
    Cancel,
    Error,
    Message,
    Ping,
    Pong,
    Result,
)
from funker_runtime.events import (
    Action,
    Answered,
    Barren,
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
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.replica import FAILED_S, Replica, State
from funker_runtime.slot import DEATH_S, HOLD_S, REFILL_S
from funker_runtime.voice import BYE_S, PROBE_S

SESSION = "5e55" * 8
TIMEOUT_S = 60.0

IDS = st.sampled_from(["1d" * 16, "2d" * 16, "3d" * 16])
CALLS = st.builds(
    Call,
    id=IDS,
    function=st.sampled_from(["add", "add", "add", "mul"]),
    session=st.sampled_from([SESSION, SESSION, SESSION, "", "01d5" * 8]),
    timeout_ms=st.none() | st.integers(0, 5000),
    deadline_ms=st.none() | st.integers(0, 5000),
    resend=st.booleans(),
    body=st.sampled_from([None, b"", b"{}", b"x" * 101]),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    CALLS,
    CALLS,
    st.builds(Ping, number=st.integers(0, 9)),
    st.builds(Ack, id=IDS | st.just(SESSION)),
    st.builds(Cancel, id=IDS),
    st.builds(Pong, number=st.just(0)),
    st.builds(Error, id=st.none() | IDS, code=st.just("protocol_error"), message=st.just("no")),
    st.builds(Bye, replica=st.just("add.2"), session=st.just("01d5" * 8)),
)
PEERS = st.sampled_from([b"ann", b"bob", b"eve"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Received, PEERS, MESSAGES),
    st.builds(Received, PEERS, MESSAGES),
    st.builds(Received, PEERS, MESSAGES),
    st.just(Loaded()),
    st.just(LoadFailed("ImportError: no", "Traceback")),
    st.builds(Gone, PEERS),
    st.builds(Answered, st.just("text/plain"), st.sampled_from([b"", b"3", b"x" * 101])),
    st.just(Raised("ValueError: no", "ValueError", "Traceback")),
    st.just(Died("exited with status 0", "tail")),
    st.just(Terminate()),
    st.just(Tick()),
)
PINGS = [Received(peer, Ping(number=1)) for peer in (b"ann", b"bob", b"eve")]
RUN = Received(b"ann", Call(id="1d" * 16, function="add", session=SESSION))
#: What has happened before things get out of order.
BEFORE: list[list[Event]] = [
    [],
    [Loaded()],
    [Loaded(), *PINGS],
    [Loaded(), *PINGS[:2], RUN],
    [Loaded(), *PINGS[1:], RUN, Answered("text/plain", b"3")],
    [LoadFailed("ImportError: no", "Traceback")],
]
STEPS = st.tuples(
    st.sampled_from(BEFORE).map(lambda events: [(0.0, event) for event in events]),
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.2, 0.5, 1.0, 5.0, 31.0]), EVENTS),
        max_size=25,
    ),
).map(lambda parts: parts[0] + parts[1])


class Witness:
    """Watches one replica and objects as soon as it breaks a promise."""

    def __init__(self) -> None:
        self.now = 0.0
        identity = Identity("add", ("add",), "add.1", SESSION)
        self.replica = Replica(identity, timeout=TIMEOUT_S, max_body=100, now=0.0)
        self.started: list[str] = []
        self.accepted: set[str] = set()
        self.outcomes: dict[str, Result | Error] = {}
        self.told_idle: dict[bytes, float] = {}
        self.terminated = False
        self.exited = False

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick whenever the replica wants one."""
        end = self.now + seconds
        while not self.exited and (due := self.replica.wakeup()) <= end:
            self.now = max(self.now, due)
            self.see(Tick())
            assert self.exited or self.replica.wakeup() > self.now, "it would spin"
        self.now = end

    def see(self, event: Event) -> list[Action]:
        assert not self.exited
        before = self.replica.state
        match event:
            case Terminate():
                self.terminated = True
            case Gone(peer) | Received(peer, Ack(id="5e555e555e555e555e555e555e555e55")):
                self.told_idle.pop(peer, None)
            case _:
                pass
        actions = self.replica.on(event, self.now)
        for action in actions:
            self.check(event, action)
        if before is State.IDLE is not self.replica.state:
            late = [p for p, at in self.told_idle.items() if self.now - at <= PROBE_S]
            assert not late, "some were told idle, and not told that it is over"
        return actions

    def check(self, event: Event, action: Action) -> None:
        match action:
            case Start(call):
                assert not self.started, "it started twice"
                assert not self.terminated, "it started a call after SIGTERM"
                assert call.session == SESSION
                assert call.function == "add"
                self.started.append(call.id)
            case Send(peer, Accept(id=id)):
                self.accepted.add(id)
                self.told_idle.pop(peer, None)
                assert len(self.accepted) == 1, "it accepted two calls"
            case Send(peer, Busy(id=id)):
                assert id not in self.accepted, "it doesn't know its own call any more"
            case Send(peer, Result(id=id) | Error(id=id) as outcome):
                assert id is not None
                assert not (isinstance(event, Received) and isinstance(event.message, Error)), (
                    "it answered an ERROR"
                )
                if id in self.accepted:
                    assert self.outcomes.setdefault(id, outcome) == outcome, "two outcomes"
                else:
                    assert isinstance(outcome, Error)
                    assert outcome.retry_safe
            case Send(peer, Pong(state="idle")):
                self.told_idle[peer] = self.now
            case Send(peer, Bye()):
                del self.told_idle[peer]  # KeyError: it was never told idle
            case Exit():
                self.exited = True
            case _:
                pass


@given(STEPS)
@settings(max_examples=300)
def test_whatever_it_sees_it_starts_once_and_gives_each_call_one_outcome(steps: Any) -> None:
    witness = Witness()
    for seconds, event in steps:
        witness.wait(seconds)
        if witness.exited:
            return
        witness.see(event)
        if witness.exited:
            return


@given(STEPS, st.booleans())
@settings(max_examples=200)
def test_after_sigterm_it_exits_in_time_whatever_it_has_seen_and_if_the_worker_never_dies(
    steps: Any, killable: bool
) -> None:
    witness = Witness()
    for seconds, event in [*steps, (0.0, Terminate())]:
        witness.wait(seconds)
        if witness.exited:
            return
        killed = Kill() in witness.see(event)
        if killable and killed and not witness.exited:
            witness.see(Died("was killed by SIGKILL", ""))
        if witness.exited:
            return
    witness.wait(max(TIMEOUT_S + 2 * DEATH_S + HOLD_S + BYE_S, FAILED_S) + 0.001)
    assert witness.exited


SLOT = st.integers(0, 2)
IN_SLOTS: st.SearchStrategy[Event] = st.one_of(
    EVENTS,
    st.builds(Received, PEERS, CALLS),
    st.builds(Received, PEERS, CALLS),
    st.builds(Loaded, SLOT),
    st.builds(Loaded, SLOT),
    st.builds(Answered, st.just("text/plain"), st.just(b"3"), SLOT),
    st.builds(Died, st.just("exited with status 0"), st.just("tail"), SLOT),
    st.just(Barren("was killed by SIGKILL", "")),
)


class SlotWitness(Witness):
    """The same of a replica with slots, each of whose workers takes one call."""

    def __init__(self) -> None:
        super().__init__()
        identity = Identity("add", ("add",), "add.1", SESSION)
        self.replica = Replica(
            identity, timeout=TIMEOUT_S, max_body=100, now=0.0, slots=3, once=False
        )
        self.waiting: set[int] = set()
        self.running: set[str] = set()

    def see(self, event: Event) -> list[Action]:
        match event:
            case Loaded(slot):
                self.waiting.add(slot)
            case Died(slot=slot):
                self.waiting.discard(slot)
            case Gone(peer) | Received(peer, Ack(id="5e555e555e555e555e555e555e555e55")):
                self.told_idle.pop(peer, None)
            case _:
                pass
        actions = self.replica.on(event, self.now)
        for action in actions:
            match action:
                case Start(call, slot):
                    assert slot in self.waiting, "nobody waits there"
                    self.waiting.remove(slot)
                    assert call.id not in self.running, "it runs already"
                    self.running.add(call.id)
                case Send(_, Result(id=str(id)) | Error(id=str(id))):
                    self.running.discard(id)
                case Send(peer, Pong(state="idle")):
                    self.told_idle[peer] = self.now
                case Send(peer, Bye()):
                    self.told_idle.pop(peer, None)
                case Exit():
                    late = [p for p, at in self.told_idle.items() if self.now - at <= PROBE_S]
                    booted = self.replica.state is State.LEAVING
                    assert not (booted and late), "some were told idle, and not that it is over"
                    self.exited = True
        return actions


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.2, 0.5, 1.0, 2.0, 5.0, 41.0]), IN_SLOTS),
        max_size=40,
    ),
)
@settings(max_examples=300)
def test_with_slots_each_worker_has_one_call_and_after_sigterm_it_exits_in_time(
    steps: list[tuple[float, Event]],
) -> None:
    witness = SlotWitness()
    for seconds, event in [*[(0.0, Loaded(slot)) for slot in range(3)], *steps, (0.0, Terminate())]:
        witness.wait(seconds)
        if witness.exited:
            return
        witness.see(event)
        if witness.exited:
            return
    witness.wait(max(TIMEOUT_S + 2 * DEATH_S + HOLD_S + BYE_S, FAILED_S) + REFILL_S + 0.001)
    assert witness.exited
