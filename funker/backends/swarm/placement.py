"""On which nodes a function could run, and whether they can get its image. Pure.

It is judged by what nodes are, not by how they are at the moment: a node that is drained today
must not make tomorrow's deploy of the same spec a different one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from funker.backends.base import ImageMissing, NoNodeFits
from funker.spec import FunctionSpec

Node = Mapping[str, Any]

_NANO = 1_000_000_000

#: Other names for the same architectures.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armhf": "arm"}


@dataclass(frozen=True, slots=True)
class Placement:
    """`node` is the ID of the only node that has the image, or nothing."""

    node: str = ""
    warning: str = ""


def place(spec: FunctionSpec, nodes: Sequence[Node], *, builder: str, pinned: bool) -> Placement:
    """Where to bind the function, if anywhere.

    `builder` is the ID of the node whose engine has the image; `pinned` tells if the function is
    bound to it already. Raises `NoNodeFits` or `ImageMissing`.
    """
    fitting = [node for node in nodes if fits(spec, node)]
    if not fitting:
        wishes = [*spec.constraints, *([spec.platform] if spec.platform else [])]
        raise NoNodeFits(
            f"no node of the swarm is {' and '.join(wishes) or 'there'}",
            hint="Compare with `docker node inspect NODE`; node labels are set with "
            "`docker node update --label-add NAME=VALUE NODE`.",
        )
    if "@" in spec.image or (len(fitting) == 1 and fitting[0]["ID"] == builder and not pinned):
        return Placement()
    names = ", ".join(_hostname(node) for node in fitting)
    here = next((_hostname(node) for node in nodes if node["ID"] == builder), builder)
    if builder not in {node["ID"] for node in fitting}:
        raise ImageMissing(
            f"the image is on {here} alone, and {spec.name} may only run on {names}",
            hint="Give a registry that all nodes reach: `--registry HOST[:PORT]`.",
        )
    if len(fitting) == 1:
        return Placement(node=builder)
    return Placement(
        node=builder,
        warning=f"{spec.name} runs on {here} only, which has its image; "
        f"with --registry it could run on {names}",
    )


def fits(spec: FunctionSpec, node: Node) -> bool:
    """Whether the node meets the spec's constraints and platform."""
    if spec.platform:
        system, architecture, *_ = spec.platform.split("/")
        if not _is_of({"OS": system, "Architecture": architecture}, node):
            return False
    return all(_meets(constraint, node) for constraint in spec.constraints)


def cores(template: Mapping[str, Any], nodes: Sequence[Node]) -> int:
    """Cores of the nodes on which tasks of this template may run now; at least one."""
    placement = template.get("Placement") or {}
    platforms = placement.get("Platforms") or []
    return max(
        1,
        sum(
            int(_resources(node).get("NanoCPUs") or 0) // _NANO
            for node in nodes
            if _is_up(node)
            and all(_meets(constraint, node) for constraint in placement.get("Constraints") or [])
            and (not platforms or any(_is_of(platform, node) for platform in platforms))
        ),
    )


def _is_up(node: Node) -> bool:
    return (
        node["Spec"].get("Availability") == "active"
        and (node.get("Status") or {}).get("State") == "ready"
    )


def _is_of(platform: Mapping[str, str], node: Node) -> bool:
    """Whether it is of this platform, as far as both say."""
    actual = (node.get("Description") or {}).get("Platform") or {}
    system, architecture = platform.get("OS"), platform.get("Architecture")
    return (not system or not actual.get("OS") or system == actual["OS"]) and (
        not architecture
        or not actual.get("Architecture")
        or _common(architecture) == _common(actual["Architecture"])
    )


def _resources(node: Node) -> Mapping[str, Any]:
    return (node.get("Description") or {}).get("Resources") or {}


def _meets(constraint: str, node: Node) -> bool:
    match = re.fullmatch(r"\s*(\S+?)\s*(==|!=)\s*(.+?)\s*", constraint)
    if match is None:
        return True  # the scheduler says what is wrong with it
    key, operator, wanted = match.groups()
    actual = _property(key, node)
    if actual is None:
        return True
    return (actual.lower() == wanted.lower()) == (operator == "==")


def _property(key: str, node: Node) -> str | None:
    """What the scheduler compares; None for what can't be judged here."""
    spec = node.get("Spec") or {}
    description = node.get("Description") or {}
    lowered = key.lower()
    if lowered.startswith("node.labels."):
        return str((spec.get("Labels") or {}).get(key[len("node.labels.") :], ""))
    if lowered.startswith("engine.labels."):
        labels = (description.get("Engine") or {}).get("Labels") or {}
        return str(labels.get(key[len("engine.labels.") :], ""))
    simple = {
        "node.id": node.get("ID"),
        "node.hostname": description.get("Hostname"),
        "node.role": spec.get("Role"),
    }
    return simple.get(lowered)


def _hostname(node: Node) -> str:
    return str((node.get("Description") or {}).get("Hostname") or node["ID"])


def _common(architecture: str) -> str:
    return _ARCHITECTURES.get(architecture, architecture)
