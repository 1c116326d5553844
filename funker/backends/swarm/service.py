"""A `FunctionSpec` as the swarm's service spec, and back. Pure.

The rules of a function's service, each with its reason:

- The template depends on the spec alone and in a fixed order, so that the same spec never
  restarts a task. What may change without a restart stands outside of it: labels and replicas.
- Restart on any end, at once and for ever: a replica exits after each call. (An unset delay is
  5 s; a small one other than zero costs a retry of 1 s.)
- `dnsrr`: a virtual IP would send calls to replicas that are busy.
- The image by digest or ID: a tag is looked up at every start of a task.
- No health check, volume or log driver: each costs time at every start.
- A stop grace that lets a call run out and its outcome be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from funker.backends import policies
from funker.spec import FUNCTION_LABEL, IMAGE_LABEL, FunctionSpec, isolating
from funker.spec.attachments import Mount
from funker.spec.values import check_constraint

NANOSECONDS = 1_000_000_000

#: Replicas that an update replaces at a time: more would fight for the engine's attention.
_UPDATE_PARALLELISM = 4

RESTART = {"Condition": "any", "Delay": 0, "MaxAttempts": 0}

#: With ndots:1 a bare name that no service has is answered by the engine itself, in 0.1 ms.
#: Docker's default, ndots:0, sends it to the node's resolver, which may be slow or dead.
DNS = {"Options": ["ndots:1"]}

UPDATE = {
    "Parallelism": _UPDATE_PARALLELISM,
    "Delay": 0,
    # A replica that answered a call while it was watched would count as a failed update.
    "FailureAction": "continue",
    "MaxFailureRatio": 0,
    # The new ones are up before the old ones go: a deploy is no outage.
    "Order": "start-first",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The swarm's IDs for what a spec names, and where it may run."""

    #: Network name to ID, in the order of joining.
    networks: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    #: The node that alone has the image, or nothing.
    node: str = ""


def service_spec(spec: FunctionSpec, around: Surroundings) -> dict[str, Any]:
    """The whole service as the Docker API takes it."""
    return {
        "Name": spec.name,
        "Labels": labels(spec),
        "TaskTemplate": task_template(spec, around),
        "Mode": {"Replicated": {"Replicas": spec.replicas}},
        "UpdateConfig": UPDATE,
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def labels(spec: FunctionSpec) -> dict[str, str]:
    """The service's labels: the user's, its policies, and those that make it a function."""
    own = {FUNCTION_LABEL: "true", **policies.labels(spec)}
    if spec.image_name:
        own[IMAGE_LABEL] = spec.image_name
    return dict(sorted({**spec.labels, **own}.items()))


def task_template(spec: FunctionSpec, around: Surroundings) -> dict[str, Any]:
    """What every task of the service is started from. A change here restarts all of them."""
    return {
        "ContainerSpec": _container(spec, around),
        "Resources": _resources(spec),
        "RestartPolicy": RESTART,
        "Placement": _placement(spec, around),
        "Networks": _networks(spec, around),
    }


def environment(spec: FunctionSpec) -> dict[str, str]:
    """The variables of a replica: what its front needs to know, and the user's."""
    variables = {
        "FUNKER_FUNCTION": "{{.Service.Name}}",
        "FUNKER_NODE": "{{.Node.Hostname}}",
        "FUNKER_REPLICA": "{{.Task.Name}}",
        "FUNKER_TIMEOUT": f"{spec.timeout:g}",
        **spec.env,
    }
    if spec.aliases:
        variables["FUNKER_ALIASES"] = ",".join(spec.aliases)
    if spec.handler:
        variables["FUNKER_HANDLER"] = spec.handler
    if spec.max_body is not None:
        variables["FUNKER_MAX_BODY"] = str(spec.max_body)
    return variables | isolating(dict(spec))


def same(one: Any, other: Any) -> bool:
    """Whether two specs mean the same: what is absent, empty, zero or false is one and the same.

    The engine adds such values to what it is given, and leaves others out.
    """
    return bool(_bare(one) == _bare(other))


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        bare = {key: _bare(item) for key, item in value.items() if key not in _ENGINES_OWN}
        return {key: item for key, item in bare.items() if item not in (None, "", 0, {}, [])}
    if isinstance(value, list | tuple):
        return [_bare(item) for item in value]
    return value


#: What the engine fills in by itself. `ForceUpdate` counts restarts that somebody asked for.
_ENGINES_OWN = {"Runtime", "Isolation", "ForceUpdate", "RollbackConfig", "Monitor"}


def _container(spec: FunctionSpec, around: Surroundings) -> dict[str, Any]:
    container: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in sorted(environment(spec).items())],
        "StopGracePeriod": round(spec.stop_grace * NANOSECONDS),
        "DNSConfig": DNS,
        # The images have an init of their own (tini), which starts sooner than a second one.
        "Init": False,
        # One that the image brings along would delay each start.
        "Healthcheck": {"Test": ["NONE"]},
    }
    mounts = [_mount(mount) for mount in spec.mounts]
    if spec.read_only:
        container["ReadOnly"] = True
        if not any(mount.target == "/tmp" for mount in spec.mounts):  # noqa: S108 - theirs
            mounts.append({"Type": "tmpfs", "Target": "/tmp"})  # noqa: S108
    if mounts:
        container["Mounts"] = sorted(mounts, key=lambda mount: str(mount["Target"]))
    if spec.secrets:
        container["Secrets"] = [
            {
                "SecretID": around.secrets[secret.source],
                "SecretName": secret.source,
                "File": _file(secret.target, secret.uid, secret.gid, secret.mode),
            }
            for secret in sorted(spec.secrets, key=lambda secret: secret.target)
        ]
    if spec.configs:
        container["Configs"] = [
            {
                "ConfigID": around.configs[config.source],
                "ConfigName": config.source,
                "File": _file(config.target, config.uid, config.gid, config.mode),
            }
            for config in sorted(spec.configs, key=lambda config: config.target)
        ]
    return container


