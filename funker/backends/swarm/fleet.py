"""The functions of a swarm as the reconciler sees them, and what it can do for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from funker.backends import names
from funker.backends.base import Observed
from funker.backends.swarm import advice, overlay, placement, report, slots, trial
from funker.backends.swarm.changes import Changes
from funker.backends.swarm.contexts import endpoint
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.backends.swarm.store import Store

#: Seconds for which replicas may be missing before the swarm is asked why: each call of a
#: one-shot replica takes it away for a moment.
_PATIENCE = 2.0
#: Seconds until it is asked again while they are.
_AGAIN = 5.0
#: Seconds between looks at the nodes: they come and go, but rarely.
_NODES = 30.0
#: Seconds between looks for what killed deploys have left.
_TIDY = 60.0


def open_fleet(environ: Mapping[str, str]) -> SwarmFleet:
    """The swarm of the engine that the environment means. Raises `BackendError`."""
    return SwarmFleet(Engine(endpoint(None, environ)))


class SwarmFleet:
    """A `Fleet` over the services of a swarm, by the API of one of its managers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = Store(engine)
        self._changes = Changes(engine)
        self._missing: dict[str, _Missing] = {}
        #: The services as they were read last.
        self._seen: dict[str, Service] = {}
        #: ID to name of the networks of functions; no name: there is no such network any more.
        self._networks: dict[str, str] = {}
        self._nodes: list[dict[str, Any]] = []
        self._next_nodes = 0.0
        self._next_tidying = 0.0

    def observe(self) -> list[Observed]:
        """All functions, sorted by name: one request, and one more for each in trouble.

        Removes what killed deploys have left, now and then. Raises `BackendError`.
        """
        self._tidy()
        self._seen = services = {
            service["Spec"]["Name"]: service for service in self._store.functions()
        }
        self._look_at_networks(list(services.values()))
        if any(report.policies_of(service).followed for service in services.values()):
            self._look_at_nodes()
        self._missing = {name: it for name, it in self._missing.items() if name in services}
        return [self._observed(name, services[name]) for name in sorted(services)]

    def wait(self, seconds: float) -> None:
        """Returns when a service was changed, at the latest after so many seconds."""
        self._changes.wait(seconds)

    def scale(self, name: str, replicas: int) -> None:
        """Changes the number of replicas alone, unless it was pinned. Raises `BackendError`."""
        with self._engine.errors():
            self._store.autoscale(self._seen.get(name) or self._store.existing(name), replicas)

    def revive(self, name: str) -> bool:
        """Has the swarm fill the slots that its restart policy leaves empty; whether any were.

        And end those that are too many and that it has forgotten. Raises `BackendError`.
        """
        with self._engine.errors():
            service = self._store.existing(name)
            self._store.press(service)
            return self._store.revive(service)

    def close(self) -> None:
        self._changes.close()
        self._engine.close()

    def _tidy(self) -> None:
        if time.monotonic() >= self._next_tidying:
            trial.clear_old(self._engine)
            self._next_tidying = time.monotonic() + _TIDY

    def _observed(self, name: str, service: Service) -> Observed:
        status = report.status(service)
        template = service["Spec"]["TaskTemplate"]
        missing = self._why_missing(name, service) if status.running < status.wanted else ""
        if status.running >= status.wanted:
            self._missing.pop(name, None)
        ours = [identity for identity, name in self._networks.items() if name == overlay.NETWORK]
        return Observed(
            name=name,
            names=_other_names(name, service),
            wanted=status.wanted,
            running=status.running,
            image=status.image,
            routed=advice.is_routed(service["Spec"], ours),
            problem=missing or "; ".join(status.warnings),
            scale=status.scale,
            pinned=status.pinned,
            calls=status.calls,
            isolation=status.isolation,
            cores=placement.cores(template, self._nodes),
            updating=report.is_updating(service),
            failing=self._missing[name].ending if missing else "",
        )

    def _why_missing(self, name: str, service: Service) -> str:
        now = time.monotonic()
        missing = self._missing.setdefault(name, _Missing(now + _PATIENCE))
        if now >= missing.next_look:
            with self._engine.errors():
                tasks = self._store.tasks(service)
            missing.next_look = now + _AGAIN
            missing.words = slots.why_missing(service["Spec"], tasks)
            missing.ending = slots.why_ending(tasks)
        return missing.words

    def _look_at_nodes(self) -> None:
        if time.monotonic() >= self._next_nodes:
            with self._engine.errors():
                self._nodes = self._engine.api.nodes()
            self._next_nodes = time.monotonic() + _NODES

    def _look_at_networks(self, services: Sequence[Service]) -> None:
        used = {identity for service in services for identity in report.networks(service)}
        if used <= self._networks.keys():
            return
        with self._engine.errors():
            found = {network["Id"]: network["Name"] for network in self._engine.api.networks()}
        self._networks = {identity: found.get(identity, "") for identity in used}


@dataclass(slots=True)
class _Missing:
    """What is known of a function of which replicas are missing."""

    next_look: float
    words: str = ""
    #: Why they end by themselves, if they do.
    ending: str = ""


def _other_names(name: str, service: Service) -> tuple[str, ...]:
    spec = service["Spec"]
    told = {names.short(name, report.stack(service)), *advice.aliases(spec)}
    return tuple(sorted(told - {name, ""}))
