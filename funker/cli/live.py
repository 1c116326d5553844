"""What the controller knows of functions, and which of them have an outdated runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from funker.cli import terminal
from funker.rpc.errors import FunkerError
from funker.rpc.messages import PROTOCOL

if TYPE_CHECKING:
    from funker.backends.base import Backend, FunctionStatus

#: Characters of a reason in a table.
_REASON = 40
#: Seconds without a report after which the reconciler counts as silent: it reports every few.
_SILENCE = 30.0


class Live(NamedTuple):
    """One function, as the router and its image tell it."""

    #: The router's status of it (docs/protocol.md); None: it knows nothing, or there is none.
    status: Mapping[str, Any] | None = None
    #: Its runtime isn't the one that a build here and now would give it.
    outdated: bool = False

    @property
    def failing(self) -> str:
        """Why it can't serve calls, or nothing."""
        about = self.status or {}
        starved = about.get("wanted") and not about.get("running") and not about.get("replicas")
        return str(about.get("failing") or (about.get("problem") if starved else "") or "")

    @property
    def direct(self) -> bool:
        """Whether its calls go to it directly, though there is a router."""
        about = self.status or {}
        return about.get("routed") is False and not about.get("replicas")

    @property
    def saturated(self) -> str:
        """Why more replicas don't come though they are needed, with the remedy; or nothing."""
        return str(((self.status or {}).get("scaling") or {}).get("saturated") or "")

    def words(self, *, pinned: bool = False) -> str:
        """The column STATUS. `pinned`: to a number of replicas."""
        marks = []
        if self.failing:
            marks.append(f"failing: {_shortened(self.failing)}")
        if self.saturated:
            marks.append("saturated")
        if pinned:
            marks.append("pinned")
        if self.outdated:
            marks.append("outdated")
        if self.direct:
            marks.append("direct")
        return ", ".join(marks) or "ok"


def status(backend: Backend) -> dict[str, Any] | None:
    """All that the router knows; None where no controller is up, or it doesn't answer."""
    from funker.backends.base import NoController

    try:
        with backend.controller() as controller:
            found: dict[str, Any] = controller.query("status")
    except NoController:
        return None
    except FunkerError as error:  # what there is can be shown all the same
        terminal.warn(f"the controller doesn't answer: {error.message}")
        return None
    if words := _silence(found):
        terminal.warn(words)
    return found


def of(
    backend: Backend, functions: Sequence[FunctionStatus], status: Mapping[str, Any] | None
) -> list[Live]:
    """The live state of each function. Images are asked for only where no replica tells."""
    known = status["functions"] if status else {}
    seen: dict[str, str | None] = {}
    found = []
    for function in functions:
        about = known.get(function.name)
        old = told_outdated((about or {}).get("replicas", ()))
        if old is None:
            old = _has_old_image(backend, function.reference, seen)
        found.append(Live(about, old))
    return found


def told_outdated(replicas: Iterable[Mapping[str, Any]]) -> bool | None:
    """Whether a replica has an outdated runtime; None if none of them says."""
    from funker.spec.runtime import is_current

    replicas = list(replicas)
    if any(replica.get("protocol", PROTOCOL) < PROTOCOL for replica in replicas):
        return True
    versions = {replica["version"] for replica in replicas if replica.get("version")}
    return not all(map(is_current, versions)) if versions else None


def _has_old_image(backend: Backend, reference: str, seen: dict[str, str | None]) -> bool:
    if not reference:
        return False
    from funker.spec.runtime import is_current

    if reference not in seen:
        seen[reference] = backend.image_version(reference)
    version = seen[reference]
    return version is not None and not is_current(version)


def _silence(status: Mapping[str, Any]) -> str:
    """What to say if the reconciler hasn't told the router anything for long."""
    if "snapshot_age_s" not in status:
        return ""
    age = status["snapshot_age_s"]
    if age is None and status.get("uptime_s", 0) > _SILENCE:
        return "the reconciler has told the router nothing yet: `funker up` starts it again"
    if age is not None and age > _SILENCE:
        return f"the reconciler has been silent for {age:.0f}s: `funker up` starts it again"
    return ""


def _shortened(reason: str) -> str:
    line = " ".join(reason.splitlines()[0].split())
    return line if len(line) <= _REASON else f"{line[: _REASON - 1]}…"
