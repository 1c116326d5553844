"""What a service lacks to be a good function, with the lines for its stack file. Pure.

Services that `deploy` made lack nothing; those of stack files and of `docker service create`
often have Docker's defaults, under which calls are lost or wait for seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from funker.backends.swarm.service import NANOSECONDS
from funker.rpc.keys import CLIENT_FILE
from funker.spec import DEFAULT_TIMEOUT, GRACE, SpecError
from funker.spec.values import parse_duration

#: The secret with which replicas join the router and functions call through it.
CLIENT_SECRET = CLIENT_FILE.rpartition("/")[2]
#: The network on which the router is.
_NETWORK = "funker"

#: The engine's, where a service says nothing.
_DEFAULT_GRACE = 10.0
_DEFAULT_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Advice:
    """One setting that should be another."""

    problem: str
    #: To be merged into the service in its stack file.
    lines: str
    #: Whether calls suffer from it, so that lists show it too.
    serious: bool

    def shown(self) -> dict[str, object]:
        return asdict(self)


def advise(spec: Mapping[str, Any]) -> list[Advice]:
    """Advice for a service spec as the Docker API has it."""
    template = spec.get("TaskTemplate") or {}
    return [
        *_grace(template.get("ContainerSpec") or {}),
        *_restart(template.get("RestartPolicy") or {}),
        *_endpoint(spec.get("EndpointSpec") or {}),
        *_update(spec.get("UpdateConfig") or {}),
        *_container(template.get("ContainerSpec") or {}),
        *_names(spec, template),
    ]


def advise_joining(spec: Mapping[str, Any], networks: Collection[str]) -> list[Advice]:
    """Advice for a service whose replicas could join the router, and don't.

    `networks` has the IDs of the network `funker`; that the swarm has the secret is given.
    """
    environment = variables(_container_of(spec))
    if is_routed(spec, networks) or environment.get("FUNKER_ROUTER") == "direct":
        return []
    lacks_network = not joined(spec) & set(networks)
    lacks_key = not _has_key(spec)
    lacking = [*(["its network"] if lacks_network else []), *(["its key"] if lacks_key else [])]
    problem = f"replicas can't join the router: they lack {' and '.join(lacking)}"
    if not (spec.get("Labels") or {}).get("com.docker.stack.namespace"):
        flags = [
            *([f"--network-add {_NETWORK}"] if lacks_network else []),
            *([f"--secret-add {CLIENT_SECRET}"] if lacks_key else []),
        ]
        lines = f"docker service update {' '.join(flags)} {spec.get('Name')}"
    else:
        own, top = [], ["# and at the end of the file"]
        if lacks_network:
            own.append(f"networks: [{_NETWORK}]")
            top.append(f"networks:\n  {_NETWORK}:\n    external: true")
        if lacks_key:
            own.append(f"secrets: [{CLIENT_SECRET}]")
            top.append(f"secrets:\n  {CLIENT_SECRET}:\n    external: true")
        lines = "\n".join([*own, *top])
    return [Advice(problem, lines, serious=False)]


def is_routed(spec: Mapping[str, Any], networks: Collection[str]) -> bool:
    """Whether its replicas can join the router: key and network are there, and nobody forbids it.

    `networks` has the IDs of the network `funker`.
    """
    forbidden = variables(_container_of(spec)).get("FUNKER_ROUTER") == "direct"
    return _has_key(spec) and bool(joined(spec) & set(networks)) and not forbidden


def joined(spec: Mapping[str, Any]) -> set[str]:
    """The IDs of a service's networks."""
    return {str(attachment["Target"]) for attachment in attachments(spec)}


def aliases(spec: Mapping[str, Any]) -> set[str]:
    """The names on its networks, and those that its variables tell its replicas."""
    told = variables(_container_of(spec)).get("FUNKER_ALIASES", "").split(",")
    return _network_aliases(spec) | {alias.strip() for alias in told if alias.strip()}


def timeout_of(container: Mapping[str, Any]) -> float:
    """Seconds that the handler may run, as the service's variables say."""
    text = variables(container).get("FUNKER_TIMEOUT", "")
    try:
        return parse_duration(text) if text else DEFAULT_TIMEOUT
    except SpecError:
        return DEFAULT_TIMEOUT  # the replica refuses it, and says so


