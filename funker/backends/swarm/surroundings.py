"""What a swarm has of what a function names: image, networks, secrets, configs, nodes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker.errors

from funker.backends.base import ImageMissing, MissingResource, NetworkUnusable, Progress
from funker.backends.swarm import overlay, placement, report
from funker.backends.swarm.advice import CLIENT_SECRET
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.backends.swarm.service import Surroundings
from funker.rpc.keys import CLIENT_FILE
from funker.spec import FunctionSpec, Secret

#: What users' Dockerfiles build on, and every engine that builds functions has.
RUNTIME_IMAGE = "funker-python:latest"


@dataclass(frozen=True, slots=True)
class Found:
    """The spec with what the image adds to it, and the swarm's IDs for what it names."""

    spec: FunctionSpec
    around: Surroundings
    warnings: tuple[str, ...]


def find(
    engine: Engine,
    spec: FunctionSpec,
    info: Mapping[str, Any],
    before: Service | None,
    *,
    subnet: str | None,
    progress: Progress,
    gone: Collection[str] = (),
) -> Found:
    """Everything that the service of this spec needs; makes the network if need be.

    `info` is the engine's, `before` the service as it is, and `gone` has the IDs of networks
    that are listed but not there. Raises `ImageMissing`,
    `MissingResource`, `NoNodeFits`, `NetworkUnusable` or `SubnetClash`.
    """
    api = engine.api
    spec, warnings = _with_image(engine, spec)
    secrets = {item["Spec"]["Name"]: item["ID"] for item in api.secrets()}
    spec = with_key(spec, secrets)
    configs = {item["Spec"]["Name"]: item["ID"] for item in api.configs()} if spec.configs else {}
    for secret in spec.secrets:
        _require("secret", secret.source, secrets)
    for config in spec.configs:
        _require("config", config.source, configs)
    builder = str(info["Swarm"]["NodeID"])
    where = placement.place(spec, api.nodes(), builder=builder, pinned=_is_pinned(before, builder))
    # Only now, when nothing else is missing, something is made.
    networks = _networks(engine, spec, subnet=subnet, progress=progress, gone=gone)
    around = Surroundings(networks=networks, secrets=secrets, configs=configs, node=where.node)
    if where.warning:
        warnings.append(where.warning)
    return Found(spec, around, tuple(warnings))


def relay_image(engine: Engine, service: Service | None) -> str:
    """An image that this engine has and that can be a relay. Raises `ImageMissing`."""
    own = str(report.container(service).get("Image") or "") if service else ""
    for image in (RUNTIME_IMAGE, own):
        if image and _has(engine, image):
            return image
    if "@" in own:
        try:
            engine.client.images.pull(own)
        except docker.errors.APIError as exc:
            raise ImageMissing(
                f"{engine.host} can't pull {own}: {exc.explanation}",
                hint="Log in to the registry (`docker login`).",
            ) from exc
        return own
    raise ImageMissing(
        f"{engine.host} has no image that can carry calls to functions",
        hint="Build a function there (`funker build PATH`): that makes one.",
    )


def _with_image(engine: Engine, spec: FunctionSpec) -> tuple[FunctionSpec, list[str]]:
    try:
        image = engine.api.inspect_image(spec.image)
    except docker.errors.NotFound as exc:
        if "@" in spec.image:
            return spec, []  # the nodes pull it
        raise ImageMissing(
            f"{engine.host} has no image {spec.image_name or spec.image}",
            hint="Build it there: `funker build PATH`.",
        ) from exc
    warnings = []
    if volumes := (image.get("Config") or {}).get("Volumes"):
        warnings.append(
            f"the image has VOLUME {' '.join(volumes)}: each replica makes one, which stays behind"
        )
    if not spec.platform:
        spec = spec.changed(platform=f"{image['Os']}/{image['Architecture']}")
    return spec, warnings


def with_key(spec: FunctionSpec, secrets: Collection[str]) -> FunctionSpec:
    """With the secret for joining the router, unless its user decided otherwise.

    `secrets` has the names of the swarm's.
    """
    if CLIENT_SECRET not in secrets or spec.env.get("FUNKER_ROUTER") == "direct":
        return spec
    if any(secret.target in (CLIENT_SECRET, CLIENT_FILE) for secret in spec.secrets):
        return spec
    # Readable for the function's user, whoever that is: the API's default is root's alone.
    key = Secret(source=CLIENT_SECRET, target=CLIENT_SECRET, mode=0o444)
    return spec.changed(secrets=(*spec.secrets, key))


def has_key(engine: Engine) -> bool:
    """Whether the swarm has the secret with which replicas join the router."""
    found = engine.api.secrets(filters={"name": CLIENT_SECRET})
    return any(secret["Spec"]["Name"] == CLIENT_SECRET for secret in found)


def _networks(
    engine: Engine,
    spec: FunctionSpec,
    *,
    subnet: str | None,
    progress: Progress,
    gone: Collection[str],
) -> dict[str, str]:
    """Name and ID of the function's networks: `funker` first, then the others by name."""
    ours = overlay.ensure(engine, subnet=subnet, progress=progress, without=gone)
    found = {overlay.NETWORK: ours}
    listed: Sequence[overlay.Network] = engine.api.networks() if spec.networks else []
    existing = [network for network in listed if network["Id"] not in gone]
    usable = {network["Name"]: network for network in existing if network["Scope"] == "swarm"}
    for name in sorted({network.name for network in spec.networks} - {overlay.NETWORK}):
        network = overlay.named(existing, name)
        if network is None:
            _require("network", name, usable)
        elif network.get("Scope") != "swarm":
            raise NetworkUnusable(
                f"the network {name} is one of a single node ({network.get('Driver')})",
                hint=f"Make it an overlay: `docker network create -d overlay {name}`.",
            )
        else:
            found[name] = str(network["Id"])
    return found


def _require(kind: str, name: str, existing: Mapping[str, Any]) -> None:
    if name in existing:
        return
    close = difflib.get_close_matches(name, existing, n=3)
    if close:
        hint = f"Did you mean {' or '.join(close)}?"
    elif kind == "network":
        hint = f"`docker network create -d overlay {name}` makes one."
    else:
        hint = f"`docker {kind} create {name} FILE` makes one."
    raise MissingResource(f"the swarm has no {kind} {name}", hint=hint)


def _is_pinned(before: Service | None, node: str) -> bool:
    if before is None:
        return False
    constraints = (before["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
    return f"node.id=={node}" in constraints


def _has(engine: Engine, image: str) -> bool:
    try:
        engine.api.inspect_image(image)
    except docker.errors.NotFound:
        return False
    return True
