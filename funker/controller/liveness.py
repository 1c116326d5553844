"""Whether a peer is there: by what it says, and by whether it can be reached. Pure.

- Silence makes a replica suspect first, then whoever it is is asked, then lost.
- A connection that is gone shows at a send. Its peer may come back, for a moment.
- Whoever is heard is there, whatever was thought of it before.
"""

from __future__ import annotations

#: Seconds of silence after which a replica gets no new call.
SUSPECT_S = 1.5
#: Seconds of silence after which a peer is lost.
LOST_S = 10.0
#: Seconds of silence after which a peer is asked whether it is there: if its connection is gone,
#: that is how it shows.
PROBE_S = 1.0
#: Seconds for a peer whose connection is gone to come back.
RETURN_S = 1.5
#: Seconds between looks at who has been silent.
SWEEP_S = 0.25


class Peer:
    """Somebody at the other end, by the routing id that it chose and keeps over reconnects."""

    __slots__ = ("gone_at", "heard_at", "peer")

    def __init__(self, peer: bytes, now: float) -> None:
        self.peer = peer
        self.heard_at = now
        #: When its connection was found to be gone; None: it isn't.
        self.gone_at: float | None = None

    def unreachable(self, now: float) -> None:
        if self.gone_at is None:
            self.gone_at = now

    def is_suspect(self, now: float) -> bool:
        return self.gone_at is not None or now - self.heard_at > SUSPECT_S

    def is_lost(self, now: float) -> bool:
        if self.gone_at is not None:
            return now - self.gone_at > RETURN_S
        return now - self.heard_at > LOST_S

    def is_to_be_asked(self, now: float) -> bool:
        """Once for each `PROBE_S` of silence, if looked at each `SWEEP_S`."""
        silent = now - self.heard_at
        return self.gone_at is None and silent // PROBE_S > max(0, silent - SWEEP_S) // PROBE_S
