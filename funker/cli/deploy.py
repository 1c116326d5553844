"""`funker deploy`: a directory, or an image that exists, becomes a running function."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli import images, options, policies, terminal
from funker.cli.failures import UsageError
from funker.cli.output import Format, as_json, as_yaml
from funker.cli.session import Session
from funker.cli.signature import example

if TYPE_CHECKING:
    from funker.backends.base import Deployment
    from funker.images.source import Source
    from funker.spec import FunctionSpec

#: Takes an image's place while the flags are checked, before anything is built.
_NO_IMAGE = "sha256:" + "0" * 64


def deploy(
    command: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="SRC",
            help="A directory, a .py file, or a git address (with --image: the name).",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name, else the directory's.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Deploy this image of a function, build nothing."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "-e", "--env", metavar="NAME=VALUE", help="Set a variable; NAME alone: as here."
        ),
    ] = None,
    env_file: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Read variables from a file.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="SECRET", help="A swarm secret: NAME, or source=...,target=..."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="CONFIG", help="A swarm config: NAME, or source=...,target=..."),
    ] = None,
    mount: Annotated[
        list[str] | None,
        typer.Option(metavar="MOUNT", help="type=bind|volume|tmpfs,source=...,target=..."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Another network: NAME, or name=...,alias=..."),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(metavar="CONSTRAINT", help="Where it may run: node.labels.disk==ssd"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("-l", "--label", metavar="NAME=VALUE", help="A service label."),
    ] = None,
    limit_cpu: Annotated[
        float | None, typer.Option(metavar="CPUS", help="At most so many CPUs: 0.5.")
    ] = None,
    limit_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="At most so much memory: 64m.")
    ] = None,
    reserve_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Only where so much memory is free.")
    ] = None,
    replicas: policies.Replicas = None,
    min: policies.Min = None,  # as the flag
    max: policies.Max = None,
    idle: policies.Idle = None,
    headroom: policies.Headroom = None,
    retries: policies.Retries = None,
    retry_backoff: policies.RetryBackoff = None,
    idempotent: policies.Idempotent = False,
    max_inflight: policies.MaxInflight = None,
    isolation: policies.IsolationOption = None,
    slots: policies.Slots = None,
    ulimit: policies.Ulimit = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_TIMEOUT", metavar="DURATION", help="How long a call may run, else 60s."
        ),
    ] = None,
    max_body: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The largest body, else 16m.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Read-only files, with a tmpfs on /tmp.")
    ] = False,
    handler: options.Handler = None,
    runtime: options.Runtime = None,
    program: options.Program = None,
    update: options.Update = False,
    base: options.Base = None,
    registry: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_REGISTRY",
            metavar="HOST[/PATH]",
            help="Push the image there, so that every node can run it.",
        ),
    ] = None,
    subnet: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_SUBNET",
            metavar="CIDR",
            help="Addresses of the network `funker`, when this deploy makes it.",
        ),
    ] = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Deploy a function and wait until it is up.

    SRC needs a handler.py, a handler.mjs or an executable `handler`, and nothing else. Deploying
    again updates the function.
    """
    form = options.chosen(output, json, default=Format.TABLE)
    told = {"handler": handler, "runtime": runtime, "program": program}
    source, called = _target(command, path, name, image=image, update=update, **told)
    spec = _spec(
        name=called,
        image=_NO_IMAGE,
        env=_variables(env_file or [], env or []),
        secrets=secret or [],
        configs=config or [],
        mounts=mount or [],
        networks=network or [],
        constraints=constraint or [],
        labels=label or [],
        limit_cpu=limit_cpu,
        limit_memory=limit_memory,
        reserve_memory=reserve_memory,
        replicas=replicas,
        scale=policies.scale(replicas=replicas, min=min, max=max, idle=idle, headroom=headroom),
        calls=policies.calls(
            idempotent=idempotent,
            retries=retries,
            backoff=retry_backoff,
            max_inflight=max_inflight,
        ),
        isolation=isolation and isolation.value,
        slots=slots,
        ulimits=ulimit or [],
        timeout=timeout,
        max_body=max_body,
        read_only=read_only,
        handler=None if source else handler,  # a build puts it into the image
    )
    session: Session = command.obj
    backend = session.backend(subnet=subnet)
    backend.ready()
    with terminal.progress() as show:
        if source is None:
            assert image is not None
            made = backend.adopt(image, called, registry=registry, progress=show)
        else:
            made = backend.prepare(source, base=base, registry=registry, progress=show)
        deployment = backend.deploy(spec.changed(**asdict(made)), progress=show)
    _report(deployment, spec, source, form)


