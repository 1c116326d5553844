"""`funker build`, `funker push`: a directory becomes an image, an image goes to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from funker.cli import options, terminal
from funker.cli.failures import UsageError
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.images.builder import Image
    from funker.images.source import Source

#: What docker shows of an ID; fewer digits are a name.
_ID_DIGITS = 12


def build(
    command: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="SRC", help="A directory, a .py file, or a git address.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The function's name, else the directory's.")
    ] = None,
    base: options.Base = None,
    tag: Annotated[
        str | None,
        typer.Option("-t", "--tag", metavar="NAME:TAG", help="One more name for the image."),
    ] = None,
    handler: options.Handler = None,
    update: options.Update = False,
) -> None:
    """Build a function's image and print its name."""
    source = opened(command, path, name=name, handler=handler, update=update)
    image = build_source(command.obj, source, base=base, tag=tag)
    terminal.data(f"{image.tag}\n")


def push(
    command: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="A function's directory, or its image's name."),
    ],
    registry: Annotated[
        str,
        typer.Option(envvar="FUNKER_REGISTRY", metavar="HOST[/PATH]", help="Where to push it."),
    ],
    base: options.Base = None,
) -> None:
    """Push a function's image and print its name by digest."""
    session: Session = command.obj
    if is_source(source):
        image = build_source(session, opened(command, source), base=base)
    elif (local := _local(session, source)) is not None:
        image = _image(local)
    else:
        raise UsageError(
            f"no such directory, and no image in the engine: {source}",
            hint="Build it with `funker build PATH`, or give the path.",
        )
    terminal.data(f"{push_image(session, image, registry)}\n")


class Chosen(NamedTuple):
    """The fields of a spec that say which image."""

    image: str
    image_name: str
    platform: str


def made(session: Session, source: Source, *, base: str | None, registry: str | None) -> Chosen:
    """The image of a source, built, and pushed if there is a registry."""
    image = build_source(session, source, base=base)
    return _pushed(session, image, registry)


def deployable(session: Session, reference: str, function: str, *, registry: str | None) -> Chosen:
    """An image that exists, by its digest or ID.

    The engine's own comes first, then its registry's. Raises ImageMissing.
    """
    if "@sha256:" in reference:
        return Chosen(reference, reference, "")
    local = _local(session, reference)
    if local is None:
        digest = _digest_in_registry(session, reference)
        return Chosen(f"{repository_of(reference)}@{digest}", reference, "")
    image = _image(local, function)
    for pulled in local.digests:
        if pulled.startswith(f"{repository_of(reference)}@") and not registry:
            return Chosen(pulled, reference, image.platform)  # what other nodes can pull, too
    return _pushed(session, image, registry)


class _Local(NamedTuple):
    """An image in the engine."""

    id: str
    tag: str  # or, without one, the ID
    digests: list[str]  # REPOSITORY@sha256:..., for each registry that has it
    labels: dict[str, str]


def _local(session: Session, reference: str) -> _Local | None:
    """The engine's image with this ID or name, if any; without a tag the newest of that name.

    `add` is `funker/add`, too.
    """
    with session.engine.errors():
        images = session.engine.api.images()
    tagged = repository_of(reference) != reference
    exact = reference if tagged else f"{reference}:latest"
    wanted = {reference, f"funker/{reference}"}
    digits = reference.removeprefix("sha256:")
    found = [
        (image, name)
        for image in images
        for name in image["RepoTags"] or [""]
        if name in wanted
        or repository_of(name) in wanted
        or (len(digits) >= _ID_DIGITS and image["Id"].startswith(f"sha256:{digits}"))
    ]
    if not found:
        return None
    image, name = max(found, key=lambda pair: (pair[1] == exact, pair[0]["Created"]))
    return _Local(
        id=image["Id"],
        tag=name if name and name != "<none>:<none>" else image["Id"],
        digests=image["RepoDigests"] or [],
        labels=image["Labels"] or {},
    )


def _image(local: _Local, function: str = "") -> Image:
    from funker.images.builder import Image

    return Image(
        id=local.id,
        tag=local.tag,
        name=function or repository_of(local.tag).rpartition("/")[2],
        platform=local.labels.get("funker.platform", ""),
        handler=local.labels.get("funker.handler", ""),
        built=False,
    )


def _digest_in_registry(session: Session, reference: str) -> str:
    from funker.backends.base import BackendError, ImageMissing

    api: Any = session.engine.api
    try:
        with session.engine.errors():
            return str(api.inspect_distribution(reference)["Descriptor"]["digest"])
    except BackendError as error:
        raise ImageMissing(
            f"no image {reference} in the engine, nor from its registry: {error.message}",
            hint="Check the name; for a private registry: docker login.",
        ) from error


def _pushed(session: Session, image: Image, registry: str | None) -> Chosen:
    reference = push_image(session, image, registry) if registry else image.id
    return Chosen(reference, image.tag, image.platform)


def repository_of(reference: str) -> str:
    """The name without its tag. A colon before a slash belongs to a registry's port."""
    head, colon, tag = reference.rpartition(":")
    return head if colon and "/" not in tag else reference


def is_source(text: str) -> bool:
    """Whether a word means a source and no image.

    `add/`, `./add`, whatever exists under the name, or a git address.
    """
    from funker.images.address import is_git

    is_path = text.startswith((".", "/", "~")) or text.endswith(("/", ".py"))
    return is_path or Path(text).exists() or is_git(text)


def opened(
    command: typer.Context,
    path: str,
    *,
    name: str | None = None,
    handler: str | None = None,
    update: bool = False,
) -> Source:
    """The source at SRC. What was fetched for it stays in place until the command ends."""
    from funker.images.fetch import open_source

    opening = open_source(path, name=name, handler=handler, update=update, progress=terminal.note)
    return command.with_resource(opening)


def build_source(
    session: Session, source: Source, *, base: str | None, tag: str | None = None
) -> Image:
    """Build it if it isn't built yet, and show the progress."""
    from funker.images import builder

    with terminal.progress() as show:
        return builder.build(
            source, base=base, tag=tag, docker=session.engine.client, progress=show
        )


def push_image(session: Session, image: Image, registry: str) -> str:
    """Push it, show the progress, and return `REGISTRY/NAME@sha256:...`."""
    from funker.images.registry import push

    with terminal.progress() as show:
        return push(image, registry, docker=session.engine.client, progress=show)
