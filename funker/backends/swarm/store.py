"""The swarm's services: read, created, updated on their newest version, removed for good."""

from __future__ import annotations

import itertools
import time
from typing import Any

import docker.errors

from funker.backends.base import BackendError, NameTaken, Progress
from funker.backends.swarm import names, overlay, report, rollout
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.spec import FUNCTION_LABEL

#: Times that an update is tried again when somebody else changed the service meanwhile.
_UPDATES = 5
#: Seconds beyond the grace period for the swarm to notice that a removed replica has gone.
_REMOVAL = 30.0
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
        """Writes the spec on the service's newest version, whoever wrote that."""
        for attempt in itertools.count(1):
            version = self._engine.api.inspect_service(identity)["Version"]["Index"]
            try:
                self._engine.api.update_service(
                    identity,
                    version,
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
                if "out of sequence" not in str(exc.explanation) or attempt == _UPDATES:
                    raise overlay.gone(exc) or exc from exc.__cause__

    def remove(self, service: Service, *, progress: Progress) -> None:
        """Removes it, and waits until its tasks' containers have ended."""
        name = service["Spec"]["Name"]
        with self._engine.errors():
            tasks = self._engine.api.tasks(filters={"service": service["ID"]})
            alive = {task["ID"] for task in tasks if rollout.state(task) not in _OVER}
            self._engine.api.remove_service(service["ID"])
            give_up = time.monotonic() + report.grace(service) + _REMOVAL
            said = 0
            while alive := {task for task in alive if not self._is_over(task)}:
                if len(alive) != said:
                    said = len(alive)
                    progress(f"{name}: {said} replica{'' if said == 1 else 's'} finishing")
                if time.monotonic() > give_up:
                    raise BackendError(
                        f"{name} is removed, but {said} of its replicas haven't gone in time",
                        hint="See `docker node ls` for nodes that are down.",
                    )
                time.sleep(rollout.POLL)

    def _is_over(self, task: str) -> bool:
        try:
            return rollout.state(self._engine.api.inspect_task(task)) in _OVER
        except docker.errors.NotFound:
            return True
