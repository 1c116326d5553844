"""The controller's services as they are in the swarm, of whatever stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from funker.backends.base import BackendError, NoController
from funker.backends.swarm import report, rollout
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service

#: On the containers (and so in the template) of each part, with the part's name.
PART_LABEL = "funker.control"
#: So the anchors' containers are found, whatever the stack is called.
ANCHOR_LABEL = f"{PART_LABEL}=anchor"
#: The parts in the order in which they are taken down: nobody is left asking for another.
PARTS = ("reconciler", "router", "anchor")


def services(engine: Engine) -> list[Service]:
    """The services that there are, in the order of `PARTS`."""
    with engine.errors():
        existing: list[Service] = engine.api.services()
    return sorted(filter(is_part, existing), key=lambda service: PARTS.index(part(service)))


def part(service: Service) -> str:
    """Which part it is; empty: none."""
    labels: Mapping[str, str] = report.container(service).get("Labels") or {}
    return labels.get(PART_LABEL, "")


def is_part(service: Service) -> bool:
    """Whether it is one of the controller's services."""
    return part(service) in PARTS


def published(router: Service) -> int:
    """The port of its node on which the router is published; 0: none."""
    endpoint: Mapping[str, Any] = router["Spec"].get("EndpointSpec") or {}
    ports = endpoint.get("Ports") or []
    return int(ports[0]["PublishedPort"]) if ports else 0


def address(engine: Engine) -> str:
    """Where callers outside of the network find the router, as host:port; empty: nowhere."""
    router = next((each for each in services(engine) if part(each) == "router"), None)
    if router is None or not (port := published(router)):
        return ""
    with engine.errors():
        tasks = engine.api.tasks(filters={"service": router["ID"], "desired-state": "running"})
        running = next((task for task in tasks if rollout.state(task) == "running"), None)
        if running is None:
            return ""
        host = str(engine.api.inspect_node(running["NodeID"])["Status"].get("Addr") or "")
        if host in ("", "0.0.0.0", "127.0.0.1"):  # noqa: S104 - it doesn't know its address
            host = str(engine.api.info()["Swarm"]["NodeAddr"])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def anchors(engine: Engine) -> list[dict[str, Any]]:
    """The anchors' containers that run on this engine's node, the newest first."""
    filters = {"label": ANCHOR_LABEL, "status": "running"}
    running: list[dict[str, Any]] = engine.api.containers(filters=filters)
    return sorted(running, key=lambda container: -int(container["Created"]))


def no_anchor(engine: Engine) -> NoController:
    """The error where there is none."""
    return NoController(
        f"no controller is up: {engine.host} has no anchor of it", hint="`funker up` brings it up."
    )


def run_in_anchor(engine: Engine, *command: str) -> bytes:
    """What a command prints in the anchor of this engine's node.

    Raises `NoController` if there is no anchor, `BackendError` if the command fails.
    """
    with engine.errors():
        if not (containers := anchors(engine)):
            raise no_anchor(engine)
        made = engine.api.exec_create(containers[0]["Id"], list(command))
        stdout, stderr = engine.api.exec_start(made["Id"], demux=True)
        code = engine.api.exec_inspect(made["Id"])["ExitCode"]
    if code != 0:
        words = (stderr or b"").decode(errors="replace").strip()
        raise BackendError(f"{' '.join(command)} failed in the anchor: {words}")
    return bytes(stdout or b"")
