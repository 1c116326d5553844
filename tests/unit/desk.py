"""A router's tables, a clock, and what is said to them: for the tests of `dispatch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funker.controller.dispatch import Dispatch
from funker.controller.glance import heard
from funker.controller.status import nothing
from funker.controller.tables import (
    Action,
    Event,
    Finish,
    Limits,
    Printed,
    Record,
    Send,
    Tick,
)
from funker.rpc.messages import (
    Accept,
    Ack,
    Bye,
    Call,
    Error,
    Failed,
    Message,
    Ping,
    Pong,
    Ready,
    Result,
    decode,
    encode,
)

ID, OTHER_ID, THIRD_ID = "1d" * 16, "0d" * 16, "3d" * 16
#: Callers, and replicas with their sessions.
ANN, BOB = b"ann", b"bob"
ONE, TWO, THREE = b"one", b"two", b"three"
SESSIONS = {ONE: "aa" * 16, TWO: "bb" * 16, THREE: "cc" * 16}
DEADLINE_S = 60.0
JUST = 1e-6


class Desk:
    """A router's tables and their clock. `hears` gives who is told what; `waits`, time alone."""

    def __init__(self, *, limits: Limits | None = None, old: bool = True) -> None:
        self.now = 1000.0
        self.dispatch = Dispatch(epoch="one", now=self.now, limits=limits or Limits())
        self.records: list[Record] = []
        self.printed: list[Printed] = []
        # Who was asked whether it is there.
        self.probed: list[bytes] = []
        if old:
            self.now += 100

    def sees(self, event: Event) -> list[tuple[bytes, Message]]:
        return self._said(self.dispatch.on(event, self.now))

    def hears(self, peer: bytes, message: Message) -> list[tuple[bytes, Message]]:
        return self.sees(heard(peer, encode(message)))

    def waits(self, seconds: float) -> list[tuple[bytes, Message]]:
        """What is said while time passes, with a tick whenever the tables want one."""
        end, said, ticks = self.now + seconds, [], 0
        while (due := self.dispatch.wakeup()) <= end:
            self.now = max(due, self.now)
            said += self.sees(Tick())
            ticks += 1
        assert ticks <= 10 + 20 * seconds, "it would spin"
        self.now = end
        return said + self.sees(Tick())

    def lives(
        self, seconds: float, *peers: bytes, pings: Sequence[bytes] = ()
    ) -> list[tuple[bytes, Message]]:
        """The same while callers (`peers`) echo their PONGs and replicas (`pings`) PING."""
        end, said = self.now + seconds, []
        while self.now < end:
            said += self.waits(min(0.25, end - self.now))
            for peer in peers:
                said += self.stands(peer)
            for peer in pings:
                self.hears(peer, Ping(number=0))
        return said

    def stands(self, caller: bytes = ANN) -> list[tuple[bytes, Message]]:
        """A caller asks and echoes: from now on its calls may be handed out."""
        ((_, pong),) = self.hears(caller, Ping(number=1))
        assert isinstance(pong, Pong)
        said = self.hears(caller, Ping(number=2, echo=pong.stamp))
        return [(peer, message) for peer, message in said if not isinstance(message, Pong)]

    def joins(self, replica: bytes = ONE, **fields: Any) -> list[tuple[bytes, Message]]:
        return self.hears(replica, a_ready(replica, **fields))

    def called(self, caller: bytes = ANN, id: str = ID, **fields: Any) -> Any:
        return self.hears(caller, a_call(id, **fields))

    def state(self, function: str = "add") -> dict[str, Any]:
        return self.dispatch.status(self.now).get(function) or nothing()

    def phase(self, id: str = ID) -> str | None:
        found = self.dispatch.describe(id)
        return found and found["outcome"]

    @property
    def record(self) -> Record:
        """The last call that the log was told of."""
        return self.records[-1]

    def _said(self, actions: list[Action]) -> list[tuple[bytes, Message]]:
        said = []
        for action in actions:
            match action:
                case Send(peer, Ping()):
                    self.probed.append(peer)
                case Send(peer, Message() as message):
                    said.append((peer, message))
                case Send(peer, frames):
                    said.append((peer, decode(frames)))  # type: ignore[arg-type]
                case Finish(record):
                    self.records.append(record)
                case Printed():
                    self.printed.append(action)
        return said


def a_call(id: str = ID, **fields: Any) -> Call:
    patience = round(DEADLINE_S * 1000)
    return Call(**{"id": id, "function": "add", "deadline_ms": patience, "body": b"{}"} | fields)


def a_ready(replica: bytes = ONE, **fields: Any) -> Ready:
    name = f"add.{replica.decode()}"
    return Ready(**{"function": "add", "replica": name, "session": SESSIONS[replica]} | fields)


def bye(replica: bytes = ONE, *held: str) -> Bye:
    return Bye(replica=f"add.{replica.decode()}", session=SESSIONS[replica], held=held)


def failed(replica: bytes = ONE) -> Failed:
    return Failed(
        function="add",
        replica=f"add.{replica.decode()}",
        session=SESSIONS[replica],
        message="ImportError: no numpy",
        traceback="Traceback",
    )


def handed(said: list[tuple[bytes, Message]]) -> list[tuple[bytes, str]]:
    """Which calls were handed out, to whom."""
    return [(p, m.id) for p, m in said if isinstance(m, Call) and not m.resend]


def asked(said: list[tuple[bytes, Message]]) -> list[tuple[bytes, str]]:
    """About which calls replicas were asked."""
    found = [(p, m) for p, m in said if isinstance(m, Call) and m.resend]
    assert all(m.body is None for _, m in found), "a question that could start something"
    return [(p, m.id) for p, m in found]


def errors(said: list[tuple[bytes, Message]]) -> list[tuple[bytes, str, bool]]:
    return [(p, m.code, m.retry_safe) for p, m in said if isinstance(m, Error)]


def error(said: list[tuple[bytes, Message]]) -> Error:
    (found,) = [message for _, message in said if isinstance(message, Error)]
    return found


# States to start from


def queued(**fields: Any) -> Desk:
    desk = Desk()
    desk.stands()
    assert desk.called(**fields) == []
    assert desk.phase() == "queued"
    return desk


def sent(*others: bytes, **fields: Any) -> Desk:
    desk = queued(**fields)
    assert handed(desk.joins()) == [(ONE, ID)]
    assert desk.phase() == "sent"
    for other in others:
        desk.joins(other)
    return desk


def running(*others: bytes, **fields: Any) -> Desk:
    desk = sent(*others, **fields)
    accept = Accept(id=ID, replica="add.one")
    assert desk.hears(ONE, accept) == [(ANN, accept)]
    assert desk.hears(ONE, bye(ONE, ID)) == [(ONE, Ack(id=SESSIONS[ONE]))]
    assert desk.phase() == "running"
    return desk


def answered(outcome: Result | Error | None = None, **fields: Any) -> Desk:
    desk = running(**fields)
    outcome = outcome or Result(id=ID, replica="add.one", body=b"3")
    assert desk.hears(ONE, outcome) == [(ANN, outcome)]
    assert desk.phase() == "answered"
    return desk


def done() -> Desk:
    desk = answered()
    assert desk.hears(ANN, Ack(id=ID)) == [(ONE, Ack(id=ID))]
    assert desk.phase() is None
    return desk


def recovering(**fields: Any) -> Desk:
    """A new router, to which a call is sent that another one had."""
    desk = Desk(old=False)
    desk.stands()
    assert desk.called(resend=True, **fields) == []
    assert desk.phase() == "recovering"
    return desk
