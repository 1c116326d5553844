"""The swarm's services: read, created, updated on their newest version, removed for good."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from typing import Any

import docker.errors

from funker.backends import names, policies
from funker.backends.base import BackendError, NameTaken, NoPolicy, Progress
from funker.backends.swarm import overlay, report, rollout, slots
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.spec import FUNCTION_LABEL

#: Times that an update is tried again when somebody else changed the service meanwhile.
_UPDATES = 5
#: Seconds beyond the grace period for the swarm to notice that a removed replica has gone.
_REMOVAL = 30.0
#: Seconds for the swarm to tell replicas to go, before it is reminded.
_PRESS = 2.0
#: States of an update in which the tasks are its own matter, or its user's.
_UPDATING = ("updating", "paused", "rollback_started", "rollback_paused")
#: States of a task whose container has ended, or never was.
_OVER = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


class Store:
    """The services of the swarm that an engine manages."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def functions(self) -> list[Service]:
        """All services that are functions, with the counts of their tasks."""
        with self._engine.errors():
            services: list[Service] = self._engine.api.services(
                filters={"label": FUNCTION_LABEL}, status=True
            )
        return [service for service in services if report.is_function(service)]

    def function(self, name: str) -> Service:
        """What a full or short name means. Raises `FunctionNotFound` or `AmbiguousFunction`."""
        services = {service["Spec"]["Name"]: service for service in self.functions()}
        stacks = {full: report.stack(service) for full, service in services.items()}
        return services[names.choose(name, stacks)]

    def named(self, name: str) -> Service | None:
        """The service of exactly this name, function or not. (The API also finds by ID.)"""
        with self._engine.errors():
            found: list[Service] = self._engine.api.services(filters={"name": name})
        return next((service for service in found if service["Spec"]["Name"] == name), None)

    def existing(self, name: str) -> Service:
        """The service of exactly this name, which was there a moment ago."""
        service = self.named(name)
        if service is None:
            raise BackendError(f"the service {name} was removed meanwhile", hint="Deploy again.")
        return service

    def tasks(self, service: Service) -> list[rollout.Task]:
        """All its tasks that the swarm remembers."""
        tasks: list[rollout.Task] = self._engine.api.tasks(filters={"service": service["ID"]})
        return tasks

    def create(self, wanted: dict[str, Any]) -> None:
        """Creates a service. Raises `NameTaken` if there is one of its name by now."""
        try:
            self._engine.api.create_service(
                wanted["TaskTemplate"],
                name=wanted["Name"],
                labels=wanted["Labels"],
                mode=wanted["Mode"],
                update_config=wanted["UpdateConfig"],
                endpoint_spec=wanted["EndpointSpec"],
            )
        except docker.errors.APIError as exc:
            if "name conflicts" in str(exc.explanation):
                raise NameTaken(
                    f"{wanted['Name']} was just created by somebody else", hint="Deploy again."
                ) from exc
            raise overlay.gone(exc) or exc from exc.__cause__

    def update(self, identity: str, wanted: dict[str, Any]) -> None:
        """Writes the spec on the service's newest version, whoever wrote that.

        What the autoscaler has chosen meanwhile stays, as far as the new policy allows.
        """
        policy = policies.read(wanted.get("Labels") or {}).followed
        for attempt in itertools.count(1):
            newest: Service = self._engine.api.inspect_service(identity)
            now = slots.wanted(newest["Spec"])
            if policy and now is not None and report.policies_of(newest).followed:
                wanted["Mode"] = {"Replicated": {"Replicas": max(1, policy.clamp(now))}}
            try:
                self._engine.api.update_service(
                    identity,
                    newest["Version"]["Index"],
                    task_template=wanted["TaskTemplate"],
                    name=wanted["Name"],
                    labels=wanted.get("Labels") or {},
                    mode=wanted["Mode"],
                    update_config=wanted.get("UpdateConfig"),
                    rollback_config=wanted.get("RollbackConfig"),
                    endpoint_spec=wanted.get("EndpointSpec"),
                )
                return
            except docker.errors.APIError as exc:
                if not _is_outdated(exc) or attempt == _UPDATES:
                    raise overlay.gone(exc) or exc from exc.__cause__

    def scale(self, service: Service, replicas: int) -> bool:
        """Changes the number of replicas in the newest spec and nothing else; whether it did.

        One that is scaled by itself is pinned to it. Raises `BackendError` for a service that
        isn't asked for a number.
        """

        def say(newest: Service) -> None:
            _set_replicas(newest["Spec"], replicas)
            if report.policies_of(newest).scale is not None:
                newest["Spec"]["Labels"][policies.PINNED] = "true"

        return self._edit(service, say)

    def autoscale(self, service: Service, replicas: int) -> bool:
        """The same for the autoscaler: only if it is to choose the number; whether it did.

        One request, if nobody has changed the service since it was read.
        """

        def choose(newest: Service) -> None:
            if report.policies_of(newest).followed is not None:
                _set_replicas(newest["Spec"], replicas)

        return self._edit(service, choose, known=service)

    def unpin(self, service: Service) -> bool:
        """Has the autoscaler choose again; whether it didn't already. Raises `NoPolicy`."""

        def let_go(newest: Service) -> None:
            if report.policies_of(newest).scale is None:
                raise NoPolicy(newest["Spec"]["Name"], stack=report.stack(newest))
            newest["Spec"]["Labels"].pop(policies.PINNED, None)

        return self._edit(service, let_go)

    def _edit(
        self, service: Service, change: Callable[[Service], None], known: Service | None = None
    ) -> bool:
        """Changes the newest spec, whoever wrote that; whether there was something to change.

        `known` is the service as it was read: the first try is on that version.
        """
        for attempt in itertools.count(1):
            newest: Service = known or self._engine.api.inspect_service(service["ID"])
            newest, known = copy.deepcopy(newest), None
            before = copy.deepcopy(newest["Spec"])
            change(newest)
            if newest["Spec"] == before:
                return False
            try:
                self._write(newest)
                return True
            except docker.errors.APIError as exc:
                if not _is_outdated(exc) or attempt == _UPDATES:
                    raise
        raise AssertionError  # the loop above has no end

    def revive(self, service: Service) -> bool:
        """Has the swarm fill dead slots; whether there were any. Living replicas aren't touched.

        The swarm's restart policy leaves a slot empty for ever (`none`, or no attempts left),
        and updating the service with the same spec changes nothing. But a rollback has to end
        with all slots filled, whatever became of their tasks; and a rollback to the very spec
        that the service has restarts nothing that lives.
        """
        newest: Service = self._engine.api.inspect_service(service["ID"])
        if (newest.get("UpdateStatus") or {}).get("State") in _UPDATING:
            return False
        if not slots.dead(newest["Spec"], self.tasks(service)):
            return False
        try:
            if newest.get("PreviousSpec") != newest["Spec"]:
                self._write(newest)
                newest = self._engine.api.inspect_service(service["ID"])
                if newest.get("PreviousSpec") != newest["Spec"]:
                    return False  # somebody has just changed it
            self._write(newest, rollback="previous")
        except docker.errors.APIError as exc:
            if _is_outdated(exc):
                return False
            raise
        return True

    def press(self, service: Service) -> bool:
        """Has the swarm end replicas that are too many; whether there were any.

        When one of those that it shall end ends by itself in that moment, as one-shot replicas
        always do, the swarm ends none of them («failed to update task to REMOVE: update out of
        sequence» in the manager's log), and doesn't come back to it until the service is written
        again. The very same spec will do, and restarts nothing.
        """
        newest: Service = self._engine.api.inspect_service(service["ID"])
        if (newest.get("UpdateStatus") or {}).get("State") in _UPDATING:
            return False
        if not slots.surplus(newest["Spec"], self.tasks(service)):
            return False
        try:
            self._write(newest)
        except docker.errors.APIError as exc:
            if not _is_outdated(exc):  # else somebody has just written it: that does as well
                raise
        return True

    def _write(self, service: Service, **options: str) -> None:
        """Writes the spec back as the API gave it, but for what was changed in it.

        docker-py's own update would leave out what it doesn't know.
        """
        api = self._engine.api
        url = api._url("/services/{0}/update", service["ID"])
        version = {"version": service["Version"]["Index"]}
        api._raise_for_status(api._post_json(url, data=service["Spec"], params=version | options))

    def remove(self, service: Service, *, progress: Progress) -> None:
        """Removes it, and waits until its tasks' containers have ended."""
        with self._engine.errors():
            tasks = self.tasks(service)
            alive = [task["ID"] for task in tasks if rollout.state(task) not in _OVER]
            self._engine.api.remove_service(service["ID"])

            def left() -> int:
                alive[:] = [task for task in alive if not self._is_over(task)]
                return len(alive)

            self._wait_for_going(service, "removed", left, progress)

    def settle(self, service: Service, *, progress: Progress) -> None:
        """Waits until the replicas that were told to go have gone. Raises `BackendError`."""
        press_at = time.monotonic() + _PRESS

        def left() -> int:
            nonlocal press_at
            tasks = self.tasks(service)
            surplus = slots.surplus(service["Spec"], tasks)
            if surplus and time.monotonic() >= press_at:
                self.press(service)
                press_at = time.monotonic() + _PRESS
            return surplus + len(slots.leaving(tasks))

        self._wait_for_going(service, "scaled", left, progress)

    def _wait_for_going(
        self, service: Service, done: str, left: Callable[[], int], progress: Progress
    ) -> None:
        name = service["Spec"]["Name"]
        give_up = time.monotonic() + report.grace(service) + _REMOVAL
        said = 0
        while count := left():
            if count != said:
                said = count
                progress(f"{name}: {said} replica{'' if said == 1 else 's'} finishing")
            if time.monotonic() > give_up:
                raise BackendError(
                    f"{name} is {done}, but {said} of its replicas haven't gone in time",
                    hint="See `docker node ls` for nodes that are down.",
                )
            time.sleep(rollout.POLL)

    def _is_over(self, task: str) -> bool:
        try:
            return rollout.state(self._engine.api.inspect_task(task)) in _OVER
        except docker.errors.NotFound:
            return True


def _set_replicas(spec: dict[str, Any], replicas: int) -> None:
    if slots.wanted(spec) is None:
        raise BackendError(
            f"{spec['Name']} has no number of replicas (its mode is "
            f"{', '.join(spec['Mode']).lower()})",
            hint="Only services of the mode `replicated` can be scaled.",
        )
    spec["Mode"]["Replicated"]["Replicas"] = replicas


def _is_outdated(error: docker.errors.APIError) -> bool:
    """Whether the version that was to be updated is no longer the newest."""
    return "out of sequence" in str(error.explanation)
