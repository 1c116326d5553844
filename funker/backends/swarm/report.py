"""A service and its tasks, told to people and programs. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from funker.backends import policies
from funker.backends.base import FunctionStatus
from funker.backends.policies import Policies
from funker.backends.swarm import advice, overlay, rollout
from funker.spec import FUNCTION_LABEL, IMAGE_LABEL

#: A service as the Docker API has it.
Service = dict[str, Any]

STACK_LABEL = "com.docker.stack.namespace"


def is_function(service: Service) -> bool:
    """Whether it has the label, with any value that isn't a no."""
    value = labels(service).get(FUNCTION_LABEL)
    return value is not None and value.lower() not in ("false", "0", "no")


def labels(service: Service) -> dict[str, str]:
    return service["Spec"].get("Labels") or {}


def stack(service: Service) -> str:
    """The stack that it belongs to, or nothing."""
    return labels(service).get(STACK_LABEL, "")


def policies_of(service: Service) -> Policies:
    """How it scales, and what may be done with its calls."""
    told = policies.read(labels(service))
    if told.scale is None or "Replicated" in service["Spec"]["Mode"]:
        return told
    mode = ", ".join(service["Spec"]["Mode"]).lower()
    problem = f"it has labels of scaling, but its mode is {mode}; only `replicated` can be scaled"
    return replace(told, scale=None, pinned=False, problems=(*told.problems, problem))


def isolation(service: Service) -> str:
    """What is fresh for each call, as its replicas are told: `container` or `process`."""
    return advice.variables(container(service)).get("FUNKER_ISOLATION") or "container"


def is_updating(service: Service) -> bool:
    """Whether its replicas are being replaced by those of another version."""
    return (service.get("UpdateStatus") or {}).get("State") in ("updating", "rollback_started")


def container(service: Service) -> dict[str, Any]:
    """Its container spec."""
    return service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}


def with_image(spec: dict[str, Any], image: str, image_name: str) -> dict[str, Any]:
    """A service's spec with another image, and with nothing else changed."""
    template = spec["TaskTemplate"]
    return spec | {
        "Labels": (spec.get("Labels") or {}) | {IMAGE_LABEL: image_name},
        "TaskTemplate": template
        | {"ContainerSpec": template.get("ContainerSpec", {}) | {"Image": image}},
    }


def grace(service: Service) -> float:
    """Seconds that its replicas have for leaving."""
    return advice.grace_of(container(service))


def networks(service: Service) -> list[str]:
    """The IDs of its networks, in its order."""
    return [str(attachment["Target"]) for attachment in advice.attachments(service["Spec"])]


def relay_env(service: Service | None) -> dict[str, str]:
    """The variables of a relay to it: the larger of its limit of bodies and ours, and our way."""
    theirs = advice.variables(container(service)).get("FUNKER_MAX_BODY") if service else None
    limits = [int(t) for t in (theirs, os.environ.get("FUNKER_MAX_BODY")) if t and t.isdigit()]
    env = {"FUNKER_MAX_BODY": str(max(limits))} if limits else {}
    return env | (
        {"FUNKER_ROUTER": "direct"} if os.environ.get("FUNKER_ROUTER") == "direct" else {}
    )


def status(service: Service) -> FunctionStatus:
    """One row of a list."""
    counts = service.get("ServiceStatus") or {}
    told = policies_of(service)
    return FunctionStatus(
        name=service["Spec"]["Name"],
        image=image(service),
        wanted=int(counts.get("DesiredTasks") or 0),
        running=int(counts.get("RunningTasks") or 0),
        created=unix_time(service["CreatedAt"]),
        updated=unix_time(service["UpdatedAt"]),
        stack=stack(service),
        reference=str(container(service).get("Image") or ""),
        scale=told.scale,
        pinned=told.pinned,
        calls=told.calls,
        isolation=isolation(service),
        warnings=(
            *told.problems,
            *(item.problem for item in advice.advise(service["Spec"]) if item.serious),
        ),
    )


