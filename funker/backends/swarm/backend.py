"""Functions as services of a Docker swarm, through the Docker API of one of its managers.

The swarm is the database: what a function shall be is its service's spec and labels, and nothing
is kept anywhere else. So a service of a stack file with the label `funker.function` is a function
like those that `deploy` makes; but it belongs to its stack, and is changed there only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from funker.backends import policies
from funker.backends.base import (
    BackendError,
    Controller,
    ControlPlane,
    DeployFailed,
    Deployment,
    FunctionStatus,
    ImageMissing,
    LogLine,
    NameTaken,
    NoNodeFits,
    Outcome,
    Prepared,
    Progress,
    Transport,
    silent,
)
from funker.backends.swarm import (
    entrance,
    overlay,
    plane,
    report,
    rollout,
    servicelog,
    slots,
    surroundings,
    trial,
)
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import STACK_LABEL, Service
from funker.backends.swarm.service import same, service_spec
from funker.backends.swarm.store import Store
from funker.rpc.errors import CallError
from funker.spec import FunctionSpec

if TYPE_CHECKING:
    from funker.images.source import Source

#: Lines of the replicas' output that a failed deploy shows.
_TAIL = 20


class Swarm:
    """The backend `swarm`."""

    name = "swarm"

    def __init__(self, engine: Engine, *, subnet: str | None = None) -> None:
        """`subnet` is for the network `funker`, if this is the one to make it."""
        self._engine = engine
        self._store = Store(engine)
        self._subnet = subnet

    @property
    def place(self) -> str:
        """The engine's address."""
        return self._engine.host

    # -- images: only who needs one imports what makes them ------------------------------------

    def ready(self) -> None:
        """Raises `NotASwarm`, `NotAManager` or `EngineUnavailable`."""
        self._engine.require_manager()

    def prepare(
        self,
        source: Source,
        *,
        base: str | None = None,
        registry: str | None = None,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Prepared:
        """Builds the image unless the engine has it. Raises `BuildError`, `PushError`."""
        from funker.backends.swarm import images

        return images.made(
            self._engine, source, base=base, registry=registry, tag=tag, progress=progress
        )

    def adopt(
        self,
        reference: str,
        name: str,
        *,
        registry: str | None = None,
        progress: Progress = silent,
    ) -> Prepared:
        """The engine's image of this name or ID, else its registry's. Raises `ImageMissing`."""
        from funker.backends.swarm import images

        return images.adopted(self._engine, reference, name, registry=registry, progress=progress)

    def push(self, reference: str, registry: str, *, progress: Progress = silent) -> str:
        """`REGISTRY/NAME@sha256:...`. Raises `ImageMissing` or `PushError`."""
        from funker.backends.swarm import images

        return images.pushed(self._engine, reference, registry, progress=progress)

    def image_version(self, reference: str) -> str | None:
        """By the image's label, if the engine has it."""
        from funker.images.renew import image_version

        return image_version(reference, docker=self._engine.client)

    def renew(
        self,
        function: FunctionStatus,
        *,
        registry: str | None = None,
        progress: Progress = silent,
    ) -> Prepared | None:
        """A new image on top of the old one. Raises `BuildError` or `PushError`."""
        from funker.backends.swarm import images

        return images.renewed(self._engine, function, registry=registry, progress=progress)

    # -- functions -----------------------------------------------------------------------------

    def deploy(self, spec: FunctionSpec, *, progress: Progress = silent) -> Deployment:
        """Creates or updates the service; returns when its replicas are up.

        A new version is tried beside the old one first. Raises `BackendError`: most of `base.py`.
        After a failed update the service is what it was before; one that was new is removed,
        unless its handler alone is at fault: then it stays, tries again by itself, and its
        callers get `init_failed`.
        """
        info = self._engine.require_manager()
        with self._engine.errors():
            before = self._store.named(spec.name)
            _check_owner(spec.name, before)
            spec = policies.beginning(spec, slots.wanted(before["Spec"]) if before else None)
            found, outcome, restarted = self._put(spec, info, before, progress)
            replicas, warnings = self._settle(spec.name, before, outcome, progress)
        if before and spec.scale and report.policies_of(before).pinned:
            warnings.append(policies.unpinned(spec.name))
        return Deployment(
            name=spec.name,
            outcome=outcome,
            image=spec.image_name or spec.image,
            replicas=replicas,
            network=overlay.NETWORK,
            restarted=restarted,
            warnings=(*found.warnings, *warnings),
        )

    def functions(self) -> list[FunctionStatus]:
        """All services with the label `funker.function`, sorted by name."""
        return sorted((report.status(service) for service in self._store.functions()), key=_by_name)

    def find(self, name: str) -> FunctionStatus:
        """Raises `FunctionNotFound` or `AmbiguousFunction`."""
        return report.status(self._store.function(name))

    def inspect(self, name: str) -> dict[str, object]:
        """The service for people and programs: settings, tasks, warnings, and `advice`."""
        service = self._store.function(name)
        with self._engine.errors():
            api = self._engine.api
            tasks = self._store.tasks(service)
            nodes = {node["ID"]: node["Description"]["Hostname"] for node in api.nodes()}
            networks = {network["Id"]: network for network in api.networks()}
            has_key = surroundings.has_key(self._engine)
        return report.details(service, tasks, nodes, networks, has_key=has_key)

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> Iterator[LogLine]:
        """The service's log. A replica's output is kept as long as the engine keeps its task."""
        return servicelog.read(
            self._engine,
            self._store.function(name),
            follow=follow,
            tail=tail,
            since=since,
            timestamps=timestamps,
        )

    def set_image(
        self, name: str, image: str, image_name: str, *, progress: Progress = silent
    ) -> Deployment:
        """Writes the service with the image alone changed; waits and undoes as `deploy`."""
        self._engine.require_manager()
        with self._engine.errors():
            before = self._store.function(name)
            name = before["Spec"]["Name"]
            _check_owner(name, before)
            wanted = report.with_image(before["Spec"], image, image_name)
            outcome, restarted = self._write(wanted, before, progress)
            replicas, warnings = self._settle(name, before, outcome, progress)
        return Deployment(
            name=name,
            outcome=outcome,
            image=image_name,
            replicas=replicas,
            network=overlay.NETWORK,
            restarted=restarted,
            warnings=tuple(warnings),
        )

    def remove(self, name: str, *, progress: Progress = silent) -> None:
        """Removes the service and waits for its tasks. Raises `NameTaken` for a stack's."""
        service = self._store.function(name)
        stack = report.stack(service)
        if stack:
            raise NameTaken(
                f"{name} belongs to the stack {stack}",
                hint=f"Take it out of the stack's file, or `docker stack rm {stack}`.",
            )
        trial.clear(self._engine, service["Spec"]["Name"])
        self._store.remove(service, progress=progress)

    def scale(self, name: str, replicas: int, *, progress: Progress = silent) -> None:
        """Changes the number of replicas and nothing else, of a stack's function too.

        One that is scaled by itself is pinned to it. Returns when so many run, and those that are
        too many have gone, their grace respected.
        Raises `NoNodeFits`, `ImageMissing` or `DeployFailed` if they don't come up, but the number
        stays what was asked for.
        """
        service = self._store.function(name)
        full = service["Spec"]["Name"]
        with self._engine.errors():
            watched = rollout.Rollout(
                name=full,
                template=service["Spec"]["TaskTemplate"],
                wanted=replicas,
                started=time.monotonic(),
            )
            if self._store.scale(service, replicas):
                progress(f"{full}: {replicas} replica{'' if replicas == 1 else 's'} wanted")
            service = self._store.existing(full)
            self._store.revive(service)  # those that more replicas wouldn't replace
            if replicas:
                rollout.wait_for_tasks(
                    watched, lambda: self._store.tasks(service), progress=progress
                )
            self._store.settle(service, progress=progress)

    def unpin(self, name: str) -> None:
        """Removes the label `funker.scale.pinned`. Raises `NoPolicy`."""
        service = self._store.function(name)
        with self._engine.errors():
            self._store.unpin(service)

    def transport(self, name: str | None = None) -> AbstractContextManager[Transport]:
        """A relay to this function, or to all on the network `funker`.

        Raises `NetworkUnusable` if the function can't be reached from outside, `ImageMissing`
        if nothing can be a relay, or another `BackendError`.
        """
        service = self._store.function(name) if name is not None else None
        return contextlib.closing(entrance.open_relay(self._engine, service))

    def controller(self) -> AbstractContextManager[Controller]:
        """The router. Raises `NoController` if there is no anchor on this engine's node.

        What is asked raises `NoController` too, if no router answers the anchor.
        """
        return contextlib.closing(entrance.open_controller(self._engine))

    def up(self, options: ControlPlane, *, progress: Progress = silent) -> list[str]:
        """Brings up the stack `funker`; most of `base.py` may be raised."""

        def status() -> Any:
            with self.controller() as controller:
                return controller.query("status")

        return plane.up(self._engine, options, status=status, progress=progress)

    def down(self, *, progress: Progress = silent) -> list[str]:
        """Removes the stack `funker`."""
        return plane.down(self._engine, progress)

    def keys(self, *, progress: Progress = silent) -> list[str]:
        """Makes the secrets `funker-router-key` and `funker-client-key` unless they are there."""
        return plane.keys(self._engine, progress)

    def client_key(self) -> str:
        """The key file of callers. Raises `NoController`."""
        return plane.client_key(self._engine)

    # -- writing -----------------------------------------------------------------------------

    def _put(
        self,
        spec: FunctionSpec,
        info: dict[str, Any],
        before: Service | None,
        progress: Progress,
    ) -> tuple[surroundings.Found, Outcome, bool]:
        """Writes the service; says with what, what was done, and whether that restarts tasks."""
        gone: set[str] = set()
        while True:
            found = surroundings.find(
                self._engine,
                spec,
                info,
                before,
                subnet=self._subnet,
                progress=progress,
                gone=gone,
            )
            wanted = service_spec(found.spec, found.around)
            try:
                return found, *self._write(wanted, before, progress)
            except overlay.NetworkGone as error:
                if error.identity in gone:
                    raise
                gone.add(error.identity)

    def _write(
        self, wanted: dict[str, Any], before: Service | None, progress: Progress
    ) -> tuple[Outcome, bool]:
        """Creates or updates it; says what was done, and whether that restarts tasks."""
        if before is None:
            progress(f"creating the service {wanted['Name']}")
            self._store.create(wanted)
            return "created", True
        current = before["Spec"]
        force = current["TaskTemplate"].get("ForceUpdate")
        if force:  # resetting the count would itself restart all tasks
            wanted["TaskTemplate"]["ForceUpdate"] = force
        if same(wanted, current):
            return "unchanged", False
        restarted = not same(wanted["TaskTemplate"], current["TaskTemplate"])
        if restarted:
            trial.run(self._engine, wanted, progress=progress)
        progress(f"updating the service {wanted['Name']}")
        self._store.update(before["ID"], wanted)
        return "updated", restarted

    # -- waiting -----------------------------------------------------------------------------

    def _settle(
        self,
        name: str,
        before: Service | None,
        outcome: Outcome,
        progress: Progress,
    ) -> tuple[int, list[str]]:
        """Waits for what was written, or undoes it; the number of replicas, and warnings."""
        after = self._store.existing(name)
        # A global service runs on as many nodes as there are: one of them is enough to know.
        replicas = slots.wanted(after["Spec"])
        replicas = 1 if replicas is None else replicas
        try:
            return replicas, self._wait(after, replicas, progress)
        except (DeployFailed, NoNodeFits, ImageMissing) as error:
            raise self._undone(error, before, after, outcome) from error.__cause__

    def _wait(self, service: Service, replicas: int, progress: Progress) -> list[str]:
        """Waits for the replicas and their handler; returns warnings."""
        name = service["Spec"]["Name"]
        if replicas == 0:
            return [f"{name} has no replicas: nobody answers its calls"]
        watched = rollout.Rollout(
            name=name,
            template=service["Spec"]["TaskTemplate"],
            wanted=replicas,
            started=time.monotonic(),
        )
        autoscaled = report.policies_of(service).followed is not None

        def fetch() -> list[rollout.Task]:
            if autoscaled:  # it doesn't wait for us: those that it takes away needn't come up
                newest = self._store.existing(name)
                watched.wanted = min(watched.wanted, slots.wanted(newest["Spec"]) or 0)
            return self._store.tasks(service)

        rollout.wait_for_tasks(watched, fetch, progress=progress)
        try:
            with self.transport(name) as relay:
                rollout.wait_for_handler(
                    watched, lambda: relay.ping(name), fetch, progress=progress
                )
            rollout.wait_for_others(watched, fetch)
        except DeployFailed:
            raise
        except (BackendError, CallError) as error:  # the relay's trouble isn't the function's
            return [f"couldn't ask whether the handler is loaded: {error.message}"]
        return []

    def _undone(
        self, error: BackendError, before: Service | None, after: Service, outcome: str
    ) -> BackendError:
        """Puts back what was before; returns the error with the output and what became of it."""
        if isinstance(error, DeployFailed) and not error.output_tail:
            error.output_tail = servicelog.tail(self._engine, after, _TAIL)
        name = after["Spec"]["Name"]
        if outcome == "unchanged":
            told = "Nothing was changed."
        elif before is not None:
            self._store.update(before["ID"], before["Spec"])
            told = f"The version of {name} that was deployed before is back."
        elif isinstance(error, DeployFailed) and error.traceback:
            told = f"It stays and tries again; `funker rm {name}` removes it."
        else:
            self._engine.api.remove_service(after["ID"])
            told = f"{name} was removed again."
        error.hint = f"{error.hint} {told}".strip()
        return error


def _by_name(status: FunctionStatus) -> str:
    return status.name


def _check_owner(name: str, service: Service | None) -> None:
    if service is None:
        return
    stack = (service["Spec"].get("Labels") or {}).get(STACK_LABEL)
    if stack:
        raise NameTaken(
            f"{name} is a service of the stack {stack}",
            hint="Change the stack's file and `docker stack deploy` it, or choose another name.",
        )
    if not report.is_function(service):
        raise NameTaken(
            f"{name} is a service, but no function",
            hint=f"Choose another name, or remove it first: `docker service rm {name}`.",
        )
