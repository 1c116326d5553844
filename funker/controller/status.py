"""A function as the router sees it: what waits, who serves, and what is measured. Pure.

queued, queued_bytes    calls that wait for a replica, and their bytes
waiting_s               seconds that the first of them has waited; null: none does
inflight                calls that run, or may be running
free, busy, leaving     replicas by what they do
slots                   calls that each of them takes at a time
starting                replicas that shall be there and aren't
arrivals, arrivals_fast calls per second over the last 60 s and the last 6 s (`demand`: λ)
service_s, recycle_s    S and R in seconds; null: not measured yet
last_call_s             seconds since a call has come; null: none has
failing                 why its handler can't be loaded; null: it can, as far as is known
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funker.controller.demand import FAST_WINDOW, WINDOW
from funker.controller.queue import Budget, Queue
from funker.controller.tables import OpenCall, Pool, Replica, Rules


def about(pool: Pool, replicas: Sequence[Replica], now: float) -> dict[str, Any]:
    """What is known of a function by itself; `replicas` are the rows of its pool."""
    states = [replica.state(now) for replica in replicas]
    demand, first = pool.demand, pool.queue.first()
    return {
        "queued": len(pool.queue),
        "queued_bytes": pool.queue.size,
        "waiting_s": _rounded(now - first.queued_at) if first else None,
        "inflight": pool.inflight,
        "free": states.count("free"),
        "busy": states.count("busy"),
        "leaving": states.count("leaving"),
        "starting": pool.starting,
        "slots": pool.slots,
        "arrivals": _rounded(demand.rate(WINDOW, now)),
        "arrivals_fast": _rounded(demand.rate(FAST_WINDOW, now)),
        "service_s": _rounded(demand.service.value),
        "recycle_s": _rounded(demand.recycle.value),
        "last_call_s": None if demand.last_at is None else _rounded(now - demand.last_at),
        "failing": pool.failure.message if pool.failure else None,
    }


def others() -> dict[str, Any]:
    """The fields that are others' to fill: replicas, numbers of calls and errors, how it scales."""
    return {"calls": 0, "errors": 0, "scaling": None, "replicas": []}


def nothing(*, wanted: int = 0) -> dict[str, Any]:
    """The status of a function that nobody has called and that has no replica."""
    return {**_NOTHING, **others(), "starting": wanted}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


_empty: Queue[OpenCall] = Queue(limit=0, budget=Budget(0))
_NOTHING = about(Pool(_empty, rules=Rules(), wanted=0, since=0.0), (), 0.0)
