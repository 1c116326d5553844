"""What the reconciler does and says about what it sees. Pure: observations in, commands out.

- A function that has too few or too many replicas for a while is revived: its backend starts
  those that nobody else will, and ends those that nobody else will. Whether there are such, the
  backend knows; so one that isn't helped by it is asked for ever more rarely.
- The number of replicas of a function that is scaled by itself is chosen in `scaling`.
- What changed is said once. A trouble that comes and goes is one trouble, until it was away for
  a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from funker.backends.base import Observed
from funker.controller.commands import Command, Revive, Say
from funker.controller.scaling import Scaling
from funker.spec import CallPolicy

#: Seconds for which replicas are missing, or too many, before something is done: each call of a
#: one-shot replica takes it away for a moment, and one that shall go may be busy.
PATIENCE = 2.0
#: Seconds between two tries to revive: at first, and at most. A try that helped is a first one.
RETRY, RETRY_MAX = 2.0, 60.0
#: Seconds without a trouble after which it is over, and would be news again.
STEADY = 10.0
#: Names of functions in one line.
_NAMES = 8


class Plan:
    """What was seen and said so far, and from it what is next."""

    def __init__(self) -> None:
        self._functions: dict[str, _Function] = {}
        self._scaling = Scaling()
        self._started = False
        self._epoch = ""

    @property
    def is_short(self) -> bool:
        """Whether calls wait for replicas of a function that is scaled by itself."""
        return self._scaling.is_short

    def see(self, observed: Sequence[Observed], now: float) -> list[Command]:
        """What has changed, and what replicas to start. `now`: seconds on a clock without jumps."""
        commands: list[Command] = []
        known = self._functions
        names = {function.name for function in observed}
        if not self._started:
            commands.append(Say(f"sees {_listed(sorted(names))}"))
        for name in sorted(known.keys() - names):
            del known[name]
            self._scaling.forget(name)
            commands.append(Say(f"{name} is gone"))
        for function in observed:
            if (memory := known.get(function.name)) is None:
                memory = known[function.name] = _Function(function)
                if self._started:
                    commands.append(Say(f"{function.name} is new: {_replicas(function)}"))
            before = self._scaling.expects(function.name)
            commands += self._scaling.see(function, now)
            after = self._scaling.expects(function.name)
            # What we have set, and what will be set back, is said there.
            silently = before == function.wanted or after not in (None, function.wanted)
            commands += memory.changed(function, silently=silently)
            if memory.is_to_be_revived(function, now):
                commands.append(Revive(function.name))
        self._started = True
        return commands

    def hear(self, status: Mapping[str, Any] | None, now: float) -> list[Command]:
        """What to do after the router has answered a snapshot, or hasn't (None)."""
        commands = self._router(status, now)
        about = (status or {}).get("functions") or {}
        for name, memory in self._functions.items():
            trouble = self._scaling.trouble(name)
            commands += memory.troubled(about.get(name) or {}, trouble, now)
        return commands + self._scaling.hear(about, now) if status else commands

    def demanded(self, about: Mapping[str, Mapping[str, Any]], now: float) -> list[Command]:
        """What to do when calls wait for replicas that nobody has started yet."""
        return self._scaling.hear(about, now)

    def scaled(self, name: str, replicas: int, now: float) -> None:
        """The number was set as it was said."""
        self._scaling.done(name, replicas, now)

    def not_scaled(self, name: str, why: str, now: float) -> None:
        """Setting it was refused. That is said if the function is still there at the next look."""
        self._scaling.failed(name, why, now)

    def snapshot(self, now: float, unix: float) -> bytes:
        """The functions for the router: the body of SNAPSHOT. `unix` is the wall clock."""
        functions = {
            name: {
                **_described(memory.seen),
                "wanted": self._scaling.number(name),
                "problem": memory.seen.problem or self._scaling.trouble(name),
                "scaling": self._scaling.told(name, now, unix),
            }
            for name, memory in self._functions.items()
        }
        return json.dumps({"functions": functions}).encode()

    def revived(self, name: str) -> list[Command]:
        """Replicas were started that nobody else would have started: said once of a function."""
        memory = self._functions[name]
        if memory.was_revived:
            return []
        memory.was_revived = True
        return [
            Say(
                f"{name}: started replicas that had ended for good; its restart policy should be "
                "`any`, without a limit of attempts"
            )
        ]

    def not_revived(self, name: str, why: str) -> list[Command]:
        """Starting them was refused."""
        text = f"its replicas can't be started: {why}"
        told = self._functions[name].told
        if text in told:
            return []
        told.add(text)
        return [Say(f"{name}: {text}")]

    def _router(self, status: Mapping[str, Any] | None, now: float) -> list[Command]:
        epoch = str((status or {}).get("epoch") or self._epoch)
        before, self._epoch = self._epoch, epoch
        if before and epoch != before:
            self._scaling.router_is_new(now)
            return [Say(f"the router has restarted (epoch {epoch})")]
        return []


