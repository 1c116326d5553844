"""What a service lacks to be a good function, with the lines for its stack file. Pure.

Services that `deploy` made lack nothing; those of stack files and of `docker service create`
often have Docker's defaults, under which calls are lost or wait for seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from funker.backends.swarm.service import NANOSECONDS
from funker.spec import DEFAULT_TIMEOUT, GRACE, SpecError
from funker.spec.values import parse_duration

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
    attachments = template.get("Networks") or spec.get("Networks") or []
    aliases = {alias for net in attachments for alias in net.get("Aliases") or []}
    told = {alias.strip() for alias in environment.get("FUNKER_ALIASES", "").split(",")}
    # A replica of `shop_add` knows by itself that its stack calls it `add`.
    told |= {alias for alias in aliases if str(spec.get("Name") or "").endswith(f"_{alias}")}
    lines = [f'  {name}: "{value}"' for name, value in wanted.items() if name not in environment]
    if aliases - told:
        lines.append(f'  FUNKER_ALIASES: "{",".join(sorted(aliases))}"')
    if lines:
        yield Advice(
            "replicas aren't told their names" + (" and aliases" if aliases - told else ""),
            "\n".join(["environment:", *lines]),
            serious=False,
        )
