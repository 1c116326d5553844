"""The caller's half of a direct call, as a pure state machine: events in, actions out.

    SEEKING ─idle replica─► SENT ─ACCEPT─► RUNNING ─outcome─► DONE
       ▲                     │ │              │
       └────BUSY, BYE────────┘ └─cut off──► ASKING ─«what became of it?»─► RUNNING, DONE

Rules:

- A call is with one replica at a time, fenced by that replica's session.
- It goes to another replica only if it was certainly not accepted: BUSY from the same session, or
  a BYE that doesn't hold it. After a lost replica it goes on only if it is idempotent.
- While nobody is idle the caller waits: it looks the name up again and probes what is new, until
  its deadline. A replica that is replaced comes back with another address.
- A name that nobody has ever had is an unknown function after `NAME_S`.

`now` is in seconds on any one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

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
from funker.rpc.records import Record

#: Seconds of patience of a caller who doesn't say, waiting for a replica included.
DEADLINE_S = 120.0
#: Seconds for which a name may be unknown. Longer than a lone replica takes to be replaced, when
#: the name is gone for a moment.
NAME_S = 10.0
#: Seconds between look-ups of the name: at first, and at most.
LOOKUP_S, LOOKUP_MAX_S = 0.03, 0.25
#: Seconds before an address that refused is tried again: it may belong to a container whose
#: process is about to listen.
RETRY_S = 0.03
#: Seconds before an address that answers as another function is tried again.
STRANGER_S = 1.0
#: Seconds to connect and hear the first PONG.
CONNECT_S = 1.0
#: Seconds between probes of a replica that is still loading, or busy.
BOOT_PROBE_S, BUSY_PROBE_S = 0.03, 0.25
#: Seconds for which a replica that cut us off is asked what became of the call.
ASK_S = 1.5
#: Seconds of silence from the replica that has the call (it gives a sign of life each 0.5 s).
SILENCE_S = 10.0
#: Seconds past the deadline, or a cancellation, for the replica's own word on it.
GRACE_S = 0.5

# Events


def patience(call: Call) -> float:
    """Seconds that its caller waits in all, from when it was sent."""
    return DEADLINE_S if call.deadline_ms is None else call.deadline_ms / 1000


class Resolved(Record):
    """The addresses that the name has now; none if it is unknown."""

    addresses: tuple[str, ...]


class Connected(Record):
    address: str


class Disconnected(Record):
    """The connection ended, or could not be made."""

    address: str


class Heard(Record):
    address: str
    message: Message


class CancelAsked(Record):
    """The caller doesn't want it any more."""


class Tick(Record):
    """Time has passed."""


Event = Resolved | Connected | Disconnected | Heard | CancelAsked | Tick

# Actions


class Resolve(Record):
    """Look the name up; `Resolved` is to follow, sooner or later."""


class Connect(Record):
    address: str


class Disconnect(Record):
    address: str


class Send(Record):
    address: str
    message: Message


class Finish(Record):
    """The call's one outcome. Everything that was sent is to be flushed, then closed."""

    outcome: Result | Error


Action = Resolve | Connect | Disconnect | Send | Finish


class State(Enum):
    SEEKING = "seeking"
    SENT = "sent"
    RUNNING = "running"
    ASKING = "asking"
    DONE = "done"


class _Peer:
    """A replica as the caller sees it. `state`: connecting, asked, or what its PONG said."""

    def __init__(self, now: float) -> None:
        self.state = "connecting"
        self.since = now
        self.pong: Pong | None = None


