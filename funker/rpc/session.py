"""A caller's standing with its router, as a pure state machine: events in, actions out.

One session carries all calls of a process. Rules:

- A new call is sent as soon as the router has answered a PING. The PONG's stamp goes back in the
  next PING: the router hands calls out only within 1.5 s of sending the PONG that is echoed.
- After a new connection, and to a router that forgot us (`known: false`) or is another one (a new
  epoch), every call that was sent before is sent again, marked as resent and with the replica
  that had accepted it. To another router at the earliest `ELSEWHERE_S` after the last word of the
  one before: by then that one hands nothing out any more, so a call never runs under both.
- A router that had calls of ours before, and was left for another, hears no echo until it has
  been told what became of them.
- What was acknowledged just before a connection broke is acknowledged again on the next.
- A call once handed to a router stays with routers: its outcome comes from one, or its deadline
  passes. One that was not, for want of a router, ends after a while as safe to make elsewhere; or
  as unauthorized, if the router doesn't know our key or we don't know its own.
- Questions about what the router knows (QUERY) may be asked twice, so they are sent again too.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import NamedTuple

from funker.rpc.calls import patience
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

#: Seconds between PINGs while calls are open.
PING_S = 0.5
#: Seconds after the last call for which PINGs go on, a little more often: the next call, if it
#: comes soon, finds that the router hands it out at once.
KEEP_S, KEEP_PING_S = 5.0, 0.4
#: Seconds without a word after which the connection is made anew, to where the name leads then.
SILENCE_S = 2.0
#: Seconds after a router's last PONG before its calls are sent to another.
ELSEWHERE_S = 2.0
#: Seconds after which an echo is too old for the router to hand calls out on it.
STALE_S = 1.0
#: Seconds for which an acknowledged outcome is remembered, and how many: the ACK may be lost.
ACKED_S, ACKED = 5.0, 1024
#: Routers that are remembered, latest last: one of them may come back.
VISITED = 16
#: Seconds past the deadline, or a cancellation, for the router's own word on it.
GRACE_S = 0.5
#: Seconds without any router after which calls that no router has had end. Half of a call's
#: patience if that is less: there may be another way to make it.
ROUTER_WAIT_S = 3.0
#: Seconds for the answer to a question once it was sent.
QUERY_S = 5.0
#: Connections in a row that break off in the handshake before it is a matter of keys. A router
#: that is just dying does it once.
HANG_UPS = 3

HINT = "is the control plane up? `funker up`; `docker service ls`"
KEY_HINT = "`funker up` makes the keys; give this process its funker-client-key, as it is now"


class Submitted(NamedTuple):
    """A new call; `deadline_ms` is its patience from now on."""

    call: Call


class Heard(NamedTuple):
    message: Message


class Connected(NamedTuple):
    """A connection stands; whoever is at its other end."""


class Disconnected(NamedTuple):
    """The connection is gone; another will be made without being asked for."""


class Refused(NamedTuple):
    """The router won't have us, for its key or ours. No other connection will be made."""

    why: str


class HungUp(NamedTuple):
    """Who answered broke off in the handshake. Another connection will be made."""


class CancelAsked(NamedTuple):
    id: str


class Asked(NamedTuple):
    """A question; its number is its own."""

    query: Query


class Tick(NamedTuple):
    """Time has passed."""


Event = Submitted | Asked | Heard | Connected | Disconnected | Refused | HungUp | CancelAsked | Tick


class Send(NamedTuple):
    message: Message


class Finish(NamedTuple):
    id: str
    outcome: Result | Error


class Answer(NamedTuple):
    """What became of a question."""

    number: int
    outcome: Reply | Error


class Reconnect(NamedTuple):
    """Drop the connection and dial anew."""


Action = Send | Finish | Answer | Reconnect


