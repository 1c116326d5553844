"""What a function shall be, as one frozen value: every backend deploys from a `FunctionSpec`.

A spec says nothing about how a backend does it. Mistakes are found here, before anything is
built or deployed, and are `SpecError` with the field and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from funker.spec.attachments import Config, Mount, Network, Secret, Value
from funker.spec.policy import CallPolicy, ScalePolicy, Ulimit, parse_ulimits
from funker.spec.values import (
    SpecError,
    check_constraint,
    check_name,
    parse_duration,
    parse_env,
    parse_env_file,
    parse_pair,
    parse_size,
)

__all__ = [
    "CallPolicy",
    "Config",
    "FunctionSpec",
    "Mount",
    "Network",
    "ScalePolicy",
    "Secret",
    "SpecError",
    "check_name",
    "isolating",
    "parse_duration",
    "parse_env",
    "parse_env_file",
    "parse_pair",
    "parse_size",
    "parse_ulimits",
]

#: Marks a service as a function, whoever made it.
FUNCTION_LABEL = "funker.function"
#: Holds the name for people of an image that is deployed by its digest or ID.
IMAGE_LABEL = "funker.image"

#: Seconds that a handler may run unless its function says otherwise.
DEFAULT_TIMEOUT = 60.0
#: Seconds beyond its time-out that a replica may take to leave: 40 s holding an outcome until
#: it is acknowledged, and 5 s for the rest.
GRACE = 45.0
#: The longest time-out: a day. The swarm counts the grace period in 64-bit nanoseconds, but a
#: replica that may take longer than this to leave makes every update hang.
MAX_TIMEOUT = 86_400.0

_MIN_MEMORY = 6 * 1024 * 1024  # the engine refuses less
_RESERVED_LABELS = ("funker.", "com.docker.")
_RESERVED_ENV = {
    "FUNKER_FUNCTION": "the service's name is the function's identity",
    "FUNKER_NODE": "it tells the replica where it runs",
    "FUNKER_REPLICA": "it tells the replica which one it is",
    "FUNKER_ALIASES": "use `--network name=NETWORK,alias=NAME`",
    "FUNKER_TIMEOUT": "use `--timeout`",
    "FUNKER_HANDLER": "use `--handler`",
    "FUNKER_MAX_BODY": "use `--max-body`",
    "FUNKER_ISOLATION": "use `--isolation`",
    "FUNKER_SLOTS": "use `--slots`",
    "FUNKER_ULIMITS": "use `--ulimit`",
}

Seconds = Annotated[float, BeforeValidator(lambda value: parse_duration(value, field="timeout"))]


def _size(field: str) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else parse_size(value, field=field))


class FunctionSpec(Value):
    """One function: a name, an image and how it shall run.

    Fields take Docker's spellings too (`timeout="1m"`, `limit_memory="64m"`).
    Raises `SpecError`.
    """

    #: The service's name and the function's identity.
    name: str
    #: What the swarm runs: `sha256:...` (a local image) or `repository@sha256:...`. Never a tag,
    #: which would be looked up at every start of a task.
    image: str
    #: The image's name for people, kept as a label.
    image_name: str = ""
    #: `os/architecture` of the image, so that no other node is considered. Empty: any.
    platform: str = ""
    #: Seconds that a handler may run.
    timeout: Seconds = Field(default=DEFAULT_TIMEOUT, gt=0, le=MAX_TIMEOUT)
    #: Replicas that shall run: all that ever do, or with `scale` those to begin with.
    replicas: int = Field(default=1, ge=0, le=10_000)
    #: Lets the autoscaler choose their number. None: it stays what it is.
    scale: ScalePolicy | None = None
    calls: CallPolicy = CallPolicy()
    #: What is fresh for each call: its container, or its process in a standing container.
    isolation: Literal["container", "process"] = "container"
    #: Calls that one replica runs at once, with `isolation: process`. None: one for each CPU.
    slots: int | None = Field(default=None, ge=1, le=1024)
    #: Limits of the process that runs a call, by Docker's names: `as` (bytes), `cpu` (seconds),
    #: `fsize` (bytes), `nofile`, `nproc`.
    ulimits: dict[Ulimit, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    configs: tuple[Config, ...] = ()
    mounts: tuple[Mount, ...] = ()
    networks: tuple[Network, ...] = ()
    constraints: tuple[str, ...] = ()
    #: CPUs, like 0.5.
    limit_cpu: float | None = Field(default=None, gt=0)
    #: Bytes.
    limit_memory: Annotated[int | None, _size("limit-memory")] = None
    reserve_memory: Annotated[int | None, _size("reserve-memory")] = None
    #: Labels of the service (not of its containers): changing them restarts nothing.
    labels: dict[str, str] = Field(default_factory=dict)
    #: Mount the image read-only, with a tmpfs on /tmp.
    read_only: bool = False
    #: `module:callable`. Empty: what the image says.
    handler: str = ""
    #: Bytes of the largest body. None: the protocol's default.
    max_body: Annotated[int | None, _size("max-body")] = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_sound(self) -> FunctionSpec:
        check_name(self.name)
        self._check_image()
        self._check_variables()
        self._check_memory()
        for constraint in self.constraints:
            check_constraint(constraint)
        for label in self.labels:
            if label.startswith(_RESERVED_LABELS):
                raise SpecError(
                    "label",
                    f"{label} is set by deploying",
                    hint="Leave it out; what Funker's labels say has flags, like `--min`.",
                )
        if self.slots is not None and self.isolation != "process":
            raise SpecError(
                "slots",
                "a replica with isolation `container` runs one call",
                hint="Give `--isolation process`, or leave it out.",
            )
        targets = [mount.target for mount in self.mounts]
        for target in targets:
            if targets.count(target) > 1:
                raise SpecError("mount", f"{target} is mounted twice", hint="Leave one out.")
        return self

    @property
    def aliases(self) -> tuple[str, ...]:
        """The function's other names on its networks, sorted, each once."""
        return tuple(sorted({alias for network in self.networks for alias in network.aliases}))

    @property
    def stop_grace(self) -> float:
        """Seconds between the swarm's SIGTERM and its SIGKILL."""
        return self.timeout + GRACE

    def _check_image(self) -> None:
        if "sha256:" not in self.image:
            raise SpecError(
                "image",
                f'"{self.image}" is no digest',
                hint="Give an image ID (`sha256:...`) or a pushed reference (`name@sha256:...`).",
            )
        if self.platform and self.platform.count("/") not in (1, 2):
            raise SpecError("platform", f'"{self.platform}" isn\'t like `linux/amd64`')

    def _check_variables(self) -> None:
        for name in self.env:
            if name in _RESERVED_ENV:
                raise SpecError("env", f"{name} is set by deploying", hint=_RESERVED_ENV[name])
            if not name or "=" in name or "\0" in name + self.env[name]:
                raise SpecError("env", f"{name!r} can't name a variable")

    def _check_memory(self) -> None:
        limit, reserve = self.limit_memory, self.reserve_memory
        if limit is not None and limit < _MIN_MEMORY:
            raise SpecError("limit-memory", f"{limit} bytes are too few", hint="Give at least 6m.")
        if limit is not None and reserve is not None and reserve > limit:
            raise SpecError(
                "reserve-memory",
                f"{reserve} bytes are more than the limit of {limit}",
                hint="Reserve less, or raise `--limit-memory`.",
            )

    def changed(self, **fields: Any) -> FunctionSpec:
        """The same spec with other values in these fields, checked again."""
        return type(self)(**{**dict(self), **fields})


def isolating(spec: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a replica that say what is fresh for each call, and its limits.

    `spec` has the fields of a `FunctionSpec`, or those of one of an older version. There is none
    for what is the default: what needn't be said mustn't restart anything.
    """
    variables = {}
    if spec.get("isolation", "container") != "container":
        variables["FUNKER_ISOLATION"] = str(spec["isolation"])
    if spec.get("slots") is not None:
        variables["FUNKER_SLOTS"] = str(spec["slots"])
    if limits := spec.get("ulimits"):
        pairs = sorted(limits.items())
        variables["FUNKER_ULIMITS"] = ",".join(f"{name}={value}" for name, value in pairs)
    return variables