class DirectCall:
    """One call from its first look-up to its outcome.

    `call.deadline_ms` is the whole patience from `now` on, else it is `DEADLINE_S`. `jitter` gives
    numbers in [0, 1), so that many callers who wait for one function don't look it up in step.
    `fixed`: the caller gave the address itself, so whoever answers there as another function is
    the end of it.
    """

    def __init__(
        self, call: Call, *, now: float, jitter: Callable[[], float], fixed: bool = False
    ) -> None:
        self.state = State.SEEKING
        self._call = call
        self._jitter = jitter
        self._fixed = fixed
        self._actions: list[Action] = []
        self._started_at = now
        self._deadline = now + patience(call)
        self._cancel_by: float | None = None
        self._known = False
        self._lookup_at: float | None = now  # None while a look-up is under way
        self._lookup_interval = LOOKUP_S
        self._peers: dict[str, _Peer] = {}
        self._avoid: dict[str, float] = {}
        self._probes = 0
        # The replica that has the call: its address and session, and when it last spoke.
        self._at = ""
        self._session = ""
        self._accepted = False
        self._heard_at = 0.0
        self._ask_until: float | None = None  # None once it has spoken again
        self._reconnect_at: float | None = None

    def on(self, event: Event, now: float) -> list[Action]:
        """The actions that follow from an event, in order."""
        self._actions = []
        if self.state is State.DONE:
            return []
        match event:
            case Resolved(addresses):
                self._on_resolved(addresses, now)
            case Connected(address):
                self._on_connected(address, now)
            case Disconnected(address):
                self._on_disconnected(address, now)
            case Heard(address, message):
                self._on_heard(address, message, now)
            case CancelAsked() if self._cancel_by is None:
                self._on_cancel(now)
            case _:
                pass
        self._on_time(now)
        return self._actions

    def wakeup(self) -> float:
        """When `on(Tick(), …)` is due at the latest."""
        due = [self._deadline if self.state is State.SEEKING else self._deadline + GRACE_S]
        if self._cancel_by is not None:
            due.append(self._cancel_by)
        if self.state is State.SEEKING:
            if self._lookup_at is not None:
                due.append(self._lookup_at)
            if not self._known:
                due.append(self._started_at + NAME_S)
            due += [peer.since + _PATIENCE[peer.state] for peer in self._peers.values()]
        elif self.state is State.ASKING:
            if self._ask_until is not None:
                due.append(self._ask_until)
            if self._reconnect_at is not None:
                due.append(self._reconnect_at)
        else:
            due.append(self._heard_at + SILENCE_S)
        return min(due)

    # Finding a replica

    def _on_resolved(self, addresses: tuple[str, ...], now: float) -> None:
        self._known = self._known or bool(addresses)
        self._lookup_at = now + self._lookup_interval * (0.75 + 0.5 * self._jitter())
        self._lookup_interval = min(self._lookup_interval * 1.5, LOOKUP_MAX_S)
        if self.state is not State.SEEKING:
            return
        for address in addresses:
            if address not in self._peers and now >= self._avoid.get(address, now):
                self._peers[address] = _Peer(now)
                self._actions.append(Connect(address))

    def _on_connected(self, address: str, now: float) -> None:
        if self.state is State.ASKING and address == self._at:
            self._heard_at = now
            self.state = State.RUNNING if self._accepted else State.SENT
            self._send_call(now, resend=True)
        elif (peer := self._peers.get(address)) is not None:
            self._probe(address, peer, now)

    def _probe(self, address: str, peer: _Peer, now: float) -> None:
        peer.state, peer.since = "asked", now
        self._probes += 1
        self._actions.append(Send(address, Ping(number=self._probes, function=self._call.function)))

    def _on_pong(self, address: str, pong: Pong, now: float) -> None:
        peer = self._peers.get(address)
        if peer is None or address == self._at:
            return  # from the replica that has the call it is only a sign of life
        if self._call.function not in pong.names and self._fixed:
            message = f"{address} is a replica of {pong.function!r}, not of {self._call.function!r}"
            self._fail("function_not_found", message, safe=True)
            return
        if self._call.function not in pong.names:
            self._drop(address, now + STRANGER_S)
        elif pong.state in _PATIENCE:
            peer.state, peer.since, peer.pong = pong.state, now, pong
        if self.state is State.SEEKING:
            self._choose(now)

    def _choose(self, now: float) -> None:
        """Send the call to an idle replica, if it is clear which function is meant."""
        if now >= self._deadline:
            return
        pongs = {a: peer.pong for a, peer in self._peers.items() if peer.pong is not None}
        # Who has the name itself goes before those who have it as an alias.
        exact = {a: pong for a, pong in pongs.items() if pong.function == self._call.function}
        pongs = exact or pongs
        unheard = any(peer.pong is None for peer in self._peers.values())
        if not exact and unheard:
            return  # another function may have the same alias
        functions = sorted({pong.function for pong in pongs.values()})
        if len(functions) > 1:
            message = f"{self._call.function!r} may be {' or '.join(functions)}"
            self._fail("ambiguous_function", message, hint="call it by its full name", safe=True)
            return
        for address, pong in pongs.items():
            if self._peers[address].state == "idle":
                self._at, self._session = address, pong.session
                self._accepted, self._ask_until = False, None
                self._heard_at = now
                self.state = State.SENT
                self._send_call(now, resend=False)
                return
        failed = [pong for a, pong in pongs.items() if self._peers[a].state == "failed"]
        if failed and not unheard and len(failed) == len(pongs):
            self._finish(
                Error(
                    id=self._call.id,
                    code="init_failed",
                    message=failed[0].message,
                    traceback=failed[0].traceback,
                    function=failed[0].function,
                    replica=failed[0].replica,
                    retry_safe=True,
                )
            )

    def _send_call(self, now: float, *, resend: bool) -> None:
        patience = max(1, round((self._deadline - now) * 1000))
        message = self._call.replace(session=self._session, deadline_ms=patience, resend=resend)
        self._actions.append(Send(self._at, message))

    # With a replica

    def _on_heard(self, address: str, message: Message, now: float) -> None:
        ours = address == self._at and self.state in (State.SENT, State.RUNNING)
        if ours:
            self._heard_at, self._ask_until = now, None
        match message:
            case Pong():
                self._on_pong(address, message, now)
            case Bye(session=session, held=held) if self._call.id not in held:
                # The connection is kept: its end is the news that somebody new may be there.
                self._actions.append(Send(address, Ack(id=session)))
                self._mark_busy(address, now)
                if ours and session == self._session and not self._accepted:
                    self._seek(now)
                elif ours:
                    self._lost(f"{address} doesn't know the call", now)
                elif self.state is State.SEEKING:
                    self._choose(now)
            case Accept(id=id) if ours and id == self._call.id:
                self.state, self._accepted = State.RUNNING, True
                for other in [a for a in self._peers if a != address]:
                    self._drop(other, now)
            case Busy(id=id, session=session) if ours and id == self._call.id:
                if session == self._session and not self._accepted:
                    self._mark_busy(address, now)
                    self._seek(now)
                else:
                    self._lost(f"another replica has its address {address}", now)
            case Error(id=id, code="init_failed" | "function_not_found") if (
                ours and id == self._call.id and not self._accepted
            ):  # said only to calls for the speaker's own session, so it is certain
                self._drop(address, now + STRANGER_S)
                self._seek(now)
            case Result(id=id) | Error(id=id) if ours and id in (self._call.id, None):
                self._actions.append(Send(address, Ack(id=self._call.id)))
                self._finish(message)
            case _:
                pass

    def _on_disconnected(self, address: str, now: float) -> None:
        if address == self._at and self.state in (State.SENT, State.RUNNING):
            self.state = State.ASKING
            self._peers.pop(address, None)
            if self._ask_until is None:
                self._ask_until = now + ASK_S
                self._reconnect_at = now
            else:  # again without a word: don't spin, and not for ever
                self._reconnect_at = now + RETRY_S
        elif address == self._at and self.state is State.ASKING:
            self._reconnect_at = now + RETRY_S
        elif self._peers.pop(address, None) is not None:
            self._avoid[address] = now + RETRY_S
            if self.state is State.SEEKING:
                self._choose(now)

    def _mark_busy(self, address: str, now: float) -> None:
        if (peer := self._peers.get(address)) is not None:
            peer.state, peer.since = "busy", now

    def _seek(self, now: float) -> None:
        if self._cancel_by is not None:
            self._fail("cancelled", "cancelled by the caller", safe=self._call.attempt == 1)
            return
        self.state = State.SEEKING
        self._at = ""
        self._lookup_interval = LOOKUP_S
        if self._lookup_at is not None:
            self._lookup_at = now
        self._choose(now)

    def _drop(self, address: str, avoid_until: float) -> None:
        if self._peers.pop(address, None) is not None:
            self._avoid[address] = avoid_until
            self._actions.append(Disconnect(address))

    # The end

    def _lost(self, why: str, now: float) -> None:
        self._drop(self._at, now + STRANGER_S)
        if self._call.idempotent:
            self._call = self._call.replace(attempt=self._call.attempt + 1)
            self._seek(now)
        else:
            self._fail("replica_lost", f"the replica is gone ({why}); the call may have run")

    def _on_cancel(self, now: float) -> None:
        if self.state in (State.SENT, State.RUNNING):
            self._cancel_by = now + GRACE_S
            self._actions.append(Send(self._at, Cancel(id=self._call.id)))
        else:
            safe = self.state is State.SEEKING
            self._fail("cancelled", "cancelled by the caller", safe=safe)

    def _on_time(self, now: float) -> None:
        if self.state is State.DONE:
            return
        if self._cancel_by is not None and now >= self._cancel_by:
            self._fail("cancelled", "cancelled by the caller")
        elif self.state is State.SEEKING:
            self._seek_on(now)
        elif now >= self._deadline + GRACE_S:
            if self.state is not State.ASKING:
                self._actions.append(Send(self._at, Cancel(id=self._call.id)))
            self._fail("deadline_exceeded", "the deadline passed while the call was running")
        elif self.state is State.ASKING:
            if self._ask_until is not None and now >= self._ask_until:
                self._lost(f"{self._at} doesn't answer any more", now)
            elif self._reconnect_at is not None and now >= self._reconnect_at:
                self._reconnect_at = None
                self._actions += [Disconnect(self._at), Connect(self._at)]
        elif now >= self._heard_at + SILENCE_S:
            self._lost(f"no sign of life for {SILENCE_S:g} s", now)

    def _seek_on(self, now: float) -> None:
        name = self._call.function
        if not self._known and now >= min(self._started_at + NAME_S, self._deadline):
            self._fail(
                "function_not_found",
                f"no function {name!r} on this network",
                hint="check the name, and that the function and its caller share a network",
                safe=True,
            )
            return
        if now >= self._deadline:
            states = sorted(peer.state for peer in self._peers.values())
            seen = f"; its replicas: {', '.join(states)}" if states else ""
            self._fail(
                "deadline_exceeded",
                f"no replica of {name!r} was free before the deadline{seen}",
                hint="raise the deadline, or the number of replicas",
                safe=True,
            )
            return
        if self._lookup_at is not None and now >= self._lookup_at:
            self._lookup_at = None
            self._actions.append(Resolve())
        for address, peer in list(self._peers.items()):
            if now < peer.since + _PATIENCE[peer.state]:
                continue
            if peer.state in ("connecting", "asked"):
                self._drop(address, now + RETRY_S)
                self._choose(now)
                if self.state is not State.SEEKING:
                    return
            else:
                self._probe(address, peer, now)

    def _fail(self, code: str, message: str, *, hint: str = "", safe: bool = False) -> None:
        self._finish(
            Error(
                id=self._call.id,
                code=code,
                message=message,
                hint=hint,
                function=self._call.function,
                retry_safe=safe,
            )
        )

    def _finish(self, outcome: Result | Error) -> None:
        if isinstance(outcome, Error) and self._call.attempt > 1:
            outcome = outcome.replace(retry_safe=False)  # an earlier attempt may have run
        self.state = State.DONE
        self._actions.append(Finish(outcome))


#: Seconds before a peer in this state is probed again, or given up.
_PATIENCE = {
    "connecting": CONNECT_S,
    "asked": CONNECT_S,
    "idle": CONNECT_S,
    "boot": BOOT_PROBE_S,
    "busy": BUSY_PROBE_S,
    "failed": BUSY_PROBE_S,
}