class _Open:
    __slots__ = (
        "accepted_by", "call", "cancelled", "deadline", "due", "epoch", "moved", "number", "sent",
    )  # fmt: skip

    def __init__(self, call: Call, now: float) -> None:
        self.call = call
        self.deadline = self.due = now + patience(call)
        self.sent = False
        # The number of the last PING that went before it.
        self.number = 0
        # The router that it was sent to, and whether there was another before: what one says of
        # a call that has waited there all the time isn't the whole truth then.
        self.epoch = ""
        self.moved = False
        self.accepted_by = ""
        self.cancelled = False


class Session:
    """All open calls of one caller. Times are seconds on any one monotonic clock."""

    def __init__(
        self, now: float, *, router: str = "the router", wait_s: float = ROUTER_WAIT_S
    ) -> None:
        self._router = router
        self._wait = wait_s
        self._actions: list[Action] = []
        self._open: dict[str, _Open] = {}
        # Questions, with when to give up on them.
        self._asked: dict[int, tuple[Query, float]] = {}
        self._acked: OrderedDict[str, float] = OrderedDict()
        # When to look at a call again, soonest first; what has another `due` is passed over.
        self._dues: list[tuple[float, str]] = []
        self._epoch = ""
        self._visited: list[str] = []
        self._returned = False
        # Whether a router has answered over this connection, whose first PING had this number.
        self._attached = False
        self._first = 0
        self._number = 0
        # If none has: since when, how many have broken off, and why the last one refused us.
        self._alone_since = now
        self._hang_ups = 0
        self._refused = ""
        # The last PONG: its stamp, when it came, and when the one came that was last echoed.
        self._stamp = 0
        self._ponged_at = float("-inf")
        self._echoed_at = float("-inf")
        self._heard_at = now
        self._ping_at = float("inf")
        # Until when PINGs go on though no call is open.
        self._keep_until = float("-inf")
        # When calls that were sent before a certain PING are sent again; and when at the earliest.
        self._resend_at = float("inf")
        self._resend_below = 0
        self._elsewhere_at = float("-inf")

    @property
    def idle(self) -> bool:
        return not self._open and not self._asked

    def on(self, event: Event, now: float) -> list[Action]:
        """The actions that follow, in order."""
        self._actions = []
        match event:
            case Submitted(call):
                self._on_submitted(call, now)
            case Asked(query):
                self._on_asked(query, now)
            case Heard(message):
                self._heard_at = now
                self._on_heard(message, now)
            case Connected():
                self._heard_at = now
                self._detach(now)
                self._hang_ups, self._refused = 0, ""
                self._stamp, self._echoed_at = 0, float("-inf")
                self._ping(now)
            case Disconnected():
                self._detach(now)
            case Refused(why):
                self._detach(now)
                self._on_refused(why)
            case HungUp():
                self._hang_ups += 1
            case CancelAsked(id):
                self._on_cancel(id, now)
            case Tick():
                pass
        self._on_time(now)
        return self._actions

    def wakeup(self) -> float:
        """When `on(Tick(), …)` is due at the latest."""
        if self.idle:
            return self._ping_at
        silent_at = self._heard_at + SILENCE_S
        call_at = self._dues[0][0] if self._dues else float("inf")
        query_at = min((at for _, at in self._asked.values()), default=float("inf"))
        return min(call_at, query_at, self._ping_at, self._resend_at, silent_at)

    def _on_submitted(self, call: Call, now: float) -> None:
        self._wanted(now)
        made = self._open[call.id] = _Open(call, now)
        if self._attached:
            self._look(made, made.deadline)
            if now - self._echoed_at > STALE_S:
                self._ping(now)
            self._send_call(made, now)
        else:
            half = now + (made.deadline - now) / 2
            self._look(made, min(max(self._alone_since + self._wait, now), half))

    def _on_asked(self, query: Query, now: float) -> None:
        self._wanted(now)
        self._asked[query.number] = (query, max(self._alone_since + self._wait, now))
        if self._attached:
            self._send_query(query, now)

    def _wanted(self, now: float) -> None:
        if self.idle:
            self._heard_at = now  # nobody was asked to speak before
        if self._attached:
            self._ping_at = min(self._ping_at, now + PING_S)
        elif self._refused:
            # Perhaps it knows us by now. And it is there: the wait for a router starts again.
            self._refused = ""
            self._alone_since = self._heard_at = now
            self._actions.append(Reconnect())

    def _send_query(self, query: Query, now: float) -> None:
        self._asked[query.number] = (query, now + QUERY_S)
        self._actions.append(Send(query))

    def _detach(self, since: float) -> None:
        if self._attached:
            self._attached, self._alone_since = False, since
        self._first = self._number + 1  # what comes late over that connection attaches nothing
        self._ping_at = self._resend_at = float("inf")

    def _on_refused(self, why: str) -> None:
        self._refused = why
        message = f"{self._router} refuses this process: {why}"
        for id in [id for id, made in self._open.items() if not made.sent]:
            self._fail(id, "unauthorized", message, hint=KEY_HINT, safe=True)
        for number in list(self._asked):
            self._give_up(number, Error(code="unauthorized", message=message, hint=KEY_HINT))

    def _give_up(self, number: int, error: Error) -> None:
        del self._asked[number]
        self._actions.append(Answer(number, error))

    def _look(self, made: _Open, at: float) -> None:
        made.due = at
        heapq.heappush(self._dues, (at, made.call.id))
        if len(self._dues) > 2 * len(self._open) + 64:  # mostly calls that are over
            self._dues = [(one.due, id) for id, one in self._open.items()]
            heapq.heapify(self._dues)

    def _on_heard(self, message: Message, now: float) -> None:
        match message:
            case Pong():
                self._on_pong(message, now)
            case Accept(id=id, replica=replica) if id in self._open:
                self._open[id].accepted_by = replica
            case Result(id=id) | Error(id=id) if id is not None:
                if (made := self._open.pop(id, None)) is not None:
                    if made.moved and isinstance(message, Error):
                        message = message.replace(retry_safe=False)
                    self._actions.append(Finish(id, message))
                    self._keep_until = now + KEEP_S
                # Also when it comes twice: whoever sent it waits for this.
                self._acknowledge(id, now)
            case Reply(number=number) if number in self._asked:
                del self._asked[number]
                self._actions.append(Answer(number, message))
            case _:
                pass

    def _acknowledge(self, id: str, now: float) -> None:
        self._actions.append(Send(Ack(id=id)))
        self._acked[id] = now
        while len(self._acked) > ACKED or next(iter(self._acked.values())) < now - ACKED_S:
            self._acked.popitem(last=False)

    def _on_pong(self, pong: Pong, now: float) -> None:
        before, self._ponged_at = self._ponged_at, now
        if pong.number < self._first:
            return  # the last word over an earlier connection
        moved = pong.epoch != self._epoch
        if moved:
            self._move(pong.epoch, before)
        if moved or not pong.known or not self._attached:
            self._resend_at = max(now, self._elsewhere_at)
            self._resend_below = pong.number
        if not self._attached:
            self._attach(now)
        self._stamp = pong.stamp
        if not self.idle and now - self._echoed_at > STALE_S and self._resend_at > now:
            self._ping(now)

    def _move(self, epoch: str, last_word_at: float) -> None:
        if self._epoch:
            self._elsewhere_at = max(self._elsewhere_at, last_word_at + ELSEWHERE_S)
        self._epoch = epoch
        self._returned = epoch in self._visited
        self._visited = [*(e for e in self._visited if e != epoch), epoch][-VISITED:]

    def _attach(self, now: float) -> None:
        self._attached = True
        for id, at in self._acked.items():
            if at >= now - ACKED_S:
                self._actions.append(Send(Ack(id=id)))
        for made in self._open.values():
            if not made.sent:
                self._send_call(made, now)
        for query, _ in list(self._asked.values()):
            self._send_query(query, now)

    def _ping(self, now: float) -> None:
        self._number += 1
        self._ping_at = now + PING_S
        withheld = self._returned and self._resend_at < float("inf")
        echo = 0 if withheld else self._stamp
        if echo:
            self._echoed_at = self._ponged_at
        self._actions.append(Send(Ping(number=self._number, echo=echo)))

    def _send_call(self, made: _Open, now: float) -> None:
        patience = max(1, round((made.deadline - now) * 1000))
        self._actions.append(
            Send(
                made.call.replace(
                    deadline_ms=patience, resend=made.sent, accepted_by=made.accepted_by
                )
            )
        )
        made.moved |= made.sent and made.epoch != self._epoch
        made.sent, made.number, made.epoch = True, self._number, self._epoch

    def _resend(self, now: float) -> None:
        self._resend_at = float("inf")
        for id, made in self._open.items():
            if made.number >= self._resend_below or now >= made.deadline:
                continue
            if made.cancelled:
                self._actions.append(Send(Cancel(id=id)))
            else:
                self._send_call(made, now)
        self._ping(now)

    def _on_cancel(self, id: str, now: float) -> None:
        made = self._open.get(id)
        if made is None or made.cancelled:
            return
        if made.sent:
            made.cancelled = True
            self._look(made, min(made.deadline, now) + GRACE_S)
            self._actions.append(Send(Cancel(id=id)))
        else:
            self._fail(id, "cancelled", "cancelled by the caller", safe=True)

    def _on_time(self, now: float) -> None:
        while self._dues and self._dues[0][0] <= now:
            at, id = heapq.heappop(self._dues)
            if (made := self._open.get(id)) is not None and made.due == at:
                self._on_due(made, now)
        for number in [number for number, (_, at) in self._asked.items() if at <= now]:
            self._give_up(number, self._absent(now) if not self._attached else self._mute())
        if self.idle:
            self._resend_at = float("inf")
            self._keep(now)
            return
        if now >= self._resend_at:
            self._resend(now)
        if now >= self._heard_at + SILENCE_S:
            self._detach(self._heard_at)
            self._heard_at = now
            self._actions.append(Reconnect())
        elif now >= self._ping_at:
            self._ping(now)

    def _keep(self, now: float) -> None:
        """Nobody waits for the router; it hears from us for a while."""
        if now >= self._keep_until:
            self._ping_at = float("inf")
        elif now >= self._ping_at:
            self._ping(now)
            self._ping_at = now + KEEP_PING_S

    def _on_due(self, made: _Open, now: float) -> None:
        id = made.call.id
        if made.cancelled:
            self._fail(id, "cancelled", "cancelled by the caller")
        elif made.sent and now < made.deadline + GRACE_S:
            self._look(made, made.deadline + GRACE_S)
        elif self._attached and now - self._ponged_at < SILENCE_S:
            message = "the deadline passed without a word on the call"
            self._fail(id, "deadline_exceeded", message)
        elif made.sent:
            message = f"{self._router} had the call, and no router answered before the deadline"
            self._fail(id, "router_unavailable", message, hint=HINT)
        else:
            absent = self._absent(now)
            self._fail(id, absent.code, absent.message, hint=absent.hint, safe=True)

    def _absent(self, now: float) -> Error:
        """What to say when there is no router."""
        if self._hang_ups >= HANG_UPS:
            message = (
                f"{self._router} breaks off in the handshake: its key isn't the one known here,"
                " or nothing is behind that port"
            )
            return Error(code="unauthorized", message=message, hint=KEY_HINT)
        message = f"no router at {self._router} for {now - self._alone_since:.1f} s"
        return Error(code="router_unavailable", message=message, hint=HINT)

    def _mute(self) -> Error:
        message = f"{self._router} gave no answer to the question within {QUERY_S:g} s"
        return Error(code="router_unavailable", message=message, hint=HINT)

    def _fail(
        self, id: str, code: str, message: str, *, hint: str = "", safe: bool = False
    ) -> None:
        made = self._open.pop(id)
        error = Error(
            id=id, code=code, message=message, hint=hint, function=made.call.function,
            retry_safe=safe,
        )  # fmt: skip
        self._actions.append(Finish(id, error))