@dataclass(slots=True)
class _Function:
    """What is remembered of one function."""

    seen: Observed
    #: Since when replicas are missing or too many; when it was last tried, how many those were
    #: then, and how long to wait for the next try.
    wrong_since: float | None = None
    too_many: bool = False
    last_try: float | None = None
    wrong_then: int = 0
    delay: float = RETRY
    was_revived: bool = False
    #: The troubles that were told, and when one of them was last seen.
    told: set[str] = field(default_factory=set)
    last_trouble: float = 0.0

    def changed(self, function: Observed, *, silently: bool) -> list[Command]:
        """What somebody has changed; `silently`: but for the number of replicas."""
        before, self.seen = self.seen, function
        changes = []
        if (function.scale, function.pinned) != (before.scale, before.pinned):
            changes.append(_scaled(function))
        if function.calls != before.calls:
            changes.append(_called(function.calls))
        if function.wanted != before.wanted and not silently:
            changes.append(f"{_replicas(function)} (were {before.wanted})")
        if function.image != before.image:
            changes.append(f"its image is {function.image}")
        if function.routed and not before.routed:
            changes.append("its replicas can join the router now")
        return [Say(f"{function.name}: {change}") for change in changes]

    def troubled(self, status: Mapping[str, Any], trouble: str, now: float) -> list[Command]:
        """What is wrong and wasn't told yet; what is right again. `trouble` is one more."""
        function = self.seen
        troubles = [each for each in (function.problem, trouble) if each]
        if not function.routed:
            troubles.append("its replicas can't join the router: they lack its key or its network")
        if failing := status.get("failing"):
            troubles.append(f"its handler can't be loaded: {failing}")
        if troubles:
            self.last_trouble = now
        elif self.told and now - self.last_trouble >= STEADY:
            self.told.clear()
            return [Say(f"{function.name}: all is well again")]
        news = [trouble for trouble in troubles if trouble not in self.told]
        self.told.update(news)
        return [Say(f"{function.name}: {trouble}") for trouble in news]

    def is_to_be_revived(self, function: Observed, now: float) -> bool:
        wrong = abs(function.wanted - function.running)
        too_many = function.running > function.wanted
        if not wrong or (too_many and function.updating):  # the new ones run beside the old ones
            self.wrong_since = self.last_try = None
            return False
        if self.wrong_since is None or too_many != self.too_many:
            self.wrong_since, self.last_try, self.too_many = now, None, too_many
        if now - self.wrong_since < PATIENCE:
            return False
        helped = self.last_try is None or wrong < self.wrong_then
        if self.last_try is not None and now < self.last_try + (RETRY if helped else self.delay):
            return False
        self.delay = RETRY if helped else min(self.delay * 2, RETRY_MAX)
        self.last_try, self.wrong_then = now, wrong
        return True


def _described(function: Observed) -> dict[str, Any]:
    return {
        "names": list(function.names),
        "running": function.running,
        "image": function.image,
        "routed": function.routed,
        "problem": function.problem,
        "calls": function.calls.model_dump(),
    }


def _scaled(function: Observed) -> str:
    policy = function.scale
    if policy is None:
        return "it has a fixed number of replicas"
    if function.pinned:
        return f"it is pinned at {function.wanted}"
    idle = f", to zero after {policy.idle:g} s" if not policy.min else ""
    return (
        f"it is scaled by itself, from {policy.min} to {policy.max}{idle}, with a headroom of "
        f"{policy.headroom:g}"
    )


def _called(policy: CallPolicy) -> str:
    kind = "idempotent" if policy.idempotent else "not idempotent"
    most = f", at most {policy.max_inflight} at once" if policy.max_inflight else ""
    return f"its calls are {kind}, retries {policy.retries} after {policy.backoff:g} s{most}"


def _replicas(function: Observed) -> str:
    return f"{function.wanted} replica{'' if function.wanted == 1 else 's'} wanted"


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "no functions"
    number = f"{len(names)} function{'' if len(names) == 1 else 's'}"
    more = ", ..." if len(names) > _NAMES else ""
    return f"{number}: {', '.join(names[:_NAMES])}{more}"
