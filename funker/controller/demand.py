"""How much a function is called, and how long that takes: λ, S and R. Pure; O(1) for each call.

Little's law says that λ·(S+R) replicas are busy or away on average; so this is what a scaler wants
to know. Seconds on one monotonic clock; rates are calls per second.

    λ   arrivals ÷ window, over the last 60 s and over the last 6 s. A *sliding window counter* of
        buckets of 1 s: all whole seconds within the window, and of the second at its far end the
        share that is still inside. (The windows are the stable and the panic window of Knative's
        autoscaler.) A window that began before the measuring did is as long as that, and at
        least 6 s: a router that has just started doesn't halve the load.
    S   from a call's hand-out to its outcome
    R   from the outcome of a replica that takes one call in its life to READY of the next one in
        its place: NAME.SLOT of its name NAME.SLOT.TASK

    S and R are means with weights that fade: m = Σ xᵢ·e^(-(t-tᵢ)/30 s) ÷ Σ e^(-(t-tᵢ)/30 s).
    The mean age of what they tell is 30 s, as in a window of 60 s; but they also tell of a
    function that is called once an hour.

What is counted is attempts: a call that is tried again is work again.
"""

from __future__ import annotations

from collections import deque
from math import exp, floor

#: Seconds of the windows of λ.
WINDOW, FAST_WINDOW = 60, 6
#: Seconds after which a sample of S or R weighs 1/e of what it did.
FADE_S = 30.0
#: Seconds within which the next replica comes to a place, else it is another story: it was scaled
#: down and up again. And departures of a function that are remembered at most.
RECYCLE_MAX_S, DEPARTURES = 30.0, 10_000


class Rate:
    """Events per second over windows that end now."""

    __slots__ = ("_counts", "_second", "_since")

    def __init__(self, since: float) -> None:
        """`since` is when the measuring began."""
        self._since = since
        self._second = floor(since)
        # By second, modulo their number: those of a window, and the one that is half outside.
        self._counts = [0] * (WINDOW + 1)

    def note(self, now: float) -> None:
        """One has happened. Time never goes back."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        self._counts[second % (WINDOW + 1)] += 1

    def over(self, window: int, now: float) -> float:
        """Events per second in the last `window` seconds, at most `WINDOW`."""
        second = floor(now)
        self._advance(second)
        counts, size = self._counts, WINDOW + 1
        whole = sum(counts[(second - back) % size] for back in range(window))
        inside = 1 - (now - second)
        seen = whole + inside * counts[(second - window) % size]
        return seen / min(window, max(now - self._since, FAST_WINDOW))

    def _advance(self, second: int) -> None:
        for between in range(max(self._second + 1, second - WINDOW), second + 1):
            self._counts[between % (WINDOW + 1)] = 0
        self._second = max(second, self._second)


class Mean:
    """The mean of samples whose weights fade."""

    __slots__ = ("_at", "_sum", "_weight")

    def __init__(self) -> None:
        self._at = 0.0
        # Both as of `_at`. Between samples they fade alike, so that their ratio stays.
        self._sum = self._weight = 0.0

    def add(self, value: float, now: float) -> None:
        fading = exp((self._at - now) / FADE_S) if self._weight else 0.0
        self._sum = self._sum * fading + value
        self._weight = self._weight * fading + 1.0
        self._at = now

    @property
    def value(self) -> float | None:
        """None: there was no sample."""
        return self._sum / self._weight if self._weight else None


class Demand:
    """What is measured of one function."""

    __slots__ = ("_departures", "_places", "_rate", "last_at", "recycle", "service")

    def __init__(self, since: float) -> None:
        self._rate = Rate(since)
        #: When the last call came; None: none has.
        self.last_at: float | None = None
        #: S and R.
        self.service = Mean()
        self.recycle = Mean()
        # Replicas that are gone and not replaced yet: when, by place, and the places in order.
        self._places: dict[str, deque[float]] = {}
        self._departures: deque[tuple[float, str]] = deque()

    def arrived(self, now: float) -> None:
        """A call has come."""
        self.last_at = now
        self._rate.note(now)

    def rate(self, window: int, now: float) -> float:
        """λ over the last `window` seconds."""
        return self._rate.over(window, now)

    def departed(self, replica: str, now: float) -> None:
        """A replica has given the outcome of the one call of its life."""
        place = _place(replica)
        self._forget(now)
        self._departures.append((now, place))
        self._places.setdefault(place, deque()).append(now)

    def joined(self, replica: str, now: float) -> None:
        """A new replica has come, perhaps in the place of one that is gone."""
        self._forget(now)
        place = _place(replica)
        waiting = self._places.get(place)
        if waiting:
            self.recycle.add(now - waiting.popleft(), now)
            if not waiting:
                del self._places[place]

    def _forget(self, now: float) -> None:
        departures = self._departures
        while departures and (
            departures[0][0] < now - RECYCLE_MAX_S or len(departures) >= DEPARTURES
        ):
            at, place = departures.popleft()
            waiting = self._places.get(place)
            if waiting and waiting[0] <= at:
                waiting.popleft()
                if not waiting:
                    del self._places[place]


def _place(replica: str) -> str:
    """NAME.SLOT of NAME.SLOT.TASK. Names without dots have one place: first gone, first replaced"""
    return replica.rpartition(".")[0]
