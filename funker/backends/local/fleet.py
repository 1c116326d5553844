"""What the reconciler sees of the local backend and may do to it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping

from funker.backends.base import NoController, Observed
from funker.backends.local import control
from funker.backends.local.state import Record, StateDirectory
from funker.rpc.errors import FunctionNotFound

#: Seconds before an agent that didn't answer is asked again.
_RETRY_S = 0.5


def open_fleet(environ: Mapping[str, str]) -> LocalFleet:
    """The fleet of the state directory that the environment names."""
    return LocalFleet(StateDirectory.of(environ))


class LocalFleet:
    """`base.Fleet` over a state directory and its agent."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._edition = -1

    def observe(self) -> list[Observed]:
        """All functions, sorted by name. Raises `StateUnusable` or `NoController`."""
        status = control.ask(self._state, "status")
        self._edition = status["edition"]
        return [
            Observed(
                name=name,
                names=(name,),
                wanted=record.replicas,
                running=status["functions"].get(name, {}).get("running", 0),
                image=record.spec.get("image_name", ""),
                problem=problem(status, name),
                scale=record.scale,
                pinned=record.pinned,
                calls=record.calls,
                isolation=record.isolation,
                cores=len(os.sched_getaffinity(0)),
            )
            for name, record in self._state.records().items()
        ]

    def wait(self, seconds: float) -> None:
        """Until the agent has news, at the latest after so many seconds."""
        started = time.monotonic()
        try:
            control.ask(self._state, "wait", of="edition", since=self._edition, seconds=seconds)
        except NoController:  # it is about to be gone, and this process with it
            left = seconds - (time.monotonic() - started)
            time.sleep(min(max(left, 0.0), _RETRY_S))

    def scale(self, name: str, replicas: int) -> None:
        """Raises `FunctionNotFound` or `StateUnusable`."""

        def choose(record: Record) -> Record:
            return record.scaled(replicas) if record.autoscaled else record

        change(self._state, name, choose)

    def revive(self, name: str) -> bool:  # noqa: ARG002 - the protocol's
        """Nothing to do: the agent starts whatever shall run, however often it has failed."""
        return False

    def close(self) -> None:
        """Nothing is held."""


def change(state: StateDirectory, name: str, how: Callable[[Record], Record]) -> None:
    """Writes the changed record of a function, and tells the agent if there is one."""
    with state.changing():
        record = state.record(name)
        if record is None:
            raise FunctionNotFound(f'no function "{name}"', function=name)
        changed = how(record)
        if changed == record:
            return
        state.put(dataclasses.replace(changed, updated=time.time()))
    tell(state)


def tell(state: StateDirectory, *, retry: str = "") -> None:
    """Has the agent look at what was written; without one, the next will.

    `retry` is a function that shall be tried at once, if it has failed.
    """
    try:
        control.ask(state, "look", retry=retry)
    except NoController:
        return


def problem(status: control.Status, name: str) -> str:
    """Why replicas are missing, in a line."""
    failure = status["functions"].get(name, {}).get("failure")
    return failure["message"].partition("\n")[0] if failure else ""
