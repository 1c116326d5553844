"""What the reconciler does and says about what it sees. Pure: observations in, commands out.

- A function of which replicas are missing for a while is revived: its backend starts those that
  nobody else will. Whether there are such, the backend knows; so one that isn't helped by it is
  asked for ever more rarely.
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

#: Seconds for which replicas are missing before something is done: each call of a one-shot
#: replica takes it away for a moment.
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
            is_expected = function.wanted == self._scaling.expects(function.name)
            said = self._scaling.see(function, now)
            commands += said
            commands += memory.changed(function, silently=bool(said) or is_expected)
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

    def _described(function: Observed) -> dict[str, Any]:
    calls = function.calls
    return {
        "names": list(function.names),
        "running": function.running,
        "image": function.image,
        "routed": function.routed,
        "problem": function.problem,
        "calls": {
            "idempotent": calls.idempotent,
            "retries": calls.retries,
            "backoff": calls.backoff,
            "max_inflight": calls.max_inflight,
        },
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
