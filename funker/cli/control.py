"""`funker up`, `funker down`, `funker keys`: the controller."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from funker.cli import options, terminal
from funker.cli.failures import UsageError
from funker.cli.output import Format, as_json, as_yaml
from funker.cli.session import Session


def up(
    command: typer.Context,
    image: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_IMAGE",
            metavar="IMAGE",
            help="The controller's image, else one that is built for it.",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_REGISTRY",
            metavar="HOST[:PORT][/PATH]",
            help="Push the image there, so that every node can run it.",
        ),
    ] = None,
    base: options.Base = None,
    subnet: Annotated[
        str | None,
        typer.Option(
            envvar="FUNKER_SUBNET",
            metavar="CIDR",
            help="Addresses of the network funker, if it has to be made.",
        ),
    ] = None,
    publish: Annotated[
        int | None,
        typer.Option(
            envvar="FUNKER_PUBLISH",
            metavar="PORT",
            min=1,
            max=65535,
            help="Publish the router on this port of its node, else nowhere.",
        ),
    ] = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Bring the controller up, or make it what it should be."""
    form = options.chosen(output, json, default=Format.TABLE)
    if image and registry:
        raise UsageError("--image and --registry exclude each other", hint="Push it yourself.")
    session: Session = command.obj
    from funker.backends.base import ControlPlane

    with terminal.progress() as show:
        plane = ControlPlane(
            image=image or "",
            base=base or "",
            registry=registry or "",
            subnet=subnet or "",
            publish=publish or 0,
        )
        lines = session.backend().up(plane, progress=show)
    _tell(lines, form, nothing="The controller is up already; nothing was changed.")


def down(
    command: typer.Context,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Take the controller down. Functions stay, and are called directly."""
    form = options.chosen(output, json, default=Format.TABLE)
    session: Session = command.obj
    terminal.confirm("Take the controller down; calls that wait in it are lost", yes=yes)
    with terminal.progress() as show:
        lines = session.backend().down(progress=show)
    _tell(lines, form, nothing="The controller isn't up; nothing was changed.")


class Holder(StrEnum):
    """Whose key `funker keys --show` shows."""

    CLIENT = "client"


def keys(
    command: typer.Context,
    show: Annotated[
        Holder | None,
        typer.Option(metavar="client", help="Print the key file of callers, for FUNKER_KEY_FILE."),
    ] = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Make the controller's keys, unless they are there."""
    form = options.chosen(output, json, default=Format.TABLE)
    session: Session = command.obj
    if show is not None:
        text = session.backend().client_key()
        lines = dict(line.split("=", 1) for line in text.splitlines())
        shown = {Format.JSON: as_json, Format.YAML: as_yaml}
        terminal.data(shown[form](lines) if form in shown else text)
        return
    with terminal.progress() as tell:
        made = session.backend().keys(progress=tell)
    _tell(made, form, nothing="The keys are there already; nothing was changed.")


def _tell(lines: list[str], form: Format, *, nothing: str) -> None:
    match form:
        case Format.JSON:
            terminal.data(as_json({"changes": lines}))
        case Format.YAML:
            terminal.data(as_yaml({"changes": lines}))
        case _:
            terminal.data("".join(f"{line}\n" for line in lines or [nothing]))
