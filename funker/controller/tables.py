"""What the router keeps: its events and actions, and a row for each caller, replica, call and pool.

Only values and their fields; every transition is in `dispatch`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from funker.controller.queue import Queue
from funker.rpc.calls import DEADLINE_S
from funker.rpc.messages import Call, Error, Failed, Message, Ready

#: Seconds of silence after which a replica gets no new call.
SUSPECT_S = 1.5
#: Seconds past a deadline or a CANCEL for the replica's own word on it.
GRACE_S = 0.5


class Limits(NamedTuple):
    """Bounds of what waits: calls for one function, calls of one caller, bytes in all."""

    queue: int = 16_384
    caller: int = 16_384
    queued_bytes: int = 256 << 20


# Events


class Received(NamedTuple):
    """`frames` are the message's own, to be passed on without encoding them again."""

    peer: bytes
    message: Message
    frames: Sequence[bytes]


class Unreachable(NamedTuple):
    """A send found no connection. `call` is the id if it was a call that was being handed out."""

    peer: bytes
    call: str = ""


class Catalogue(NamedTuple):
    """What functions there are, by full name, and each one's short names."""

    functions: Mapping[str, Sequence[str]]


class Tick(NamedTuple):
    """Time has passed."""


Event = Received | Unreachable | Catalogue | Tick

# Actions


class Send(NamedTuple):
    """`call` is the id if this hands a call out: a failure to send it is to be told with it."""

    peer: bytes
    message: Message | Sequence[bytes]
    call: str = ""


class Finish(NamedTuple):
    """A call is over: for the log."""

    record: Record


class Printed(NamedTuple):
    """What a finished call printed: for the log."""

    id: str
    text: str


class Record(NamedTuple):
    """What became of a call. Times in milliseconds: waiting, until ACCEPT, running."""

    id: str
    function: str
    outcome: str  # "ok" or an error's code
    replica: str
    at: float
    queue_ms: int
    start_ms: int
    run_ms: int
    attempt: int
    output_tail: str
    message: str


Action = Send | Finish | Printed


class Phase(Enum):
    RECOVERING = "recovering"
    QUEUED = "queued"
    SENT = "sent"
    RUNNING = "running"
    ANSWERED = "answered"


class Caller:
    """Who made calls: its open calls, and until when they may be handed out."""

    __slots__ = (
        "astray_at", "calls", "gone_at", "heard_at", "peer", "pongs", "stalled", "valid_until",
    )  # fmt: skip

    def __init__(self, peer: bytes, now: float) -> None:
        self.peer = peer
        self.heard_at = now
        self.gone_at: float | None = None
        self.pongs: OrderedDict[int, float] = OrderedDict()
        self.valid_until = float("-inf")
        #: When it last spoke without standing here: it may have come from another router.
        self.astray_at = now
        self.calls: dict[str, OpenCall] = {}
        # Calls whose turn came while the caller was silent; they go first when it is back.
        self.stalled: dict[str, OpenCall] = {}


class Replica:
    __slots__ = ("calls", "free", "function", "gone_at", "heard_at", "leaving", "orphans", "ready")

    def __init__(self, ready: Ready, now: float) -> None:
        self.ready = ready
        self.function = ready.function
        self.heard_at = now
        self.gone_at: float | None = None
        self.leaving = False
        self.free = ready.free
        self.calls: dict[str, OpenCall] = {}
        # What it holds and nobody has asked for.
        self.orphans: set[str] = set()

    def state(self, now: float) -> str:
        if self.gone_at is not None or now - self.heard_at > SUSPECT_S:
            return "suspect"
        if self.calls:
            return "busy"
        return "leaving" if self.leaving else "free"

    def describe(self, now: float) -> dict[str, Any]:
        ready = self.ready
        return {
            "replica": ready.replica,
            "node": ready.node,
            "version": ready.version,
            "session": ready.session,
            "protocol": ready.protocol,
            "state": self.state(now),
            "calls": list(self.calls),
        }


class OpenCall:
    __slots__ = (
        "accepted", "asked", "attempt", "call", "caller", "cancelled", "deadline", "due", "error",
        "function", "give_up", "id", "phase", "queued_at", "replica", "sent_at", "size",
        "started_at",
    )  # fmt: skip

    def __init__(self, call: Call, function: str, caller: Caller, now: float) -> None:
        self.id = call.id
        self.call = call
        self.function = function
        self.caller = caller
        self.size = len(call.body or b"")
        self.phase = Phase.QUEUED
        self.replica: bytes | None = None
        self.accepted = False
        #: Its replica, which may not have got it, was asked.
        self.asked = False
        self.attempt = call.attempt
        patience = DEADLINE_S if call.deadline_ms is None else call.deadline_ms / 1000
        self.deadline = now + patience
        self.queued_at = now
        self.sent_at = self.started_at = now
        self.cancelled = False
        #: When to look at it again, and when it ends whatever its replica says.
        self.due = self.deadline
        self.give_up = self.deadline + GRACE_S
        #: The error that a replica ended it with.
        self.error: Error | None = None

    @property
    def untouched(self) -> bool:
        """It certainly has not started anywhere, as long as it has not been handed out."""
        return self.attempt == 1 and not self.call.resend


class Pool:
    """One function: its free replicas, longest idle first, and its waiting calls."""

    def __init__(self, queue: Queue[OpenCall]) -> None:
        self.free: OrderedDict[bytes, Replica] = OrderedDict()
        self.queue = queue
        self.replicas: set[bytes] = set()
        #: A replica has said that it is one of this function.
        self.joined = False
        self.failure: Failed | None = None
        # How long replicas that can't load were told to wait, and until when.
        self.failed_wait = 0.0
        self.failed_until = 0.0
