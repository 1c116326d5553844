"""The slots of a service: which of its replicas live, and why others don't. Pure.

A slot holds one replica after another: each of the service's tasks belongs to one. The swarm puts
a new task into a slot whose last one has ended, unless the restart policy forbids that. Then the
slot is dead: it counts as filled, and nobody fills it.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from funker.backends.swarm import rollout
from funker.backends.swarm.rollout import Task

#: What the swarm wants of tasks that it has given up.
_GIVEN_UP = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


def wanted(spec: dict[str, Any]) -> int | None:
    """How many replicas a service's spec asks for; None: it isn't asked for a number."""
    replicated = spec["Mode"].get("Replicated")
    return None if replicated is None else int(replicated.get("Replicas") or 0)


def dead(spec: dict[str, Any], tasks: Sequence[Task]) -> int:
    """How many of the replicas that shall run neither live nor will be started."""
    return max(0, (wanted(spec) or 0) - len(live(tasks)))


def surplus(spec: dict[str, Any], tasks: Sequence[Task]) -> int:
    """How many slots live, and are meant to, beyond those that the spec asks for."""
    number = wanted(spec)
    return 0 if number is None else max(0, len(live(tasks)) - number)


def live(tasks: Sequence[Task]) -> set[str]:
    """The slots with a task that runs, or that the swarm is going to start."""
    return {_slot(task) for task in tasks if task.get("DesiredState") not in _GIVEN_UP}


def leaving(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that were told to go and haven't gone yet."""
    return [
        task
        for task in tasks
        if task.get("DesiredState") in _GIVEN_UP and rollout.state(task) not in _GIVEN_UP
    ]


def why_missing(spec: dict[str, Any], tasks: Sequence[Task]) -> str:
    """The swarm's words for why not all replicas run, or nothing: then they are starting."""
    newest: dict[str, Task] = {}
    for task in sorted(tasks, key=lambda task: str(task["CreatedAt"])):
        newest[_slot(task)] = task
    for task in newest.values():
        if rollout.state(task) == "pending" and rollout.problem(task):
            return rollout.problem(task)
    last = _last_end(tasks)
    if number := dead(spec, tasks):
        verb = "replica has" if number == 1 else "replicas have"
        return f"{number} {verb} ended, and the restart policy starts none{last}"
    return why_ending(tasks)


def why_ending(tasks: Sequence[Task]) -> str:
    """The swarm's words for why replicas end by themselves, again and again; or nothing."""
    slots = {_slot(task) for task in tasks}
    running = {_slot(task) for task in tasks if rollout.state(task) == "running"}
    last = _last_end(tasks)
    return f"replicas end{last}" if last and running < slots else ""


def _last_end(tasks: Sequence[Task]) -> str:
    """ ": " and what most of those that failed have failed of; empty if none has."""
    ends = collections.Counter(
        rollout.problem(task)
        for task in tasks
        if rollout.state(task) in ("failed", "rejected") and rollout.problem(task)
    )
    return f": {ends.most_common(1)[0][0]}" if ends else ""


def _slot(task: Task) -> str:
    return str(task.get("Slot") or task.get("NodeID") or "")