def _file(target: str, uid: str, gid: str, mode: int) -> dict[str, Any]:
    return {"Name": target, "UID": uid, "GID": gid, "Mode": mode}


def _mount(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {"Type": mount.type, "Target": mount.target}
    if mount.source:
        made["Source"] = mount.source
    if mount.read_only:
        made["ReadOnly"] = True
    match mount.type:
        case "tmpfs" if mount.tmpfs_size is not None or mount.tmpfs_mode is not None:
            options = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode}
            made["TmpfsOptions"] = {k: v for k, v in options.items() if v is not None}
        case "volume" if mount.volume_driver or mount.volume_options or mount.volume_nocopy:
            driver = {"Name": mount.volume_driver, "Options": mount.volume_options}
            made["VolumeOptions"] = {"NoCopy": mount.volume_nocopy, "DriverConfig": driver}
        case "bind" if mount.bind_propagation:
            made["BindOptions"] = {"Propagation": mount.bind_propagation}
    return made


def _resources(spec: FunctionSpec) -> dict[str, Any]:
    limits: dict[str, int] = {}
    if spec.limit_cpu is not None:
        limits["NanoCPUs"] = round(spec.limit_cpu * NANOSECONDS)
    if spec.limit_memory is not None:
        limits["MemoryBytes"] = spec.limit_memory
    resources: dict[str, Any] = {"Limits": limits} if limits else {}
    if spec.reserve_memory is not None:
        resources["Reservations"] = {"MemoryBytes": spec.reserve_memory}
    return resources


def _placement(spec: FunctionSpec, around: Surroundings) -> dict[str, Any]:
    placement: dict[str, Any] = {}
    constraints = {check_constraint(constraint) for constraint in spec.constraints}
    if around.node:
        constraints.add(f"node.id=={around.node}")
    if constraints:
        placement["Constraints"] = sorted(constraints)
    if spec.platform:
        system, architecture, *_ = spec.platform.split("/")
        placement["Platforms"] = [{"OS": system, "Architecture": architecture}]
    return placement


def _networks(spec: FunctionSpec, around: Surroundings) -> list[dict[str, Any]]:
    aliases = {network.name: sorted(network.aliases) for network in spec.networks}
    attachments = []
    for name, identity in around.networks.items():
        attachment: dict[str, Any] = {"Target": identity}
        if aliases.get(name):
            attachment["Aliases"] = aliases[name]
        attachments.append(attachment)
    return attachments
