"""The caller's promises, whatever it sees in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from funker.rpc.calls import (
    GRACE_S,
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

ID, OTHER_ID = "1d" * 16, "0d" * 16
ADDRESSES = ["10.0.1.2:5570", "10.0.1.3:5570", "10.0.1.4:5570"]
OLD, NEW = "aa" * 16, "bb" * 16
DEADLINE_S = 8.0

IDS = st.sampled_from([ID, ID, ID, OTHER_ID])
SESSIONS = st.sampled_from([OLD, OLD, NEW])
CODES = st.sampled_from(
    ["init_failed", "function_not_found", "function_error", "payload_too_large", "cancelled"]
)
PONGS = st.builds(
    Pong,
    number=st.integers(0, 3),
    function=st.sampled_from(["add", "add", "shop_add", "blog_add", "mul"]),
    names=st.sampled_from([("add",), ("add",), ("shop_add", "add"), ("mul",), ()]),
    session=SESSIONS,
    state=st.sampled_from(["idle", "idle", "idle", "boot", "busy", "failed", "asked", "", "x"]),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    PONGS,
    st.builds(Accept, id=IDS),
    st.builds(Busy, id=IDS, session=SESSIONS),
    st.builds(Bye, replica=st.just("r"), session=SESSIONS, held=st.sampled_from([(), (ID,)])),
    st.builds(Result, id=IDS),
    st.builds(
        Error, id=st.none() | IDS, code=CODES, message=st.just("no"), retry_safe=st.booleans()
    ),
    st.builds(Ping, number=st.integers(0, 3)),
    st.builds(Ack, id=IDS),
)
# The first address more often, so that things happen to the replica that has the call.
ADDRESS = st.sampled_from([*ADDRESSES, ADDRESSES[0], ADDRESSES[0]])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Heard, ADDRESS, MESSAGES),
    st.builds(Heard, ADDRESS, MESSAGES),
    st.builds(Heard, ADDRESS, MESSAGES),
    st.builds(Connected, ADDRESS),
    st.builds(Connected, ADDRESS),
    st.builds(Disconnected, ADDRESS),
    st.builds(Resolved, st.lists(ADDRESS, unique=True).map(tuple)),
    st.just(CancelAsked()),
    st.just(Tick()),
)
IDLE = Pong(number=1, function="add", names=("add",), session=OLD, state="idle")
#: All are known, connected to and (except at times the first) idle before the storm begins.
CALM: list[tuple[float, Event]] = [
    (0.001, Resolved(tuple(ADDRESSES))),
    *[(0.0, Connected(address)) for address in ADDRESSES],
    *[(0.0, Heard(address, IDLE)) for address in ADDRESSES],
]
STORM = st.tuples(
    st.sampled_from([CALM, CALM, CALM[:-3]]),
    st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.6]), EVENTS), max_size=20),
).map(lambda parts: parts[0] + parts[1])


class Witness:
    """Watches one call and objects as soon as it breaks a promise."""

    def __init__(self, *, idempotent: bool) -> None:
        self.now = 0.0
        self.call = Call(
            id=ID, function="add", deadline_ms=round(DEADLINE_S * 1000), idempotent=idempotent
        )
        self.machine = DirectCall(self.call, now=0.0, jitter=lambda: 0.5)
        self.finished: Result | Error | None = None
        self.cancelled = False
        #: The replica that has the call, as far as the protocol lets the caller know.
        self.holder: tuple[str, str] | None = None
        self.accepted = False
        self.cut_off = False

    def wait(self, seconds: float) -> None:
        end, idle_ticks = self.now + seconds, 0
        while self.finished is None and (due := self.machine.wakeup()) <= end:
            self.now = max(self.now, due)
            idle_ticks = 0 if self.see(Tick()) else idle_ticks + 1
            assert idle_ticks < 3, "it would spin"
        self.now = end

    def see(self, event: Event) -> list[Action]:
        self.learn(event)
        actions = self.machine.on(event, self.now)
        for action in actions:
            assert self.finished is None, "something follows its outcome"
            self.check(event, action)
        return actions

    def learn(self, event: Event) -> None:
        """What the protocol says about who has the call now."""
        if isinstance(event, CancelAsked):
            self.cancelled = True
        if self.holder is None:
            return
        address, session = self.holder
        asking = self.machine.state is State.ASKING
        match event:
            case Disconnected(address=at) if at == address:
                self.cut_off = True
            case Heard(address=at) if at != address or asking:
                pass
            case Heard(message=Accept(id=id)) if id == ID:
                self.accepted = True
            case Heard(message=Busy(id=id, session=said)) if id == ID and said == session:
                self.refused()
            case Heard(message=Bye(session=said, held=())) if said == session:
                self.refused()
            case Heard(message=Error(id=id, code="init_failed" | "function_not_found")):
                if id == ID:
                    self.refused()
            case _:
                pass

    def refused(self) -> None:
        if not self.accepted:
            self.holder = None

    def check(self, event: Event, action: Action) -> None:
        match action:
            case Send(address, Call() as call):
                assert call.replace(session="", deadline_ms=None, resend=False, attempt=1) == (
                    self.call.replace(session="", deadline_ms=None, resend=False, attempt=1)
                )
                if call.resend:
                    assert self.holder == (address, call.session)
                    assert self.cut_off
                    self.cut_off = False
                else:
                    assert self.holder is None or self.call.idempotent, "it may run twice"
                    assert self.holder is None or call.attempt > 1
                    assert not self.cancelled, "it was cancelled"
                    assert self.now < DEADLINE_S, "it is too late"
                    self.holder = (address, call.session)
                    self.accepted = self.cut_off = False
            case Send(address, Cancel(id=id)):
                assert id == ID
                assert self.holder is not None
                assert address == self.holder[0]
            case Finish(outcome):
                self.finished = outcome
                told = isinstance(event, Heard) and event.message == outcome
                if isinstance(outcome, Error) and outcome.retry_safe and not told:
                    assert self.holder is None, "it may have run"
            case _:
                pass


@given(STORM, st.booleans())
@settings(max_examples=400)
def test_whatever_it_sees_it_ends_once_in_time_and_never_gives_a_call_to_two(
    storm: Any, idempotent: bool
) -> None:
    witness = Witness(idempotent=idempotent)
    for seconds, event in storm:
        witness.wait(seconds)
        witness.see(event)
    witness.wait(DEADLINE_S + GRACE_S + 0.001)
    assert witness.finished is not None
    assert witness.machine.on(Tick(), witness.now + 100) == []


@given(STORM, st.booleans())
def test_it_asks_only_for_connections_that_make_sense(storm: Any, idempotent: bool) -> None:
    witness = Witness(idempotent=idempotent)
    looking_up = False
    wanted: set[str] = set()
    for _, event in [(0.0, Tick()), *storm]:
        if isinstance(event, Resolved):
            if not looking_up:
                continue
            looking_up = False
        if isinstance(event, Connected | Heard | Disconnected) and event.address not in wanted:
            continue
        if isinstance(event, Disconnected):
            wanted.discard(event.address)
        for action in witness.see(event):
            match action:
                case Resolve():
                    assert not looking_up, "two look-ups at once"
                    looking_up = True
                case Connect(address):
                    wanted.add(address)
                case Disconnect(address):
                    wanted.discard(address)
                case Send(address, Call() | Ping() | Cancel()):
                    assert address in wanted, "it talks to somebody who isn't there"
                case _:
                    pass
