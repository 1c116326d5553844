"""Who serves: the replicas, by function, and what they hold that nobody has asked for. Pure.

- A replica is in its pool's `free` only if it has a free place; the longest idle one is first.
- A replica that leaves gets no place back, and is forgotten with its last call.
- Orphans are calls that a replica has and whose caller hasn't come yet. Each has one holder.
- Pools exist for functions that somebody serves, waits for, or has told of.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator

from funker.controller.queue import Budget, Queue
from funker.controller.tables import Limits, OpenCall, Pool, Replica
from funker.rpc.messages import Failed, Ready

#: Seconds that a replica whose handler can't be loaded is told to wait: at first, and at most.
FAILED_S, FAILED_MAX_S = 5.0, 60.0
#: Seconds past that wait for which the failure still stands: the time to start and load.
FAILURE_S = 10.0


class Replicas:
    """The rows of replicas by routing id, their pools by function, and orphans by id."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
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
            pool = self.pools[function] = Pool(queue)
        return pool

    def drop_empty(self, known: Container[str]) -> None:
        """Forget the pools that nobody serves, waits for, or knows the function of."""
        for function, pool in list(self.pools.items()):
            if pool.joined_at is None and not pool.queue and function not in known:
                del self.pools[function]

    # Coming and going

    def join(self, peer: bytes, ready: Ready, now: float) -> Replica:
        """A new row for a replica that has said READY."""
        self.forget(peer)
        replica = self._rows[peer] = Replica(peer, ready, now)
        pool = self.pool(ready.function)
        pool.replicas.add(peer)
        pool.joined_at = now
        return replica

    def forget(self, peer: bytes) -> None:
        """Its row and its orphans. The calls that were with it are another's business."""
        replica = self._rows.pop(peer, None)
        if replica is not None:
            pool = self.pools[replica.function]
            pool.free.pop(peer, None)
            pool.replicas.discard(peer)
            for id in replica.orphans:
                self._orphans.pop(id, None)

    def serve(self, replica: Replica) -> None:
        """It can be given calls, so its function can be loaded."""
        pool = self.pools[replica.function]
        pool.failure, pool.failed_wait = None, 0.0

    def refuse(self, replica: Replica) -> None:
        """It is shown, and asked what it holds, but gets no calls."""
        replica.served, replica.free = False, 0

    def leave(self, replica: Replica) -> None:
        """It takes no calls any more."""
        replica.leaving, replica.free = True, 0
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

    def take_place(self, replica: Replica) -> None:
        """A place of it is taken."""
        replica.free -= 1
        if not replica.free:
            self.set_aside(replica)

    def vacate(self, replica: Replica) -> None:
        """A place of it is free again."""
        if replica.served and not replica.leaving:
            replica.free += 1
            self.pools[replica.function].free[replica.peer] = replica

    # Functions that can't be loaded

    def fail(self, failed: Failed, now: float) -> float:
        """A replica could not load its handler: how many seconds it is to wait.

        One step for all that fail in the same round, however many they are.
        """
        pool = self.pool(failed.function)
        if now >= pool.failed_until:
            pool.failed_wait = min(max(FAILED_S, 2 * pool.failed_wait), FAILED_MAX_S)
            pool.failed_until = now + pool.failed_wait
        pool.failure, pool.joined_at = failed, now
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

    def holder(self, id: str) -> Replica | None:
        held = self._orphans.get(id)
        return held and held[0]

    def release(self, id: str) -> None:
        """Somebody has asked for it, or it is over."""
        held = self._orphans.pop(id, None)
        if held is not None:
            held[0].orphans.discard(id)

    def overdue_orphan(self, before: float) -> tuple[str, Replica] | None:
        """One that has been held since before then, and is released by this."""
        if not self._orphans:
            return None
        id, (replica, since) = next(iter(self._orphans.items()))
        if since >= before:
            return None
        self.release(id)
        return id, replica
