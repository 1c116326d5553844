"""The control plane as the stack `funker`: brought up, compared, taken down.

What it is, compose.yaml says alone. `up` reads that file and writes the same services through the
API that `docker stack deploy` would, so either may follow the other.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import docker.errors

from funker import packaged
from funker.backends.base import (
    BackendError,
    ControlPlane,
    DeployFailed,
    ImageMissing,
    NameTaken,
    NetworkUnusable,
    Progress,
)
from funker.backends.swarm import compose, keyring, overlay, placement, report, rollout, servicelog
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import STACK_LABEL, Service
from funker.backends.swarm.service import same
from funker.backends.swarm.store import Store
from funker.spec import FunctionSpec

STACK = "funker"
#: On the containers (and so in the template) of each part, with the part's name.
PART_LABEL = "funker.control"

#: What may be set for compose.yaml by the environment, as for `docker stack deploy`.
_SETTINGS = ("FUNKER_SUBNET", "FUNKER_PLACEMENT", "FUNKER_DOCKER_SOCKET")
_SOCKET = "/var/run/docker.sock"
#: Seconds for the router to answer, and for the reconciler to tell it what there is.
_PATIENCE = 60.0
#: Ends of a part's containers after which it is given up.
_ENDS = 3
#: Lines of a part's output that an error shows.
_TAIL = 20


def up(engine: Engine, image: str, options: ControlPlane, progress: Progress) -> list[str]:
    """Makes the stack what it should be; returns when the router answers and knows the swarm.

    `image` is a name, a name by digest or an ID. What was changed, a line for each. Raises
    `BackendError`: `ImageMissing`, `SubnetClash`, `NetworkUnusable`, `NameTaken`,
    `MissingResource`, `NoNodeFits`, or `DeployFailed` with what a part that ended has written.
    """
    info = engine.require_manager()
    with engine.errors():
        before = _parts(engine)
        image = _resolved(engine, image, before, progress)
        node, warning = _node(engine, image, info, before)
        variables = _variables(engine, info, image, options, node)
        stack = _stack(options, variables)
        lines = []
        found = {network["Name"] for network in engine.api.networks()}
        gone: set[str] = set()
        while True:
            network = _network(engine, stack, options, progress, gone)
            if overlay.NETWORK not in found:
                found.add(overlay.NETWORK)
                lines.append(f"created the network {overlay.NETWORK}")
            lines += keyring.ensure(engine, progress=progress)
            identities = compose.Identities(
                networks={overlay.NETWORK: network}, secrets=keyring.identities(engine)
            )
            wanted = compose.service_specs(stack, STACK, identities)
            import importlib.util

            if importlib.util.find_spec("funker.controller.reconciler") is None:
                wanted = [spec for spec in wanted if not spec["Name"].endswith("reconciler")]
            try:
                for spec in wanted:
                    lines += _write(engine, spec, progress)
                break
            except overlay.NetworkGone as error:
                if error.identity in gone:
                    raise
                gone.add(error.identity)
                found.discard(overlay.NETWORK)
        _wait(engine, [spec["Name"] for spec in wanted], progress)
    return [*lines, warning] if lines and warning else lines


def down(engine: Engine, progress: Progress) -> list[str]:
    """Removes the services, and the network and the keys unless functions need them.

    What was changed and what stays, a line for each; nothing if there was nothing.
    """
    engine.require_manager()
    store = Store(engine)
    lines = []
    parts = _parts(engine)
    for name, service in parts.items():
        progress(f"removing the service {name}")
        store.remove(service, progress=progress)
        lines.append(f"removed the service {name}")
    with engine.errors():
        lines += _remove_network(engine, progress)
        if not keyring.identities(engine):
            return lines
        if users := keyring.users(engine):
            return [*lines, f"the keys stay: {_some(users)} may be using them"] if parts else lines
        return [*lines, *keyring.remove(engine)]


def anchor(engine: Engine) -> str:
    """The ID of the anchor's container on this engine; empty if there is none."""
    with engine.errors():
        filters = {"label": f"{PART_LABEL}=anchor", "status": "running"}
        containers = engine.api.containers(filters=filters)
    newest = max(containers, key=lambda container: int(container["Created"]), default=None)
    return str(newest["Id"]) if newest else ""


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


def _resolved(engine: Engine, image: str, before: Mapping[str, Service], progress: Progress) -> str:
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
    running = {report.container(service)["Image"] for service in before.values()}
    digests: list[str] = found.get("RepoDigests") or []
    for name in (*running, *digests):
        if name == found["Id"] or name in digests:
            return str(name)
    return str(found["Id"])


