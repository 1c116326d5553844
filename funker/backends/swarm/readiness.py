"""Waiting until the controller is at work, or knowing why it won't be."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from funker.backends.base import (
    BackendError,
    ControllerFailed,
    DeployFailed,
    ImageMissing,
    Progress,
)
from funker.backends.swarm import parts, rollout, servicelog
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.backends.swarm.store import Store
from funker.rpc.errors import FunkerError

#: Seconds for the router to answer, and for the reconciler to tell it what there is.
_PATIENCE = 60.0
#: Ends of a part's containers after which it is given up.
_ENDS = 3
#: How updates end, well or badly.
_SETTLED = ("completed", "paused", "rollback_completed", "rollback_paused")
#: Lines of a part's output that an error shows.
_TAIL = 20

_GOES_ON = "`funker up` again goes on from here; `funker down` removes what there is."


@dataclass(frozen=True, slots=True)
class _Watched:
    service: Service
    rollout: rollout.Rollout


def wait(
    engine: Engine, restarting: Collection[str], status: Callable[[], Any], progress: Progress
) -> None:
    """Until all parts run, the router answers, and the reconciler has told it what there is.

    `status` asks the router, or raises a `FunkerError`. `restarting` has the names of services
    that were changed so that the swarm starts them anew. Raises `ImageMissing`, `NoNodeFits`, or
    `ControllerFailed` with what a part has written.
    """
    watched = {
        parts.part(service): _started(engine, service, progress)
        for service in parts.services(engine)
    }
    progress("waiting for the router's answer")
    give_up = time.monotonic() + _PATIENCE
    while True:
        known = None if _under_way(engine, restarting) else _asked(status)
        if known is not None and known["snapshot_age_s"] is not None:
            return
        for part in watched.values():
            part.rollout.look(Store(engine).tasks(part.service), time.monotonic())
            if len(part.rollout.ended) >= _ENDS:
                raise _failed(engine, part.service, "ends again and again")
        if time.monotonic() > give_up:
            if known is None:
                raise _failed(engine, watched["router"].service, "runs, but doesn't answer")
            raise _failed(engine, watched["reconciler"].service, "tells the router nothing")
        time.sleep(rollout.POLL)


def _asked(status: Callable[[], Any]) -> Any:
    """What the router knows; None while nobody answers for it."""
    try:
        return status()
    except FunkerError:
        return None


def _started(engine: Engine, service: Service, progress: Progress) -> _Watched:
    """Waits until one task of the service has been up."""
    watched = rollout.Rollout(
        name=service["Spec"]["Name"],
        template=service["Spec"]["TaskTemplate"],
        wanted=1,
        started=time.monotonic(),
    )
    try:
        fetch = functools.partial(Store(engine).tasks, service)
        rollout.wait_for_tasks(watched, fetch, progress=progress)
    except DeployFailed as error:
        raise _failed(engine, service, "doesn't come up", error.message) from error
    except ImageMissing as error:
        error.hint = f"{error.hint} {_GOES_ON}"
        raise
    except BackendError as error:
        error.hint = f"See `docker node ls` and the constraints in FUNKER_PLACEMENT. {_GOES_ON}"
        raise
    return _Watched(service, watched)


def _under_way(engine: Engine, names: Collection[str]) -> bool:
    """Whether the swarm has yet to replace containers of these services.

    An update's state is none from the moment of the change until the swarm has begun with it.
    """
    states = [
        str((service.get("UpdateStatus") or {}).get("State") or "")
        for service in parts.services(engine)
        if service["Spec"]["Name"] in names
    ]
    return any(state not in _SETTLED for state in states)


def _failed(engine: Engine, service: Service, problem: str, details: str = "") -> ControllerFailed:
    name = service["Spec"]["Name"]
    return ControllerFailed(
        f"{name} {problem}{': ' + details if details else ''}",
        hint=f"See `docker service ps --no-trunc {name}`. {_GOES_ON}",
        output_tail=servicelog.tail(engine, service, _TAIL),
    )
