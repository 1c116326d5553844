"""Which replicas of one function to start and to stop. Pure: no processes, no clock.

Every slot has one replica of the revision that shall be, the target. Rules:

- One that has exited is replaced at once. One that was never ready is replaced later and later.
- A new revision starts beside what stands: a slot's older replica is stopped when its new one is
  ready. Until then the older revision is kept alive there, if it was ever ready: each call uses
  up a replica, and a broken update must not eat up what works.
- A replica is stopped once. What it does until it is gone is its own business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Seconds before the next start in a slot whose replica never became ready: the second time, and
#: at most. It doubles each time.
BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
#: Seconds that a replica has to live after it was ready for its bad end to count as a new one.
STEADY_S = 1.0
#: Replicas in a row that end before they are ready, before that is called a failure.
PATIENCE = 3

State = Literal["starting", "ready", "failed", "stopping"]


@dataclass(slots=True)
class Replica:
    id: str
    slot: int
    revision: str
    state: State = "starting"
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a revision isn't up."""

    revision: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    slot: int
    revision: str


@dataclass(frozen=True, slots=True)
class Stop:
    id: str


@dataclass(slots=True)
class _Slot:
    #: Ends in a row without having been ready, and when the next start is due.
    failures: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Pool:
    """All replicas of one function. Times are seconds on any one monotonic clock."""

    target: str = ""
    wanted: int = 0
    #: The last revision that was ready anywhere.
    proven: str = ""
    #: Slots in which the target has been ready.
    settled: set[int] = field(default_factory=set)
    failure: Failure | None = None
    replicas: dict[str, Replica] = field(default_factory=dict)
    _slots: dict[int, _Slot] = field(default_factory=dict)
    #: Replicas that shall not wait in their failure for the next try.
    _given_up: set[str] = field(default_factory=set)

    def want(self, revision: str, replicas: int) -> None:
        """What shall be."""
        if revision != self.target:
            self.target = revision
            self.settled = {r.slot for r in self._of(revision) if r.state == "ready"}
            self.failure = None
            self._slots.clear()
        self.wanted = replicas
        self.settled = {slot for slot in self.settled if slot <= replicas}

    def retry(self) -> None:
        """Something around it may have changed: what has failed is tried again at once."""
        self.failure = None
        self._slots.clear()
        self._given_up = {r.id for r in self.replicas.values() if r.state == "failed"}

    def plan(self, now: float) -> list[Start | Stop]:
        """What is to be done. The same again until `started` and `stopping` tell of it."""
        plan: list[Start | Stop] = []
        for replica in self.replicas.values():
            other = replica.revision != self.target or replica.id in self._given_up
            stale = replica.state == "failed" and other
            if replica.state != "stopping" and (replica.slot > self.wanted or stale):
                plan.append(Stop(replica.id))
        by_slot: dict[int, list[Replica]] = {}
        for replica in self.replicas.values():
            if replica.state != "stopping":
                by_slot.setdefault(replica.slot, []).append(replica)
        for slot in range(1, self.wanted + 1):
            plan += self._plan_slot(slot, by_slot.get(slot, []), now)
        return plan

    def wakeup(self, now: float) -> float:
        """When a start is due that isn't yet; infinity if none is."""
        held = {r.slot for r in self._of(self.target) if r.state != "stopping"}
        dues = (s.due for slot, s in self._slots.items() if slot not in held and s.due > now)
        return min(dues, default=float("inf"))

    # What happened

    def started(self, id: str, start: Start) -> None:
        self.replicas[id] = Replica(id, start.slot, start.revision)

    def stopping(self, id: str) -> None:
        self.replicas[id].state = "stopping"

    def ready(self, id: str, now: float) -> None:
        replica = self.replicas[id]
        replica.ready_at = now
        if replica.state != "stopping":
            replica.state = "ready"
        if replica.revision == self.target:
            self.proven = self.target
            self.failure = None
            self._slots.pop(replica.slot, None)
            if replica.slot <= self.wanted:
                self.settled.add(replica.slot)

    def failed(self, id: str, message: str, traceback: str) -> None:
        """It can't load its handler, says so, and will exit by itself."""
        replica = self.replicas[id]
        if replica.state != "stopping":
            replica.state = "failed"
            if replica.revision == self.target:
                self.failure = Failure(replica.revision, message, traceback)

    def exited(self, id: str, how: str, now: float) -> None:
        """`how` is empty for an end in order."""
        replica = self.replicas.pop(id)
        self._given_up.discard(id)
        if replica.state == "stopping" or replica.revision != self.target:
            return
        if replica.ready_at is not None and (not how or now - replica.ready_at >= STEADY_S):
            return
        self.missed(replica.slot, how or "ended before it was ready", now)

    def missed(self, slot: int, how: str, now: float) -> None:
        """A start of the target in this slot came to nothing."""
        state = self._slots.setdefault(slot, _Slot())
        state.failures += 1
        if state.failures > 1:
            state.due = now + min(BACKOFF_S * 2 ** min(state.failures - 2, 16), BACKOFF_MAX_S)
        if state.failures >= PATIENCE and self.failure is None:
            self.failure = Failure(self.target, f"its process {how}")

    # Inside

    def _of(self, revision: str) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.revision == revision]

    def _plan_slot(self, slot: int, here: list[Replica], now: float) -> list[Start | Stop]:
        current = [r for r in here if r.revision == self.target]
        older = [r for r in here if r.revision != self.target and r.state != "failed"]
        if any(replica.state == "ready" for replica in current):
            return [Stop(replica.id) for replica in older]
        plan: list[Start | Stop] = []
        state = self._slots.get(slot)
        if not current and (state is None or state.due <= now):
            plan.append(Start(slot, self.target))
        if not older and slot not in self.settled and self.proven not in ("", self.target):
            plan.append(Start(slot, self.proven))
        return plan
