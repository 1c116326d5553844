"""A function's waiting calls: first in, first out, bounded. Pure; every operation is O(1).

The bytes that may wait are shared by all queues, fairly: a queue may have as many as are left. So
one alone has half of them, and for another there is always room. (Dynamic queue length thresholds
of Choudhury and Hahne, with a factor of 1.)
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Budget:
    """Bytes that all queues of a router share: calls wait in its memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class QueueFullError(Exception):
    """Raised when a queue can't take one more. It says which bound it is at, and what helps."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Queue(Generic[Item]):
    """Waiting items by id, in order. `limit` is their number; `budget` bounds their bytes."""

    def __init__(self, *, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._items: OrderedDict[str, tuple[Item, int]] = OrderedDict()
        #: Bytes that wait here.
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, id: str) -> bool:
        return id in self._items

    def push(self, id: str, item: Item, size: int) -> None:
        """Join the end. Raises `QueueFullError`."""
        if len(self._items) >= self._limit:
            raise QueueFullError(
                f"{len(self._items)} calls are waiting, the limit",
                "call more slowly, let it have more replicas (`funker scale`), or let more wait "
                "(FUNKER_QUEUE_LIMIT of the router)",
            )
        left = self._budget.limit - self._budget.used
        if self.size + size > left:
            raise QueueFullError(
                f"its waiting calls would have {_mib(self.size + size)}, and {_mib(left)} are left "
                f"of {_mib(self._budget.limit)} for those of all functions",
                "call more slowly, send less with each call, let it have more replicas "
                "(`funker scale`), or let more wait (FUNKER_QUEUE_BYTES of the router)",
            )
        self._items[id] = (item, size)
        self._account(size)

    def push_back(self, id: str, item: Item, size: int) -> None:
        """Join the end from another queue, where the bounds were held."""
        self._items[id] = (item, size)
        self._account(size)

    def push_front(self, id: str, item: Item, size: int) -> None:
        """Go back to the head: it has waited already, so the bounds don't hold."""
        self._items[id] = (item, size)
        self._items.move_to_end(id, last=False)
        self._account(size)

    def first(self) -> Item | None:
        """The longest waiting item; None if there is none."""
        return next(iter(self._items.values()))[0] if self._items else None

    def pop(self) -> Item | None:
        """The longest waiting item, taken out; None if there is none."""
        if not self._items:
            return None
        _, (item, size) = self._items.popitem(last=False)
        self._account(-size)
        return item

    def remove(self, id: str) -> bool:
        """Take one out wherever it stands. False if it isn't there."""
        found = self._items.pop(id, None)
        if found is None:
            return False
        self._account(-found[1])
        return True

    def _account(self, size: int) -> None:
        self.size += size
        self._budget.used += size


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.3g} MiB"
