"""Our own stack files as service specs of the API, as `docker stack deploy` makes them. Pure.

Not compose files at large: only what compose.yaml uses is known here, and anything else raises.
For this subset the rules are those of Docker's own command, down to the order of lists, so that
neither of the two restarts what the other has made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from funker.backends.swarm.report import STACK_LABEL
from funker.backends.swarm.service import NANOSECONDS
from funker.spec import SpecError
from funker.spec.values import parse_duration, parse_size

#: Docker's own label with the image as the stack file names it.
IMAGE_LABEL = "com.docker.stack.image"

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})")
_TRUE = ("true", "yes", "on", "y")

File = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The swarm's IDs for the networks and secrets that a stack file names."""

    networks: Mapping[str, str]
    secrets: Mapping[str, str]


def load(texts: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """What the files say together, `${NAME:-default}` filled in. Later files add to earlier ones.

    Raises `SpecError` for a variable that has neither value nor default.
    """
    merged: dict[str, Any] = {}
    for text in texts:
        merged = _merged(merged, YAML(typ="safe", pure=True).load(text))
    filled: dict[str, Any] = _filled(merged, variables)
    return filled


def service_specs(stack: File, name: str, identities: Identities) -> list[dict[str, Any]]:
    """The services of the stack called `name`, in the file's order."""
    known = [key for key in stack if key.startswith("x-")]
    _only(stack, "services", "networks", "secrets", *known)
    return [
        _service(short, service, name, identities) for short, service in stack["services"].items()
    ]


def network_names(stack: File) -> list[str]:
    """The names of its networks in the swarm."""
    return [about.get("name", short) for short, about in stack["networks"].items()]


def subnet(stack: File) -> str:
    """The addresses of its one network."""
    (network,) = stack["networks"].values()
    return str(network["ipam"]["config"][0]["subnet"])


def secret_names(stack: File) -> list[str]:
    """The names of its secrets, all of which are there before it."""
    return list(stack["secrets"])


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda match: _value(match, variables), value)
        case Mapping():
            return {key: _filled(item, variables) for key, item in value.items()}
        case list():
            return [_filled(item, variables) for item in value]
        case _:
            return value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    dollar, name, default = match.groups()
    if dollar:
        return "$"
    value = variables.get(name) or default
    if value is None:
        raise SpecError(name, "it has no value", hint=f"Set {name}.")
    return str(value)


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both = {key: _merged(one[key], other[key]) for key in one if key in other}
        return {**one, **other, **both}
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *other]
    return other


def _service(short: str, service: File, stack: str, identities: Identities) -> dict[str, Any]:
    _only(service, *_CONTAINER_KEYS, "networks", "deploy", "ports")
    deploy = service.get("deploy") or {}
    _only(deploy, "mode", "replicas", "labels", "endpoint_mode", "restart_policy", "placement",
          "update_config", "resources")  # fmt: skip
    return {
        "Name": f"{stack}_{short}",
        "Labels": {
            **(deploy.get("labels") or {}),
            STACK_LABEL: stack,
            IMAGE_LABEL: service["image"],
        },
        "TaskTemplate": {
            "ContainerSpec": _container(service, stack, identities.secrets),
            "Resources": _resources(deploy.get("resources") or {}),
            "RestartPolicy": _restart(deploy["restart_policy"]),
            "Placement": {"Constraints": list((deploy.get("placement") or {})["constraints"])},
            "Networks": _networks(short, service["networks"], identities.networks),
        },
        "Mode": _mode(deploy),
        "UpdateConfig": _update(deploy["update_config"]),
        "EndpointSpec": _endpoint(deploy, service.get("ports") or []),
    }


_CONTAINER_KEYS = (
    "image",
    "init",
    "entrypoint",
    "user",
    "labels",
    "read_only",
    "cap_drop",
    "secrets",
    "volumes",
    "stop_grace_period",
)


#: Docker's command says this of every container, and the swarm restarts what lacks it.
_PRIVILEGES = {"CredentialSpec": None, "NoNewPrivileges": False, "SELinuxContext": None}


def _container(service: File, stack: str, secrets: Mapping[str, str]) -> dict[str, Any]:
    container = {
        "Image": service["image"],
        "Labels": {**(service.get("labels") or {}), STACK_LABEL: stack},
        "Command": list(service["entrypoint"]),
        "User": service["user"],
        "Privileges": _PRIVILEGES,
        "Init": service["init"],
        "ReadOnly": service["read_only"],
        "CapabilityDrop": list(service["cap_drop"]),
        "StopGracePeriod": _nanoseconds(service["stop_grace_period"]),
        "Secrets": [
            {
                "SecretID": secrets[name],
                "SecretName": name,
                "File": {"Name": name, "UID": "0", "GID": "0", "Mode": 0o444},
            }
            for name in sorted(service.get("secrets") or [])
        ],
        "Mounts": [_mount(mount) for mount in service.get("volumes") or []],
    }
    return {key: value for key, value in container.items() if value}


def _mount(mount: File) -> dict[str, Any]:
    _only(mount, "type", "source", "target")
    return {"Type": mount["type"], "Source": mount["source"], "Target": mount["target"]}


def _networks(
    short: str, networks: File | Sequence[str], identities: Mapping[str, str]
) -> list[dict[str, Any]]:
    aliases = {}
    for name in networks:
        about = (networks[name] or {}) if isinstance(networks, Mapping) else {}
        _only(about, "aliases")
        aliases[name] = [*about.get("aliases", []), short]
    return [{"Target": identities[name], "Aliases": aliases[name]} for name in sorted(aliases)]


def _resources(resources: File) -> dict[str, Any]:
    _only(resources, "limits")
    limits = resources.get("limits") or {}
    _only(limits, "memory")
    return {"Limits": {"MemoryBytes": parse_size(limits["memory"])}} if limits else {}


def _restart(policy: File) -> dict[str, Any]:
    _only(policy, "condition", "delay")
    return {"Condition": policy["condition"], "Delay": _nanoseconds(policy["delay"])}


def _update(config: File) -> dict[str, Any]:
    _only(config, "order", "failure_action")
    return {
        "Parallelism": 1,
        "FailureAction": config["failure_action"],
        "Order": config["order"],
    }


def _mode(deploy: File) -> dict[str, Any]:
    if deploy.get("mode") == "global":
        return {"Global": {}}
    return {"Replicated": {"Replicas": int(deploy.get("replicas", 1))}}


def _endpoint(deploy: File, ports: Sequence[File]) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"Mode": deploy["endpoint_mode"]}
    if ports:
        endpoint["Ports"] = [_port(port) for port in ports]
    return endpoint


def _port(port: File) -> dict[str, Any]:
    _only(port, "target", "published", "protocol", "mode")
    return {
        "Protocol": port["protocol"],
        "TargetPort": int(port["target"]),
        "PublishedPort": int(port["published"]),
        "PublishMode": port["mode"],
    }


def _nanoseconds(duration: str) -> int:
    return round(parse_duration(duration) * NANOSECONDS)


def _only(mapping: File, *known: str) -> None:
    if unknown := [key for key in mapping if key not in known]:
        raise ValueError(f"this part of compose files isn't known here: {', '.join(unknown)}")