def _node(
    engine: Engine, image: str, info: Mapping[str, Any], before: Mapping[str, Service]
) -> tuple[str, str]:
    """The ID of the node that alone has the image, or nothing, and a warning about that."""
    here = str(info["Swarm"]["NodeID"])
    pinned = any(
        f"node.id=={here}"
        in (service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints", [])
        for service in before.values()
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
) -> str:
    wanted = compose.subnet(stack)
    identity = overlay.ensure(engine, subnet=wanted, progress=progress, without=gone)
    if options.subnet:
        configs = (engine.api.inspect_network(identity).get("IPAM") or {}).get("Config") or [{}]
        has = str(configs[0].get("Subnet") or "")
        if has and overlay.parse_subnet(wanted) != overlay.parse_subnet(has):
            raise NetworkUnusable(
                f"the network {overlay.NETWORK} has {has}, and that can't be changed",
                hint="Leave --subnet out; or remove what is on the network, `funker down`, and "
                "bring the controller up again.",
            )
    return identity


# -- what it is ------------------------------------------------------------------------------


def _parts(engine: Engine) -> dict[str, Service]:
    """The controller's services by name, of whatever stack."""
    with engine.errors():
        services: list[Service] = engine.api.services()
    found = [
        service
        for service in services
        if PART_LABEL in (report.container(service).get("Labels") or {})
    ]
    return {service["Spec"]["Name"]: service for service in found}


def _write(engine: Engine, wanted: dict[str, Any], progress: Progress) -> list[str]:
    """Creates or updates a service, or leaves it; what was changed."""
    store = Store(engine)
    name = wanted["Name"]
    before = store.named(name)
    if before is None:
        progress(f"creating the service {name}")
        store.create(wanted)
        return [f"created the service {name}"]
    _check_owner(before)
    current = before["Spec"]
    force = current["TaskTemplate"].get("ForceUpdate")
    if force:  # resetting the count would itself restart it
        wanted["TaskTemplate"]["ForceUpdate"] = force
    if same(wanted, current):
        return []
    progress(f"updating the service {name}")
    store.update(before["ID"], wanted)
    return [f"updated the service {name} ({_difference(wanted, current)})"]


def _check_owner(service: Service) -> None:
    name = service["Spec"]["Name"]
    if report.stack(service) != STACK:
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


# -- waiting ---------------------------------------------------------------------------------


def _wait(engine: Engine, names: Sequence[str], progress: Progress) -> None:
    """Until all parts run, the router answers, and the reconciler has told it what there is."""
    store = Store(engine)
    watched = []
    for name in names:
        service = store.existing(name)
        template = service["Spec"]["TaskTemplate"]
        watch = rollout.Rollout(name=name, template=template, wanted=1, started=time.monotonic())
        watched.append((service, watch))
        try:
            rollout.wait_for_tasks(
                watch, functools.partial(_tasks, engine, service), progress=progress
            )
        except DeployFailed as error:
            raise _failed(engine, service, error.message) from error
        except BackendError as error:
            error.hint = f"{error.hint} `funker up` again goes on from here."
            raise
    progress("waiting for the router's answer")
    give_up = time.monotonic() + _PATIENCE
    while True:
        answer = _ask(engine)
        if answer is not None and answer.get("snapshot_age_s", 0) is not None:
            return
        for service, watch in watched:
            watch.look(_tasks(engine, service), time.monotonic())
            if len(watch.ended) >= _ENDS:
                raise _failed(engine, service, f"{watch.name} ends again and again")
        if time.monotonic() > give_up:
            late = "reconciler" if answer is not None else "router"
            service = next(s for s, watch in watched if watch.name.endswith(late))
            words = "tells the router nothing" if answer is not None else "runs, but doesn't answer"
            raise _failed(engine, service, f"{STACK}_{late} {words}")
        time.sleep(rollout.POLL)


def _tasks(engine: Engine, service: Service) -> list[rollout.Task]:
    tasks: list[rollout.Task] = engine.api.tasks(filters={"service": service["ID"]})
    return tasks


def _failed(engine: Engine, service: Service, message: str) -> DeployFailed:
    name = service["Spec"]["Name"]
    lines = servicelog.read(engine, service, follow=False, tail=_TAIL, since=None, timestamps=False)
    return DeployFailed(
        message,
        hint=f"See `docker service ps --no-trunc {name}`. `funker up` again goes on from here, "
        "`funker down` removes what there is.",
        output_tail="\n".join(line.text for line in lines),
    )


_ASK = """
import json, os, sys, zmq
from funker.rpc.keys import ROUTER_NAME, ROUTER_PORT, client_keys, secure
from funker.rpc.messages import Query, decode, encode

dealer = zmq.Context().socket(zmq.DEALER)
dealer.linger = 0
secure(dealer, client_keys(os.environ))
dealer.connect(f"tcp://{ROUTER_NAME}:{ROUTER_PORT}")
dealer.send_multipart(encode(Query(number=1, what="status")))
if dealer.poll(2000):
    sys.stdout.write(decode(dealer.recv_multipart()).body.decode())
"""


def _ask(engine: Engine) -> dict[str, Any] | None:
    """The router's status, asked from the anchor; None if there is no answer."""

    container = anchor(engine)
    if not container:
        return None
    try:
        made = engine.api.exec_create(container, ["python3", "-c", _ASK], stderr=False)
        answer = engine.api.exec_start(made["Id"])
    except docker.errors.APIError as exc:
        if exc.status_code in (404, 409):  # it has just ended: another one follows
            return None
        raise
    return dict(json.loads(answer)) if answer else None


# -- away with it ----------------------------------------------------------------------------


def _remove_network(engine: Engine, progress: Progress) -> list[str]:
    network = overlay.named(engine.api.networks(), overlay.NETWORK)
    if network is None or (network.get("Labels") or {}).get(STACK_LABEL) != STACK:
        return []
    on_it = [
        service["Spec"]["Name"]
        for service in engine.api.services()
        if network["Id"] in report.networks(service)
    ]
    if not on_it:
        progress(f"removing the network {overlay.NETWORK}")
        try:
            engine.api.remove_network(network["Id"])
            return [f"removed the network {overlay.NETWORK}"]
        except docker.errors.APIError as exc:
            if "in use" not in str(exc.explanation):
                raise
            on_it = ["a container"]
    return [f"the network {overlay.NETWORK} stays: {_some(on_it)} may be using it"]


def _some(names: Sequence[str]) -> str:
    first = sorted(names)[:3]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