def _target(
    command: typer.Context,
    path: str | None,
    name: str | None,
    *,
    image: str | None,
    update: bool,
    **told: str | None,
) -> tuple[Source | None, str]:
    """The source (None: an image is deployed as it is) and the function's name."""
    if image is not None:
        if path and name:
            raise UsageError(
                f"{path!r} and --image exclude each other",
                hint="With --image only the function's name is given.",
            )
        for flag, value in {"runtime": told["runtime"], "command": told["program"]}.items():
            if value is not None:
                raise UsageError(f"--{flag} and --image exclude each other")
        return None, path or name or basename(image)
    if path is None:
        raise UsageError("what to deploy is missing", hint="Usage: funker deploy SRC [NAME]")
    if not images.is_source(path) and ("/" in path or ":" in path):
        raise UsageError(
            f"no such directory: {path}",
            hint=f"To deploy an image that exists: funker deploy --image {path} NAME",
        )
    source = images.opened(command, path, name=name, update=update, **told)
    return source, source.name


def basename(reference: str) -> str:
    """The function's name that an image's name suggests: `ghcr.io/me/add:1` is `add`."""
    repository = reference.partition("@")[0].rpartition("/")[2]
    return repository.partition(":")[0]


def _variables(files: list[Path], items: list[str]) -> dict[str, str]:
    """Variables of all files, then those of the flags, which win, as in docker."""
    from funker.spec.values import parse_env, parse_env_file

    variables: dict[str, str] = {}
    for file in files:
        variables |= parse_env_file(file)
    return variables | parse_env(items)


def _spec(**flags: Any) -> FunctionSpec:
    """The spec for what was given; what wasn't keeps the spec's default. Raises SpecError."""
    from funker.spec import Config, FunctionSpec, Mount, Network, Secret, parse_ulimits
    from funker.spec.values import parse_pair

    readers = {
        "secrets": Secret.parse,
        "configs": Config.parse,
        "mounts": Mount.parse,
        "networks": Network.parse,
    }
    fields = {name: value for name, value in flags.items() if value is not None}
    for name, parse in readers.items():
        fields[name] = tuple(parse(text) for text in fields[name])
    fields["ulimits"] = parse_ulimits(fields["ulimits"])
    fields["constraints"] = tuple(fields["constraints"])
    fields["labels"] = dict(parse_pair(text, field="label") for text in fields["labels"])
    return FunctionSpec(**fields)


def _report(
    deployment: Deployment, spec: FunctionSpec, source: Source | None, form: Format
) -> None:
    """The name for programs; for people how to call it."""
    for warning in deployment.warnings:
        terminal.warn(warning)
    match form:
        case Format.JSON:
            terminal.data(as_json(asdict(deployment)))
        case Format.YAML:
            terminal.data(as_yaml(asdict(deployment)))
        case _:
            terminal.data(f"{deployment.name}\n")
    count = deployment.replicas
    scaled = f" ({spec.scale.min} to {spec.scale.max} as needed)" if spec.scale else ""
    terminal.note(
        f"{deployment.name} {deployment.outcome}: {count} replica{'' if count == 1 else 's'}"
        f" of {deployment.image}{scaled}. Call it:"
    )
    shown = example(deployment.name, source)
    terminal.note(f"  {shown.command}")
    where = f"on the network {deployment.network}" if deployment.network else "on this machine"
    terminal.note(f"  {shown.python}   # in Python, {where}")
