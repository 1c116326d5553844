"""The control plane as the stack `funker`: brought up, compared, taken down.

What it is, compose.yaml says alone. `up` reads that file and writes the same services through the
API that `docker stack deploy` would, so either may follow the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker.errors

from funker import packaged
from funker.backends.base import (
    ControlPlane,
    ImageMissing,
    NameTaken,
    NetworkUnusable,
    Progress,
)
from funker.backends.swarm import (
    compose,
    keyring,
    overlay,
    parts,
    placement,
    readiness,
    report,
    rollout,
)
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import STACK_LABEL, Service
from funker.backends.swarm.service import same
from funker.backends.swarm.store import Store
from funker.rpc.keys import CLIENT_FILE
from funker.spec import FunctionSpec

STACK = "funker"

#: What may be set for compose.yaml by the environment, as for `docker stack deploy`.
_SETTINGS = ("FUNKER_SUBNET", "FUNKER_PLACEMENT", "FUNKER_DOCKER_SOCKET")
_SOCKET = "/var/run/docker.sock"


def up(
    engine: Engine, options: ControlPlane, *, status: Callable[[], Any], progress: Progress
) -> list[str]:
    """Makes the stack what it should be; returns when the router answers and knows the swarm.

    `status` asks the router for what it knows, or raises a `FunkerError`. What was changed, a line
    for each. Raises `ImageMissing`, `SubnetClash`, `NetworkUnusable`, `NameTaken`,
    `MissingResource`, `NoNodeFits`, or `ControllerFailed` with what a part said.
    """
    info = engine.require_manager()
    before = parts.services(engine)
    _check_owners(before)
    image = options.image or _built(engine, options, progress)
    with engine.errors():
        image = _resolved(engine, image, before, progress)
        node, warning = _node(engine, image, info, before)
        stack = _stack(options, _variables(engine, info, image, options, node))
        lines, restarting = _make(engine, stack, options, progress)
        readiness.wait(engine, restarting, status, progress)
    return [*lines, warning] if lines and warning else lines


def down(engine: Engine, progress: Progress) -> list[str]:
    """Removes the services, and the network and the keys unless functions need them.

    What was changed and what stays, a line for each; nothing if there was nothing.
    """
    engine.require_manager()
    store = Store(engine)
    found = parts.services(engine)
    names = [service["Spec"]["Name"] for service in found]
    if names:
        progress(f"removing the services {', '.join(names)}")
    # At once: the swarm gives each container 2 s in which nobody may look for it any more.
    with ThreadPoolExecutor(max_workers=len(parts.PARTS)) as pool:
        list(pool.map(lambda service: store.remove(service, progress=progress), found))
    lines = [f"removed the service {name}" for name in names]
    with engine.errors():
        gone, stays = _remove_network(engine, progress)
        lines += [*gone, *(stays if found else [])]
        if not keyring.identities(engine):
            return lines
        if users := keyring.users(engine):
            return [*lines, f"the keys stay: {_some(users)} may be using them"] if found else lines
        return [*lines, *keyring.remove(engine)]


def keys(engine: Engine, progress: Progress) -> list[str]:
    """Makes the keys unless they are there; what was changed. Raises `MissingResource`."""
    engine.require_manager()
    return keyring.ensure(engine, progress=progress)


def client_key(engine: Engine) -> str:
    """The key file of callers, which finds the router if that is published.

    Raises `NoController`: the swarm shows secrets to containers alone, so the anchor is asked.
    """
    engine.require_manager()
    text = parts.run_in_anchor(engine, "cat", CLIENT_FILE).decode()
    where = parts.address(engine)
    return text + (f"ROUTER_ADDRESS={where}\n" if where else "")


def _make(
    engine: Engine, stack: Mapping[str, Any], options: ControlPlane, progress: Progress
) -> tuple[list[str], list[str]]:
    """Network, keys and services. What was changed, and the services that start anew."""
    lines, restarting = [], []
    gone: set[str] = set()
    while True:
        network, made = _network(engine, stack, options, progress, gone)
        lines += [*made, *keyring.ensure(engine, progress=progress)]
        identities = compose.Identities(
            networks={overlay.NETWORK: network}, secrets=keyring.identities(engine)
        )
        try:
            for spec in compose.service_specs(stack, STACK, identities):
                changed, restarts = _write(engine, spec, progress)
                lines += changed
                restarting += [spec["Name"]] if restarts else []
            return lines, restarting
        except overlay.NetworkGone as error:
            if error.identity in gone:
                raise
            gone.add(error.identity)


# -- what it should be -----------------------------------------------------------------------


def _stack(options: ControlPlane, variables: Mapping[str, str]) -> dict[str, Any]:
    files = ["compose.yaml", *(["compose.publish.yaml"] if options.publish else [])]
    return compose.load([packaged.text(name) for name in files], variables)


def _variables(
    engine: Engine, info: Mapping[str, Any], image: str, options: ControlPlane, node: str
) -> dict[str, str]:
    variables = {name: os.environ[name] for name in _SETTINGS if os.environ.get(name)}
    variables["FUNKER_IMAGE"] = image
    variables.setdefault("FUNKER_DOCKER_SOCKET", _socket(engine, info))
    if options.subnet:
        variables["FUNKER_SUBNET"] = options.subnet
    if options.publish:
        variables["FUNKER_PUBLISH"] = str(options.publish)
    if node:
        variables.setdefault("FUNKER_PLACEMENT", f"node.id=={node}")
    return variables


def _socket(engine: Engine, info: Mapping[str, Any]) -> str:
    """The engine's socket on its own host, as far as it can be known from here."""
    path = engine.host.removeprefix("unix://")
    # Docker Desktop's engine is in a machine of its own, where our socket is not.
    if path == engine.host or info.get("OperatingSystem") == "Docker Desktop":
        return _SOCKET
    return _SOCKET if os.path.realpath(path) == os.path.realpath(_SOCKET) else path


