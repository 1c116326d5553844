"""What a replica says, in its own name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from funker.rpc.messages import Accept, Busy, Bye, Call, Error, Failed, Pong, Ready
from funker_runtime.events import ROUTER, Identity, LoadFailed, Send

#: Seconds for the peers that were told «idle» to acknowledge the BYE.
BYE_S = 0.3
#: Seconds after which a peer that was told «idle» won't call on the strength of it any more.
PROBE_S = 5.0
#: Peers of which it is remembered that they were told «idle», before the old ones are looked for.
MANY = 256


class Voice:
    """Makes its messages, and remembers who was told «idle»."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # When each was told: they may be about to call.
        self._told: dict[bytes, float] = {}
        self._heard_by = 0.0

    def accept(self, id: str) -> Accept:
        return Accept(id=id, replica=self.identity.replica)

    def busy(self, call: Call) -> Busy:
        return Busy(id=call.id, session=self.identity.session)

    def signed(self, error: Error) -> Error:
        return error.replace(function=self.identity.function, replica=self.identity.replica)

    def refusal(self, call: Call, code: str, message: str, traceback: str = "") -> Error:
        """Why a call certainly didn't start."""
        return self.signed(
            Error(id=call.id, code=code, message=message, traceback=traceback, retry_safe=True)
        )

    def ready(
        self, *, slots: int, free: int, held: tuple[str, ...], once: bool, residue: str
    ) -> Ready:
        identity = self.identity
        return Ready(
            function=identity.function,
            replica=identity.replica,
            node=identity.node,
            version=identity.version,
            session=identity.session,
            slots=slots,
            free=free,
            held=held,
            once=once,
            residue=residue,
        )

    def failed(self, failure: LoadFailed) -> Failed:
        identity = self.identity
        return Failed(
            function=identity.function,
            replica=identity.replica,
            version=identity.version,
            session=identity.session,
            message=failure.message,
            traceback=failure.traceback,
        )

    def pong(self, number: int, state: str, failure: LoadFailed | None = None) -> Pong:
        identity = self.identity
        return Pong(
            number=number,
            function=identity.function,
            names=identity.names,
            replica=identity.replica,
            session=identity.session,
            state=state,
            message=failure.message if failure else "",
            traceback=failure.traceback if failure else "",
        )

    # Who was told «idle», and has to hear that it is over

    def note_idle(self, peer: bytes, now: float) -> None:
        self._told[peer] = now
        if len(self._told) > MANY:
            self._forget_old(now)

    def forget(self, peer: bytes) -> None:
        """This peer knows, or is gone."""
        self._told.pop(peer, None)

    def bye(self, held: Iterable[str], now: float) -> list[Send]:
        """Tell all who were told «idle» that it is over, but for the calls in `held`."""
        self._forget_old(now)
        self._heard_by = now + BYE_S
        replica, session, held = self.identity.replica, self.identity.session, tuple(held)
        return [Send(peer, Bye(replica=replica, session=session, held=held)) for peer in self._told]

    def is_heard(self, now: float) -> bool:
        """Whether all have acknowledged the BYE, or had the time for it."""
        if now >= self._heard_by:
            self._told.clear()
        return not self._told

    def due(self) -> float:
        """When nobody's acknowledgement is waited for any more."""
        return self._heard_by if self._told else float("inf")

    def _forget_old(self, now: float) -> None:
        self._told = {
            peer: at for peer, at in self._told.items() if peer == ROUTER or now - at <= PROBE_S
        }
