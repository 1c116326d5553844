"""Images of functions in an engine and its registries: built, found, pushed, renewed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from funker.backends.base import BackendError, FunctionStatus, ImageMissing, Prepared, Progress
from funker.backends.swarm.engine import Engine
from funker.images import builder, renew
from funker.images.builder import Image
from funker.images.registry import PushError, push
from funker.images.source import Source

#: What docker shows of an ID; fewer digits are a name.
_ID_DIGITS = 12


def made(
    engine: Engine,
    source: Source,
    *,
    base: str | None,
    registry: str | None,
    tag: str | None,
    progress: Progress,
) -> Prepared:
    """The image of a source, built, and pushed if there is a registry."""
    image = builder.build(source, base=base, tag=tag, docker=engine.client, progress=progress)
    return _pushed(engine, image, registry, progress)


def adopted(
    engine: Engine, reference: str, function: str, *, registry: str | None, progress: Progress
) -> Prepared:
    """An image that exists, by its digest or ID.

    The engine's own comes first, then its registry's. Raises `ImageMissing`.
    """
    if "@sha256:" in reference:
        return Prepared(image=reference, image_name=reference)
    local = _find(engine, reference)
    if local is None:
        digest = _digest_in_registry(engine, reference)
        return Prepared(image=f"{repository_of(reference)}@{digest}", image_name=reference)
    image = _image(local, function)
    for pulled in local.digests:
        if pulled.startswith(f"{repository_of(reference)}@") and not registry:
            # What other nodes can pull, too.
            return Prepared(image=pulled, image_name=reference, platform=image.platform)
    return _pushed(engine, image, registry, progress)


def pushed(engine: Engine, reference: str, registry: str, *, progress: Progress) -> str:
    """`REGISTRY/NAME@sha256:...` of an image that the engine has. Raises `ImageMissing`."""
    local = _find(engine, reference)
    if local is None:
        raise ImageMissing(
            f"no image {reference} in the engine",
            hint="Build it with `funker build PATH`, or give the path.",
        )
    return push(_image(local), registry, docker=engine.client, progress=progress)


def renewed(
    engine: Engine, function: FunctionStatus, *, registry: str | None, progress: Progress
) -> Prepared | None:
    """The function's image with the current runtime; None: it has that.

    Pushed to the registry, else to where the old one came from, if from anywhere.
    """
    name = function.name
    image = renew.renew(function.reference, name=name, docker=engine.client, progress=progress)
    if image is None:
        return None
    reference = image.id
    if registry or "@" in function.reference:
        registry, called = home_of(function.reference, name, registry)
        reference = push(
            replace(image, name=called), registry, docker=engine.client, progress=progress
        )
    return Prepared(image=reference, image_name=image.tag, platform=image.platform)


def home_of(reference: str, function: str, registry: str | None) -> tuple[str, str]:
    """The registry for a new image, and its name there. `reference` is the old one.

    Raises `PushError` if it names no registry.
    """
    if registry:
        return registry, function
    home, _, called = repository_of(reference.partition("@")[0]).rpartition("/")
    if not home:
        raise PushError(
            f"{function} runs {reference}, which names no registry to push a new image to",
            hint="Give one: --registry HOST[/PATH]",
        )
    return home, called


def repository_of(reference: str) -> str:
    """The name without its tag. A colon before a slash belongs to a registry's port."""
    head, colon, tag = reference.rpartition(":")
    return head if colon and "/" not in tag else reference


class _Local(NamedTuple):
    """An image in the engine."""

    id: str
    tag: str  # or, without one, the ID
    digests: list[str]  # REPOSITORY@sha256:..., for each registry that has it
    labels: dict[str, str]


def _find(engine: Engine, reference: str) -> _Local | None:
    """The engine's image with this ID or name, if any; without a tag the newest of that name.

    `add` is `funker/add`, too.
    """
    with engine.errors():
        images = engine.api.images()
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
    return Image(
        id=local.id,
        tag=local.tag,
        name=function or repository_of(local.tag).rpartition("/")[2],
        platform=local.labels.get("funker.platform", ""),
        handler=local.labels.get("funker.handler", ""),
        built=False,
    )


def _digest_in_registry(engine: Engine, reference: str) -> str:
    api: Any = engine.api
    try:
        with engine.errors():
            return str(api.inspect_distribution(reference)["Descriptor"]["digest"])
    except BackendError as error:
        raise ImageMissing(
            f"no image {reference} in the engine, nor from its registry: {error.message}",
            hint="Check the name; for a private registry: docker login.",
        ) from error


def _pushed(engine: Engine, image: Image, registry: str | None, progress: Progress) -> Prepared:
    reference = (
        push(image, registry, docker=engine.client, progress=progress) if registry else image.id
    )
    return Prepared(image=reference, image_name=image.tag, platform=image.platform)
