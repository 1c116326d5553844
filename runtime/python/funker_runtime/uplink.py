"""A replica's standing with its router: whether it is there, which one, when it is asked. Pure."""

from __future__ import annotations

from funker.rpc.messages import Ping, Pong
from funker_runtime.events import ROUTER, Action, Relink, Send
from funker_runtime.slot import BEAT_S, NEVER

#: Seconds without a word from the router after which its name is looked up and dialled anew.
SILENCE_S = 2.0


class Uplink:
    def __init__(self) -> None:
        self.is_up = False
        # Changes when the router restarts.
        self._epoch = ""
        self._stamp = 0
        self._heard_at = 0.0
        self._ping_at = 0.0

    def stand(self, now: float) -> None:
        """A connection stands."""
        self.is_up, self._heard_at = True, now

    def break_off(self) -> None:
        self.is_up = False

    def note_heard(self, now: float) -> None:
        self._heard_at = now

    def note_pong(self, pong: Pong) -> bool:
        """Whether this router has to be told who is here: it has restarted, or has lost us."""
        anew = not pong.known or self._epoch not in ("", pong.epoch)
        self._epoch, self._stamp = pong.epoch, pong.stamp
        return anew

    def ping(self, now: float) -> list[Action]:
        self._ping_at = now + BEAT_S
        return [Send(ROUTER, Ping(number=0, echo=self._stamp))]

    def due(self) -> float:
        return self._ping_at if self.is_up else NEVER

    def on_time(self, now: float) -> list[Action]:
        if not self.is_up:
            return []
        if now >= self._heard_at + SILENCE_S:
            self.is_up = False
            return [Relink()]
        return self.ping(now) if now >= self._ping_at else []
