"""What the router keeps: its events and actions, and a row for each caller, replica, call and pool.

Only values and their fields. Calls change in `calls`, `waiting` and `ledger`, callers in `callers`,
replicas and their pools in `replicas`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from funker.controller.demand import Demand
from funker.controller.forward import addressed
from funker.controller.liveness import Peer
from funker.controller.queue import Queue
from funker.rpc.calls import patience
from funker.rpc.messages import Call, Error, Failed, Message, Ready

#: Seconds past a deadline or a CANCEL for the replica's own word on it.
GRACE_S = 0.5


class Limits(NamedTuple):
    """Bounds of what waits: calls for one function, calls of one caller, bytes in all; and of
    functions that are kept by name alone, since nobody has told what functions there are.
    """

    queue: int = 16_384
    caller: int = 16_384
    queued_bytes: int = 256 << 20
    names: int = 16_384


class Rules(NamedTuple):
    """What may be done with a function's calls: see `funker.spec.policy.CallPolicy`."""

    idempotent: bool = False
    retries: int = 0
    backoff: float = 0.2  # seconds
    max_inflight: int | None = None


# Events


class Received(NamedTuple):
    """`frames` are the message's own, to be passed on without encoding them again."""

    peer: bytes
    message: Message
    frames: Sequence[bytes]


class Passing(NamedTuple):
    """An ACCEPT, a RESULT or an ACK, of which only the kind and the call's id matter."""

    peer: bytes
    kind: bytes
    id: str
    frames: Sequence[bytes]


class Unreachable(NamedTuple):
    """A send found no connection. `call` is the id if it was a call that was being handed out."""

    peer: bytes
    call: str = ""


class Catalogue(NamedTuple):
    """What functions there are: each full name with its short names.

    `unrouted` has those whose replicas can't join this router, `wanted` how many replicas each
    shall have, `rules` what may be done with its calls; those that lack there have the defaults.
    """

    functions: Mapping[str, Sequence[str]]
    unrouted: Collection[str] = frozenset()
    wanted: Mapping[str, int] = {}
    rules: Mapping[str, Rules] = {}


class Tick(NamedTuple):
    """Time has passed."""


Event = Received | Passing | Unreachable | Catalogue | Tick

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
    RETRYING = "retrying"
    SENT = "sent"
    RUNNING = "running"
    ANSWERED = "answered"


class Caller(Peer):
    """Who made calls: its open calls, and until when they may be handed out."""

    __slots__ = ("astray_at", "calls", "pongs", "stalled", "valid_until")

    def __init__(self, peer: bytes, now: float) -> None:
        super().__init__(peer, now)
        #: PONGs that it may echo: when they were sent, by stamp.
        self.pongs: OrderedDict[int, float] = OrderedDict()
        self.valid_until = float("-inf")
        #: When it last spoke without standing here: it may have come from another router.
        self.astray_at = now
        self.calls: dict[str, OpenCall] = {}
        # Calls whose turn came while the caller was silent; they go first when it is back.
        self.stalled: dict[str, OpenCall] = {}


class Replica(Peer):
    """One that has said READY: its free places, and the calls that are with it."""

    __slots__ = (
        "address", "calls", "free", "full_at", "function", "is_resting", "leaving", "orphans",
        "ready", "rest_s", "running", "served", "slots",
    )  # fmt: skip

    def __init__(self, peer: bytes, ready: Ready, now: float) -> None:
        super().__init__(peer, now)
        self.ready = ready
        self.function = ready.function
        #: How calls are addressed to it.
        self.address = addressed(ready.function, ready.session)
        self.leaving = False
        #: It speaks a protocol that is spoken here.
        self.served = True
        #: Its places for calls, and those that are free as far as is known.
        self.slots = max(ready.slots, ready.free)
        self.free = ready.free
        self.calls: dict[str, OpenCall] = {}
        #: Those of its calls that were given to it and whose outcome isn't known.
        self.running: set[str] = set()
        # What it holds and nobody has asked for.
        self.orphans: set[str] = set()
        #: It is looked at again for places that somebody else has; after how many seconds; and
        #: when it has last refused a call for lack of one.
        self.is_resting, self.rest_s = False, 0.0
        self.full_at = float("-inf")

    def state(self, now: float) -> str:
        if self.is_suspect(now):
            return "suspect"
        if self.calls:
            return "busy"
        if not self.served:
            return "refused"
        return "leaving" if self.leaving else "free"

    def describe(self, now: float) -> dict[str, Any]:
        ready = self.ready
        return {
            "replica": ready.replica,
            "node": ready.node,
            "version": ready.version,
            "session": ready.session,
            "residue": ready.residue,
            "protocol": ready.protocol,
            "state": self.state(now),
            "calls": list(self.calls),
        }


