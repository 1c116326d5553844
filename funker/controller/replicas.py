"""Who serves: the replicas, by function, and what they hold that nobody has asked for. Pure.

- A replica is in its pool's `free` only if it has a free place; the longest idle one is first.
- Free places and running calls are never more than a replica's `slots`. A place that somebody else
  has, by a direct call for instance, shows by BUSY: it is tried again after a rest that grows.
- A pool's `inflight` is the number of its replicas' `running` calls and orphans.
- A replica that leaves gets no place back, and is forgotten with its last call.
- Orphans are calls that a replica has and whose caller hasn't come yet. Each has one holder.
- Pools exist for functions that somebody serves, waits for, or has told of.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping

from funker.controller.queue import Budget, Queue
from funker.controller.tables import Limits, OpenCall, Pool, Replica, Rules
from funker.rpc.messages import Call, Failed, Ready

#: Seconds that a replica whose handler can't be loaded is told to wait: at first, and at most.
FAILED_S, FAILED_MAX_S = 5.0, 60.0
#: Seconds past that wait for which the failure still stands: the time to start and load.
FAILURE_S = 10.0
#: Seconds until a place that was found taken is tried again: at first, doubled each time, at most;
#: and for how long none must have been for the next one to be a first one.
REST_S, REST_MAX_S, CALM_S = 0.002, 0.25, 1.0
_DEFAULT = Rules()


class Replicas:
    """The rows of replicas by routing id, their pools by function, and orphans by id."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._since = now
        #: Replicas that each function shall have, as far as anybody has said.
        self.wanted: Mapping[str, int] = {}
        self._rules: Mapping[str, Rules] = {}
        #: Functions of which fewer calls run than may, since a moment ago.
        self.unblocked: set[str] = set()
        #: When to look for places again.
        self.rest_until = float("inf")
        # Replicas some of whose places may be free again, and when to try.
        self._resting: list[tuple[float, int, Replica]] = []
        self._order = itertools.count()
        self.budget = Budget(limits.queued_bytes)
        self.pools: dict[str, Pool] = {}
        self._rows: dict[bytes, Replica] = {}
        # By whom it is held, and since when.
        self._orphans: OrderedDict[str, tuple[Replica, float]] = OrderedDict()

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._rows

    def __iter__(self) -> Iterator[Replica]:
        return iter(list(self._rows.values()))

    def get(self, peer: bytes) -> Replica | None:
        return self._rows.get(peer)

    def row(self, peer: bytes) -> Replica:
        """The row of a replica that is known to be there."""
        return self._rows[peer]

    # Pools

    def pool(self, function: str) -> Pool:
        """The pool of a function, made if it is new."""
        pool = self.pools.get(function)
        if pool is None:
            queue: Queue[OpenCall] = Queue(limit=self._limits.queue, budget=self.budget)
            pool = self.pools[function] = Pool(
                queue,
                rules=self.rules(function),
                wanted=self.wanted.get(function, 0),
                since=self._since,
            )
        return pool

    def rules(self, function: str) -> Rules:
        """What may be done with its calls."""
        return self._rules.get(function, _DEFAULT)

    def may_run_twice(self, call: Call, function: str) -> bool:
        """Whether a call of this function may be run again after it may have run."""
        return call.idempotent or self.rules(function).idempotent

    def learn(self, wanted: Mapping[str, int], rules: Mapping[str, Rules]) -> None:
        """These are the numbers of replicas that functions shall have, and their rules."""
        self.wanted, self._rules = wanted, rules
        for function, pool in self.pools.items():
            pool.wanted = wanted.get(function, 0)
            if pool.rules != (new := self.rules(function)):
                pool.rules = new
                self.unblocked.add(function)

    def drop_empty(self, known: Container[str]) -> None:
        """Forget the pools that nobody serves, waits for, or knows the function of."""
        for function, pool in list(self.pools.items()):
            if pool.joined_at is None and not pool.queue and function not in known:
                del self.pools[function]

    # Coming and going

    def join(self, peer: bytes, ready: Ready, now: float) -> Replica:
        """A new row for a replica that has said READY."""
        is_new = self.forget(peer) is None
        replica = self._rows[peer] = Replica(peer, ready, now)
        pool = self.pool(ready.function)
        pool.replicas.add(peer)
        pool.joined_at = now
        pool.slots = replica.slots
        if is_new and ready.once:
            pool.demand.joined(ready.replica, now)
        elif not ready.once and replica.free < replica.slots:
            # Calls that it runs, or somebody else's: those whose outcome it holds take no place.
            self._rest(replica, REST_MAX_S, now)
        return replica

    def forget(self, peer: bytes) -> Replica | None:
        """Its row and its orphans. The calls that were with it are another's business."""
        replica = self._rows.pop(peer, None)
        if replica is not None:
            pool = self.pools[replica.function]
            pool.free.pop(peer, None)
            pool.replicas.discard(peer)
            pool.leaving -= replica.leaving
            for id in replica.orphans:
                self._orphans.pop(id, None)
            self._ran(replica, len(replica.running) + len(replica.orphans))
            replica.running, replica.orphans = set(), set()
        return replica

    def serve(self, replica: Replica) -> None:
        """It can be given calls, so its function can be loaded."""
        pool = self.pools[replica.function]
        pool.failure, pool.failed_wait = None, 0.0
        pool.is_proven = True

    def refuse(self, replica: Replica) -> None:
        """It is shown, and asked what it holds, but gets no calls."""
        replica.served, replica.free = False, 0

    def leave(self, replica: Replica) -> None:
        """It takes no calls any more."""
        if not replica.leaving:
            replica.leaving = True
            self.pools[replica.function].leaving += 1
        replica.free = 0
        self.set_aside(replica)

    def set_aside(self, replica: Replica) -> None:
        """It gets no calls for now, until `offer`."""
        self.pools[replica.function].free.pop(replica.peer, None)

    def offer(self, replica: Replica) -> bool:
        """Put it among the free ones, if it has a place and isn't there. Whether it wasn't."""
        free = self.pools[replica.function].free
        if not replica.free or replica.peer in free:
            return False
        free[replica.peer] = replica
        return True

    def take_place(self, replica: Replica, id: str) -> None:
        """A call takes a place of it."""
        pool = self.pools[replica.function]
        replica.free -= 1
        replica.running.add(id)
        pool.inflight += 1
        if replica.free:
            pool.free.move_to_end(replica.peer)  # its next call waits its turn
        else:
            del pool.free[replica.peer]

    def run(self, replica: Replica, id: str) -> None:
        """It may be running this call."""
        if id not in replica.running:
            replica.running.add(id)
            self.pools[replica.function].inflight += 1

    def stop(self, replica: Replica, id: str) -> None:
        """It doesn't run this call, or not any more."""
        if id in replica.running:
            replica.running.remove(id)
            pool = self.pools[replica.function]
            pool.inflight -= 1
            if pool.rules.max_inflight is not None:
                self.unblocked.add(replica.function)

    def _ran(self, replica: Replica, calls: int) -> None:
        pool = self.pools[replica.function]
        pool.inflight -= calls
        if calls and pool.rules.max_inflight is not None:
            self.unblocked.add(replica.function)

    def vacate(self, replica: Replica) -> None:
        """A place of it is free again."""
        room = replica.free + len(replica.running) < replica.slots
        if room and replica.served and not replica.leaving:
            # Without room it was counted before: an outcome that it held is repeated.
            replica.free += 1
            self.pools[replica.function].free[replica.peer] = replica

    # Places that somebody else has

    def is_full(self, replica: Replica, now: float) -> None:
        """It has refused a call though it had a place as far as was known."""
        if replica.ready.once:
            return  # the one call of its life is somebody else's
        replica.free = 0
        self.set_aside(replica)
        if replica.is_resting:
            return  # calls that crossed with the first BUSY
        calm = now - replica.full_at > CALM_S
        replica.full_at = now
        self._rest(replica, REST_S if calm else min(2 * replica.rest_s, REST_MAX_S), now)

    def rested(self, now: float) -> Iterator[Replica]:
        """Those that have got back a place, to be tried."""
        while self._resting and self._resting[0][0] <= now:
            replica = heapq.heappop(self._resting)[2]
            if self._rows.get(replica.peer) is not replica or replica.leaving:
                continue
            replica.is_resting = False
            self.vacate(replica)
            if replica.free + len(replica.running) < replica.slots:
                self._rest(replica, replica.rest_s, now)
            yield replica
        self.rest_until = self._resting[0][0] if self._resting else float("inf")

    def _rest(self, replica: Replica, seconds: float, now: float) -> None:
        replica.is_resting, replica.rest_s = True, seconds
        heapq.heappush(self._resting, (now + seconds, next(self._order), replica))
        self.rest_until = self._resting[0][0]

    # Functions that can't be loaded

    def fail(self, failed: Failed, now: float) -> float:
        """A replica could not load its handler: how many seconds it is to wait.

        One step for all that fail in the same round, however many they are. The first one after
        others have loaded it is an accident, and no reason to tell callers that nobody can.
        """
        pool = self.pool(failed.function)
        if now >= pool.failed_until:
            pool.failed_wait = min(max(FAILED_S, 2 * pool.failed_wait), FAILED_MAX_S)
            pool.failed_until = now + pool.failed_wait
        if not pool.is_proven:
            pool.failure = failed
        pool.is_proven, pool.joined_at = False, now
        return pool.failed_until - now

    @staticmethod
    def standing_failure(pool: Pool, now: float) -> Failed | None:
        """Why nobody can serve this function; None if somebody can, or may soon."""
        if pool.replicas or now > pool.failed_until + FAILURE_S:
            return None
        return pool.failure

    # Orphans

    def hold(self, id: str, replica: Replica, now: float) -> None:
        """A replica has a call that nobody has asked for yet."""
        if id not in self._orphans:
            self._orphans[id] = (replica, now)
            replica.orphans.add(id)
            self.pools[replica.function].inflight += 1

    def holder(self, id: str) -> Replica | None:
        held = self._orphans.get(id)
        return held and held[0]

    def release(self, id: str) -> None:
        """Somebody has asked for it, or it is over."""
        held = self._orphans.pop(id, None)
        if held is not None:
            held[0].orphans.discard(id)
            self._ran(held[0], 1)

    def overdue_orphan(self, before: float) -> tuple[str, Replica] | None:
        """One that has been held since before then, and is released by this."""
        if not self._orphans:
            return None
        id, (replica, since) = next(iter(self._orphans.items()))
        if since >= before:
            return None
        self.release(id)
        return id, replica