def details(
    service: Service,
    tasks: Sequence[dict[str, Any]],
    nodes: Mapping[str, str],
    known_networks: Mapping[str, dict[str, Any]],
    *,
    has_key: bool,
) -> dict[str, object]:
    """Everything, ready for JSON. `nodes` has host names, `known_networks` networks, by ID.

    `has_key` tells whether the swarm has the secret with which replicas join the router.
    """
    row = status(service)
    joined = [known_networks.get(identity, {"Name": identity}) for identity in networks(service)]
    warnings = list(row.warnings)
    if not any(overlay.is_attachable(network) for network in joined):
        warnings.append("no attachable network: it can be called from its own networks only")
    ours = [identity for identity, each in known_networks.items() if overlay.is_ours(each)]
    advices = advice.advise(service["Spec"])
    if has_key:
        advices += advice.advise_joining(service["Spec"], ours)
    return {
        "name": row.name,
        "id": service["ID"],
        "stack": row.stack,
        "image": row.image,
        "replicas": {"wanted": row.wanted, "running": row.running},
        **policies.shown(row),
        "created": service["CreatedAt"],
        "updated": service["UpdatedAt"],
        "networks": [network["Name"] for network in joined],
        "routed": advice.is_routed(service["Spec"], ours),
        "settings": _settings(service),
        "tasks": [_task(task, row.name, nodes) for task in _newest_first(tasks)],
        "warnings": warnings,
        "advice": [item.shown() for item in advices],
    }


def image(service: Service) -> str:
    """The image's name for people: its label, else what the service runs, shortened."""
    named = labels(service).get(IMAGE_LABEL)
    if named:
        return named
    running = str(container(service).get("Image") or "")
    if running.startswith("sha256:"):
        return running[len("sha256:") :][:12]
    return running.partition("@")[0]


def unix_time(text: str) -> float:
    """Seconds from the API's RFC 3339, whose nanoseconds are more than Python reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()


def _settings(service: Service) -> dict[str, object]:
    spec = service["Spec"]
    template = spec["TaskTemplate"]
    runs = container(service)
    limits = template.get("Resources") or {}
    placement = template.get("Placement") or {}
    return {
        "image": runs.get("Image"),
        "timeout": advice.timeout_of(runs),
        "stop_grace_period": advice.grace_of(runs),
        "env": advice.variables(runs),
        "secrets": [item["SecretName"] for item in runs.get("Secrets") or []],
        "configs": [item["ConfigName"] for item in runs.get("Configs") or []],
        "mounts": runs.get("Mounts") or [],
        "read_only": bool(runs.get("ReadOnly")),
        "constraints": placement.get("Constraints") or [],
        "platforms": [
            f"{item.get('OS')}/{item.get('Architecture')}"
            for item in placement.get("Platforms") or []
        ],
        "limits": limits.get("Limits") or {},
        "reservations": limits.get("Reservations") or {},
        "restart_policy": template.get("RestartPolicy") or {},
        "update_config": spec.get("UpdateConfig") or {},
        "endpoint_mode": (spec.get("EndpointSpec") or {}).get("Mode", "vip"),
        "labels": labels(service),
    }


def _task(task: dict[str, Any], name: str, nodes: Mapping[str, str]) -> dict[str, object]:
    node = str(task.get("NodeID") or "")
    state = task.get("Status") or {}
    return {
        "id": task["ID"],
        "replica": f"{name}.{task.get('Slot') or node}",
        "node": nodes.get(node, node),
        "state": rollout.state(task),
        "wanted": task.get("DesiredState"),
        "since": state.get("Timestamp"),
        "error": rollout.problem(task),
        "image": (task["Spec"].get("ContainerSpec") or {}).get("Image"),
    }


def _newest_first(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(tasks, key=lambda task: str(task["CreatedAt"]), reverse=True)