_NOBODY: frozenset[bytes] = frozenset()
_NOTHING: Mapping[bytes, tuple[int, float]] = {}


class OpenCall:
    __slots__ = (
        "accepted", "asked", "attempt", "call", "caller", "cancelled", "deadline", "due", "error",
        "failed_by", "failure", "function", "give_up", "id", "is_timed", "is_whole", "lost_at",
        "phase", "questions", "queued_at", "replica", "sent_at", "size", "started_at", "touched",
    )  # fmt: skip

    def __init__(self, call: Call, caller: Caller, size: int, now: float) -> None:
        self.id = call.id
        self.call = call
        #: The full name, once it is known.
        self.function = call.function
        self.caller = caller
        #: Bytes of its header and its body.
        self.size = size
        self.phase = Phase.QUEUED
        self.replica: bytes | None = None
        self.accepted = False
        #: Its replica, which may not have got it, was asked.
        self.asked = False
        self.attempt = call.attempt
        self.deadline = now + patience(call)
        self.queued_at = now
        self.sent_at = self.started_at = now
        #: It was handed out by this router, at `sent_at`.
        self.is_timed = False
        #: Its body is here still.
        self.is_whole = True
        #: It may have started in an earlier try.
        self.touched = call.resend or call.attempt != 1
        #: The error of the last try, and the replicas whose error was followed by another.
        self.failure: Error | None = None
        self.failed_by = _NOBODY
        #: How many questions about it a replica has not denied yet, and when the last one was sent.
        self.questions: Mapping[bytes, tuple[int, float]] = _NOTHING
        self.cancelled = False
        #: When to look at it again, and when it ends whatever its replica says.
        self.due = self.deadline
        self.give_up = self.deadline + GRACE_S
        #: While it recovers: when the replica that had accepted it is given up.
        self.lost_at = 0.0
        #: The error that a replica ended it with.
        self.error: Error | None = None

    @property
    def untouched(self) -> bool:
        """It certainly has not started anywhere, as long as it has not been handed out."""
        return not self.touched


class Pool:
    """One function: its free replicas, longest idle first, its waiting calls, what is measured."""

    def __init__(self, queue: Queue[OpenCall], *, rules: Rules, wanted: int, since: float) -> None:
        self.rules = rules
        #: Replicas that there shall be, as far as anybody has said.
        self.wanted = wanted
        #: Places of the replica that joined last: those that start will have as many.
        self.slots = 1
        #: Those of its replicas that get no call any more.
        self.leaving = 0
        #: Calls that may be running in its replicas.
        self.inflight = 0
        self.demand = Demand(since)
        self.free: OrderedDict[bytes, Replica] = OrderedDict()
        self.queue = queue
        self.replicas: set[bytes] = set()
        #: When a replica has last said that it is one of this function; None: never.
        self.joined_at: float | None = None
        self.failure: Failed | None = None
        #: Whether a replica has loaded it since one last could not.
        self.is_proven = False
        # How long replicas that can't load were told to wait, and until when.
        self.failed_wait = 0.0
        self.failed_until = 0.0

    @property
    def starting(self) -> int:
        """Replicas that shall be there and aren't."""
        return max(0, self.wanted - len(self.replicas) + self.leaving)

    @property
    def is_at_its_limit(self) -> bool:
        """As many of its calls run as may at once."""
        limit = self.rules.max_inflight
        return limit is not None and self.inflight >= limit