def grace_of(container: Mapping[str, Any]) -> float:
    """Seconds between SIGTERM and SIGKILL."""
    grace = container.get("StopGracePeriod")
    return _DEFAULT_GRACE if grace is None else grace / NANOSECONDS


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a container spec."""
    pairs = (item.partition("=") for item in container.get("Env") or [])
    return {name: value for name, _, value in pairs}


def _container_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}


def attachments(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its networks. (They are in the spec itself in old services.)"""
    return (spec.get("TaskTemplate") or {}).get("Networks") or spec.get("Networks") or []


def _network_aliases(spec: Mapping[str, Any]) -> set[str]:
    return {alias for each in attachments(spec) for alias in each.get("Aliases") or []}


def _has_key(spec: Mapping[str, Any]) -> bool:
    container = _container_of(spec)
    files = {(item.get("File") or {}).get("Name") for item in container.get("Secrets") or []}
    return bool(files & {CLIENT_SECRET, CLIENT_FILE}) or "FUNKER_KEY_FILE" in variables(container)


def _grace(container: Mapping[str, Any]) -> Iterator[Advice]:
    wanted = timeout_of(container) + GRACE
    grace = grace_of(container)
    if grace < wanted:
        yield Advice(
            f"stop_grace_period is {grace:g}s: an update or a drain kills calls that may run "
            f"for {wanted - GRACE:g}s",
            f"stop_grace_period: {wanted:g}s",
            serious=True,
        )


def _restart(policy: Mapping[str, Any]) -> Iterator[Advice]:
    condition = policy.get("Condition") or "any"
    delay = policy.get("Delay")
    seconds = _DEFAULT_DELAY if delay is None else delay / NANOSECONDS
    attempts = policy.get("MaxAttempts") or 0
    if condition == "any" and not seconds and not attempts:
        return
    if condition != "any":
        problem = f'restart condition is "{condition}": a replica isn\'t replaced after its call'
    elif attempts:
        problem = f"restarts end after {attempts} attempts, and a replica needs one for each call"
    else:
        problem = f"a replica waits {seconds:g}s before it is ready for its next call"
    yield Advice(
        problem,
        "deploy:\n  restart_policy:\n    condition: any\n    delay: 0s",
        serious=True,
    )


def _endpoint(endpoint: Mapping[str, Any]) -> Iterator[Advice]:
    if (endpoint.get("Mode") or "vip") != "dnsrr":
        yield Advice(
            "endpoint mode is vip: callers that don't ask for `tasks.NAME` meet busy replicas",
            "deploy:\n  endpoint_mode: dnsrr",
            serious=False,
        )


def _update(update: Mapping[str, Any]) -> Iterator[Advice]:
    order = update.get("Order") or "stop-first"
    action = update.get("FailureAction") or "pause"
    if order != "start-first" or action == "pause":
        yield Advice(
            f"updates are {order} and on a failure {action}: there are pauses without replicas, "
            "and a replica that answers a call during an update counts as a failure",
            "deploy:\n  update_config:\n    order: start-first\n    failure_action: continue",
            serious=False,
        )


def _container(container: Mapping[str, Any]) -> Iterator[Advice]:
    image = str(container.get("Image") or "")
    if "sha256:" not in image:
        yield Advice(
            f"image {image} is a tag, which is looked up at each start of a replica",
            f"image: {image.partition('@')[0]}@sha256:...",
            serious=False,
        )
    if (container.get("Healthcheck") or {}).get("Test") not in (None, [], ["NONE"]):
        yield Advice(
            "a health check delays each start of a replica",
            "healthcheck:\n  disable: true",
            serious=False,
        )


def _names(spec: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[Advice]:
    environment = variables(template.get("ContainerSpec") or {})
    wanted = {
        "FUNKER_FUNCTION": "{{.Service.Name}}",
        "FUNKER_NODE": "{{.Node.Hostname}}",
        "FUNKER_REPLICA": "{{.Task.Name}}",
    }
    listed = _network_aliases(spec)
    told = {alias.strip() for alias in environment.get("FUNKER_ALIASES", "").split(",")}
    # A replica of `shop_add` knows by itself that its stack calls it `add`.
    told |= {alias for alias in listed if str(spec.get("Name") or "").endswith(f"_{alias}")}
    lines = [f'  {name}: "{value}"' for name, value in wanted.items() if name not in environment]
    if listed - told:
        lines.append(f'  FUNKER_ALIASES: "{",".join(sorted(listed))}"')
    if lines:
        yield Advice(
            "replicas aren't told their names" + (" and aliases" if listed - told else ""),
            "\n".join(["environment:", *lines]),
            serious=False,
        )