def _built(engine: Engine, options: ControlPlane, progress: Progress) -> str:
    """The ID of an image that is built for it, or its name by digest in the registry."""
    from funker.images import controller
    from funker.images.registry import push

    docker = engine.client
    built = controller.build(docker=docker, progress=progress, base=options.base or None)
    if options.registry:
        return push(built, options.registry, docker=docker, progress=progress)
    return built.id


def _resolved(engine: Engine, image: str, before: Iterable[Service], progress: Progress) -> str:
    """The image by digest where it has one, else by ID: a tag is looked up at each start."""
    if "@" in image:
        return image
    try:
        found = engine.api.inspect_image(image)
    except docker.errors.NotFound:
        progress(f"pulling {image}")
        try:
            engine.client.images.pull(image)
            found = engine.api.inspect_image(image)
        except docker.errors.APIError as exc:
            raise ImageMissing(
                f"{engine.host} has no image {image} and can't pull it: {exc.explanation}",
                hint="Leave --image out: then the image is built.",
            ) from exc
    running = {report.container(service)["Image"] for service in before}
    digests: list[str] = found.get("RepoDigests") or []
    for name in (*running, *digests):
        if name == found["Id"] or name in digests:
            return str(name)
    return str(found["Id"])


def _node(
    engine: Engine, image: str, info: Mapping[str, Any], before: Iterable[Service]
) -> tuple[str, str]:
    """The ID of the node that alone has the image, or nothing, and a warning about that."""
    here = str(info["Swarm"]["NodeID"])
    pinned = any(
        f"node.id=={here}"
        in (service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints", [])
        for service in before
    )
    spec = FunctionSpec(name="controller", image=image)
    where = placement.place(spec, engine.api.nodes(), builder=here, pinned=pinned)
    return where.node, where.warning


def _network(
    engine: Engine,
    stack: Mapping[str, Any],
    options: ControlPlane,
    progress: Progress,
    gone: set[str],
) -> tuple[str, list[str]]:
    """Its ID, and a line if it was made."""
    wanted = compose.subnet(stack)
    before = {network["Id"] for network in engine.api.networks()}
    identity = overlay.ensure(engine, subnet=wanted, progress=progress, without=gone)
    if identity not in before:
        return identity, [f"created the network {overlay.NETWORK}"]
    if options.subnet:
        configs = (engine.api.inspect_network(identity).get("IPAM") or {}).get("Config") or [{}]
        has = str(configs[0].get("Subnet") or "")
        if has and overlay.parse_subnet(wanted) != overlay.parse_subnet(has):
            raise NetworkUnusable(
                f"the network {overlay.NETWORK} has {has}, and that can't be changed",
                hint="Leave --subnet out; or remove what is on the network, `funker down`, and "
                "bring the controller up again.",
            )
    return identity, []


# -- what it is ------------------------------------------------------------------------------


def _write(engine: Engine, wanted: dict[str, Any], progress: Progress) -> tuple[list[str], bool]:
    """Creates or updates a service, or leaves it. What was changed; whether it starts anew."""
    store = Store(engine)
    name = wanted["Name"]
    before = store.named(name)
    if before is None:
        progress(f"creating the service {name}")
        store.create(wanted)
        return [f"created the service {name}"], False
    _check_owners([before])
    current = before["Spec"]
    force = current["TaskTemplate"].get("ForceUpdate")
    if force:  # resetting the count would itself restart it
        wanted["TaskTemplate"]["ForceUpdate"] = force
    if same(wanted, current):
        return [], False
    progress(f"updating the service {name}")
    store.update(before["ID"], wanted)
    restarts = not same(
        [rollout.comparable(wanted["TaskTemplate"]), wanted["EndpointSpec"]],
        [rollout.comparable(current["TaskTemplate"]), current.get("EndpointSpec")],
    )
    return [f"updated the service {name} ({_difference(wanted, current)})"], restarts


def _check_owners(services: Iterable[Service]) -> None:
    for service in services:
        name, stack = service["Spec"]["Name"], report.stack(service)
        if stack == STACK:
            continue
        if parts.is_part(service):
            raise NameTaken(
                f"a controller is up already: {name}, of the stack {stack or '(none)'}",
                hint=f"Take it down first (`funker down`), or change the stack {stack} with "
                "`docker stack deploy`.",
            )
        raise NameTaken(
            f"{name} is a service already, and not of the stack {STACK}",
            hint=f"Remove it (`docker service rm {name}`), or run the controller under another "
            "name: `docker stack deploy -c compose.yaml NAME`.",
        )


def _difference(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """In a few words what an update changes."""
    changed = []
    container = wanted["TaskTemplate"]["ContainerSpec"]
    before = current["TaskTemplate"].get("ContainerSpec") or {}
    if container["Image"] != before.get("Image"):
        changed.append("image")
    if not same(wanted["EndpointSpec"], current.get("EndpointSpec") or {}):
        ports = wanted["EndpointSpec"].get("Ports") or []
        changed.append(
            f"published on port {ports[0]['PublishedPort']}" if ports else "no longer published"
        )
    if not same(wanted["TaskTemplate"].get("Placement"), current["TaskTemplate"].get("Placement")):
        changed.append("placement")
    return ", ".join(changed) or "settings"


# -- away with it ----------------------------------------------------------------------------


def _remove_network(engine: Engine, progress: Progress) -> tuple[list[str], list[str]]:
    """What was removed, and what stays."""
    network = overlay.named(engine.api.networks(), overlay.NETWORK)
    if network is None or (network.get("Labels") or {}).get(STACK_LABEL) != STACK:
        return [], []
    on_it = [
        service["Spec"]["Name"]
        for service in engine.api.services()
        if network["Id"] in report.networks(service)
    ]
    if not on_it:
        progress(f"removing the network {overlay.NETWORK}")
        try:
            engine.api.remove_network(network["Id"])
            return [f"removed the network {overlay.NETWORK}"], []
        except docker.errors.NotFound:
            return [], []  # the engine still lists what the swarm has removed
        except docker.errors.APIError as exc:
            if "in use" not in str(exc.explanation):
                raise
            on_it = ["a container"]
    return [], [f"the network {overlay.NETWORK} stays: {_some(on_it)} may be using it"]


def _some(names: Sequence[str]) -> str:
    first = sorted(names)[:3]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
