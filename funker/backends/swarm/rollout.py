"""Waiting until the replicas of a new version are up, or knowing why they won't be.

A replica may answer a call and leave between two looks. So a slot counts as up once a task of
the new version was seen running in it, or was seen done: nobody waits for all slots at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from funker.backends.base import DeployFailed, ImageMissing, NoNodeFits, Progress
from funker.backends.swarm.service import same
from funker.rpc.messages import Pong

Task = dict[str, Any]

#: Seconds for everything: a node may have to pull an image.
PATIENCE = 300.0
#: Seconds between looks at the tasks.
POLL = 0.2
#: Seconds for which the scheduler may find no node before it is believed: nodes come back.
_SCHEDULING = 3.0
#: Seconds for replicas that run to say that their handler is loaded.
_LOADING = 60.0
#: Seconds for replicas that run to be heard at all.
_HEARD = 15.0
#: Seconds for idle replicas to leave once they were told to.
_FAREWELL = 5.0
#: Ends of the new version's tasks, with none up, after which it is given up.
_ENDS = 3

_UP = ("running", "complete")
_ENDED = ("failed", "rejected")
_ALIVE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


@dataclass(slots=True)
class Rollout:
    """What was seen of the tasks of one version. Pure: `look` decides, others fetch and sleep."""

    name: str
    template: dict[str, Any]
    wanted: int
    started: float
    up: set[int] = field(default_factory=set)
    #: The IDs of all tasks of this version.
    tasks: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    #: Tasks that were over before we looked: of a deploy of the same version, long ago.
    _history: set[str] | None = None
    _no_node_since: float | None = None

    def look(self, tasks: Sequence[Task], now: float) -> bool:
        """Whether all slots have been up. Raises what the tasks tell: a `BackendError`."""
        new = [task for task in tasks if same(comparable(task["Spec"]), comparable(self.template))]
        self.tasks |= {task["ID"] for task in new}
        if self._history is None:
            self._history = {task["ID"] for task in new if state(task) not in _ALIVE}
        new = [task for task in new if task["ID"] not in self._history]
        for task in new:
            if state(task) in _UP:
                self.up.add(int(task.get("Slot") or 0))
            elif state(task) in _ENDED:
                self.ended[task["ID"]] = problem(task)
        if len(self.up) >= self.wanted:
            return True
        self._judge(new, now)
        return False

    def summary(self, tasks: Sequence[Task]) -> str:
        """One line for a person who waits."""
        new = [task for task in tasks if task["ID"] in self.tasks and state(task) not in _ENDED]
        slow = sorted({state(task) for task in new if state(task) not in _UP})
        more = f" ({', '.join(slow)})" if slow else ""
        return f"{self.name}: {min(len(self.up), self.wanted)} of {self.wanted} replicas up{more}"

    def _judge(self, new: Sequence[Task], now: float) -> None:
        for task in new:
            if state(task) == "rejected" and "No such image" in problem(task):
                raise ImageMissing(
                    f"a node has no image for {self.name}: {problem(task)}",
                    hint="Give a registry that all nodes reach: `--registry HOST[:PORT]`.",
                )
        stuck = [task for task in new if state(task) == "pending" and problem(task)]
        if stuck:
            since = self._no_node_since = (
                now if self._no_node_since is None else self._no_node_since
            )
            if now - since >= _SCHEDULING:
                raise _no_node(self.name, problem(stuck[0]))
        else:
            self._no_node_since = None
        if len(self.ended) >= _ENDS and not self.up:
            raise DeployFailed(
                f"the replicas of {self.name} end at once: {next(reversed(self.ended.values()))}",
                hint=f"See `funker logs {self.name}`.",
            )
        if now - self.started > PATIENCE:
            last = next(reversed(self.ended.values()), "")
            raise DeployFailed(
                f"only {len(self.up)} of {self.wanted} replicas of {self.name} came up in "
                f"{PATIENCE:g}s{': ' + last if last else ''}",
                hint=f"See `docker service ps --no-trunc {self.name}`.",
            )


def wait_for_tasks(
    rollout: Rollout, fetch: Callable[[], list[Task]], *, progress: Progress
) -> None:
    """Polls until all slots have been up. Raises a `BackendError`."""
    said = ""
    while True:
        tasks = fetch()
        done = rollout.look(tasks, time.monotonic())
        if (line := rollout.summary(tasks)) != said:
            progress(said := line)
        if done:
            return
        time.sleep(POLL)  # the swarm has no events of tasks


def wait_for_handler(
    rollout: Rollout,
    ping: Callable[[], Pong],
    fetch: Callable[[], list[Task]],
    *,
    progress: Progress,
) -> None:
    """Asks the new replicas until one has loaded its handler.

    Raises `DeployFailed` with the handler's traceback if it can't be loaded.
    """
    started = time.monotonic()
    progress(f"{rollout.name}: asking whether the handler is loaded")
    heard = False
    while rollout.wanted:  # else they are all gone by now, as they should be
        pong = ping()
        # Replicas of the version before may still be there: only the new ones' word counts.
        new = not pong.replica or pong.replica.rpartition(".")[2] in rollout.tasks
        if not new or pong.state == "absent":
            rollout.look(fetch(), time.monotonic())
        if not new:
            new = pong.replica.rpartition(".")[2] in rollout.tasks
        heard = heard or (new and pong.state != "absent")
        match pong.state:
            case "idle" | "busy" if new:
                return
            case "failed" if new:
                raise DeployFailed(
                    f"{rollout.name} can't load its handler: {pong.message}",
                    traceback=pong.traceback,
                )
        waited = time.monotonic() - started
        if waited > _LOADING or (waited > _HEARD and not heard):
            words = "is still loading its handler" if heard else "runs, but nobody in it listens"
            raise DeployFailed(
                f"{rollout.name} {words} after {waited:.0f}s",
                hint=f"See `funker logs {rollout.name}`.",
            )
        time.sleep(POLL)


def wait_for_others(rollout: Rollout, fetch: Callable[[], list[Task]]) -> None:
    """Polls until the replicas of other versions take no calls any more.

    They are told to leave when the new ones run, and an idle one is gone at once. One that has a
    call finishes it, which may take long, and takes no other.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        tasks, now = fetch(), time.monotonic()
        rollout.look(tasks, now)
        others = [task for task in tasks if task["ID"] not in rollout.tasks]
        others = [task for task in others if state(task) in _ALIVE]
        if all(task.get("DesiredState") not in ("running", "ready") for task in others):
            give_up = min(give_up, now + _FAREWELL)
        if not others or now > give_up:
            return
        time.sleep(POLL)


def comparable(template: dict[str, Any]) -> dict[str, Any]:
    """A task template without what doesn't tell versions apart.

    The engine says networks differently of tasks than of services. A change of placement alone
    leaves tasks as they are where their node still fits.
    """
    return {key: value for key, value in template.items() if key not in ("Networks", "Placement")}


def state(task: Task) -> str:
    """The task's state in the swarm's words."""
    return str((task.get("Status") or {}).get("State") or "")


def problem(task: Task) -> str:
    """The swarm's words for what is wrong with a task, or nothing."""
    return str((task.get("Status") or {}).get("Err") or "")


def _no_node(name: str, words: str) -> NoNodeFits:
    hint = "See `docker node ls`; a node may be down, drained or of another platform."
    if "insufficient resources" in words:
        hint = "Reserve less (`--reserve-memory`), or add nodes."
    elif "constraints" in words:
        hint = "See the function's `--constraint` and `docker node inspect NODE`."
    return NoNodeFits(f"the swarm finds no node for {name}: {words}", hint=hint)
