"""One slot of a replica, and one call in it. Pure: the replica, which has the slots, moves them.

    ABSENT ─loaded─► PARKED ─call─► BUSY ─outcome─► ENDING ─dead─► ABSENT

Invariants:

- A worker is given one call at most (`Start`), and of each call there is one `Start` at most.
- A slot has one call at a time. It may have the next while the last one's worker is still ending;
  that call starts with the next worker, and until then nothing has happened of it.
- Where each call has a container of its own (`once`) there is no next worker.
"""

from __future__ import annotations

from enum import Enum

from funker.rpc.messages import Call, Error, Result
from funker_runtime.events import Action, Kill, Release, Start

#: Seconds for which an outcome that nobody has acknowledged is kept: those of the first second of
#: an outage of 30 s, and the time for router and callers to find one another again.
HOLD_S = 40.0
#: Seconds before a caller that disconnected is given up: it may reconnect and ask again.
GONE_S = 2.0
#: Seconds after which the router hears that a call runs. Of a shorter one it hears the outcome
#: alone: another message, passed on to the caller, would compete with it.
ACCEPT_S = 0.002
#: Seconds for which a worker that has answered waits before it ends, unless the answer has been
#: acknowledged by then: the end of a process keeps a processor busy that the answer needs.
RELEASE_S = 0.01
#: Seconds between signs of life to the caller. Sending them is also how a lost one is noticed.
BEAT_S = 0.5
#: Seconds for a worker that has answered, or was killed, to be gone; its output ends then.
DEATH_S = 1.0
#: Seconds for which the next worker of a slot may take to come. It takes a millisecond; a slot
#: whose next worker is later isn't counted on.
REFILL_S = 2.0

NEVER = float("inf")


class Worker(Enum):
    """How a slot's process is."""

    ABSENT = "absent"
    PARKED = "parked"
    BUSY = "busy"
    ENDING = "ending"


class Run:
    """A call that a slot has taken: its caller, its clocks, and its outcome once there is one."""

    __slots__ = (
        "accept_at", "call", "caller", "caller_gone_at", "deadline_at", "give_back_at",
        "hold_until", "next_beat", "outcome", "overdue_at", "started_at", "timeout", "verdict",
        "verdict_by",
    )  # fmt: skip

    def __init__(self, call: Call, caller: bytes, *, timeout: float, now: float) -> None:
        self.call, self.caller = call, caller
        self.caller_gone_at: float | None = None
        if call.timeout_ms is not None:
            timeout = min(timeout, call.timeout_ms / 1000)
        self.timeout = timeout
        self.deadline_at = NEVER if call.deadline_ms is None else now + call.deadline_ms / 1000
        self.overdue_at = self.deadline_at
        self.started_at: float | None = None
        #: When a call that hasn't started is given back.
        self.give_back_at = now + REFILL_S
        self.next_beat = now + BEAT_S
        #: When the router is to hear that it runs; never: it has, or it isn't the caller.
        self.accept_at = NEVER
        #: Why it failed, known before the worker is dead; its last output then completes it.
        self.verdict: Error | None = None
        self.verdict_by = 0.0
        self.outcome: Result | Error | None = None
        self.hold_until = 0.0

    @property
    def is_undecided(self) -> bool:
        return self.outcome is None and self.verdict is None

    def start(self, now: float) -> None:
        self.started_at, self.give_back_at = now, NEVER
        self.overdue_at = min(now + self.timeout, self.deadline_at)

    def overdue(self) -> Error:
        """What is said of it at `overdue_at`."""
        if self.started_at is None:
            message = "the caller's deadline passed before a process was free"
            return Error(code="deadline_exceeded", message=message, retry_safe=True)
        if self.deadline_at < self.started_at + self.timeout:
            message = "the caller's deadline passed while it ran"
            return Error(code="deadline_exceeded", message=message)
        message = f"ran longer than its time-out of {self.timeout:g} s"
        return Error(code="function_timeout", message=message)

    def gone_by(self) -> float:
        """When its caller, who is gone, is given up."""
        return NEVER if self.caller_gone_at is None else self.caller_gone_at + GONE_S

    def due(self) -> float:
        """When something is to be done about it, if nothing happens before."""
        if self.outcome is not None:
            return min(self.next_beat, self.hold_until, self.gone_by())
        if self.verdict is not None:
            return min(self.next_beat, self.accept_at, self.verdict_by)
        return min(
            self.next_beat, self.accept_at, self.overdue_at, self.give_back_at, self.gone_by()
        )


class Slot:
    """A place for one call at a time: the worker that is there, and the call."""

    __slots__ = ("answered", "end_by", "is_late", "number", "once", "refill_by", "release_at",
                 "run", "worker")  # fmt: skip

    def __init__(self, number: int, *, once: bool, now: float) -> None:
        self.number = number
        self.once = once
        self.worker = Worker.ABSENT
        #: When the next worker is to have come; then it is late.
        self.refill_by = NEVER if once else now + REFILL_S
        self.is_late = False
        #: The call that is here and has no outcome yet.
        self.run: Run | None = None
        #: The call whose answer came from the worker that is ending.
        self.answered: Run | None = None
        #: When a worker that has answered is to end; never: it has been told, or needn't be.
        self.release_at = NEVER
        #: When a worker that should have ended by itself is killed.
        self.end_by = NEVER

    @property
    def is_free(self) -> bool:
        """Whether a call that came now would start, at once or with the next worker."""
        return self.run is None and not self.is_late

    @property
    def has_ended(self) -> bool:
        """Whether nobody need wait for this slot's worker any more."""
        return self.worker is Worker.ABSENT or (self.worker is Worker.PARKED and not self.once)

    def load(self) -> None:
        """A worker waits here."""
        self.worker = Worker.PARKED
        self.refill_by, self.is_late = NEVER, False

    def start(self, now: float) -> Action:
        """Give the call to the worker that waits."""
        assert self.run is not None
        self.run.start(now)
        self.worker = Worker.BUSY
        return Start(self.run.call, self.number)

    def answer(self, run: Run, now: float) -> None:
        """Its worker has answered, and is to end."""
        self.answered = run
        if self.once:
            self.release_at = now + RELEASE_S

    def vacate(self, now: float) -> None:
        """The call has its outcome: there may be another."""
        self.run = None
        if self.worker is Worker.BUSY:
            self.worker = Worker.ENDING
            if not self.once:
                self.end_by = now + DEATH_S

    def bury(self, now: float) -> None:
        """The worker is dead."""
        self.worker = Worker.ABSENT
        self.release_at = self.end_by = NEVER
        if not self.once:
            self.refill_by = now + REFILL_S

    def release(self) -> list[Action]:
        """Let a worker end that has answered, if it hasn't been let yet."""
        if self.release_at == NEVER:
            return []
        self.release_at = NEVER
        return [Release(self.number)]

    def due(self) -> float:
        """When `on_time` has something to do, if nothing happens before."""
        return min(self.release_at, self.end_by, self.refill_by)

    def on_time(self, now: float) -> list[Action]:
        if now >= self.refill_by:
            self.refill_by, self.is_late = NEVER, True
        if now >= self.end_by:
            self.end_by = NEVER
            return [Kill(self.number)]
        return self.release() if now >= self.release_at else []
