"""Who calls, and until when their calls may be handed out. Pure.

- A caller stands with this router while it echoes its PONGs: until `DISPATCH_S` after the PONG
  was *sent* whose stamp it has echoed. A caller resends to another router at the earliest 2 s
  after receiving that PONG, so that two routers never run one call.
- One that speaks without standing may come from another router, and for `BACK_S` from then on
  what it resends may have been handed out there.
"""

from __future__ import annotations

from collections.abc import Iterator

from funker.controller.tables import Caller

#: Seconds after sending a PONG for which its caller's calls may be handed out.
DISPATCH_S = 1.5
#: Seconds past the end of its standing after which a caller may have been with another router,
#: and seconds for which it, back again, may resend what the other was given.
AWAY_S, BACK_S = 0.5, 4.0
#: PONGs whose echo is waited for.
PONGS = 8


class Callers:
    """The rows of callers, by routing id."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Caller] = {}

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Caller]:
        return iter(list(self._rows.values()))

    def get(self, peer: bytes) -> Caller | None:
        return self._rows.get(peer)

    def meet(self, peer: bytes, now: float) -> Caller:
        """The row of a caller, made if it is new."""
        caller = self._rows.get(peer)
        if caller is None:
            caller = self._rows[peer] = Caller(peer, now)
        return caller

    def forget(self, caller: Caller) -> None:
        del self._rows[caller.peer]


def note_heard(caller: Caller, now: float) -> None:
    """It has said something."""
    caller.heard_at, caller.gone_at = now, None
    if now >= caller.valid_until + AWAY_S:
        caller.astray_at = now


def note_echo(caller: Caller, stamp: int) -> bool:
    """It has received the PONG with this stamp. False if it was sent none like that lately."""
    sent_at = caller.pongs.get(stamp)
    if sent_at is None:
        return False
    caller.valid_until = max(caller.valid_until, sent_at + DISPATCH_S)
    return True


def note_pong(caller: Caller, stamp: int, now: float) -> None:
    """It is sent the PONG with this stamp."""
    caller.pongs[stamp] = now
    if len(caller.pongs) > PONGS:
        caller.pongs.popitem(last=False)


def stands(caller: Caller, now: float) -> bool:
    """Whether its calls may be handed out."""
    return caller.valid_until > now and caller.gone_at is None


def may_be_elsewhere(caller: Caller, now: float) -> bool:
    """Whether another router may have handed out what this caller resends."""
    return now < caller.astray_at + BACK_S
