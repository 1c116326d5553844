"""Another version of the runtime for a function whose source isn't at hand: a new image on its own.

The new image starts from the function's, and one that was renewed before starts from where that
one did, as long as the engine has it: so layers don't pile up over the years.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docker import DockerClient
from docker.errors import APIError

from funker.images.builder import (
    BaseImageError,
    BuildError,
    Image,
    engine_errors,
    find_planned,
    inspect_image,
    run,
)
from funker.images.recipe import (
    LABEL_HANDLER,
    LABEL_LANGUAGE,
    LABEL_PLATFORM,
    LABEL_RENEWED_FROM,
    LABEL_RUNTIME,
    LABEL_VERSION,
    plan_renewed,
    renewed_digits,
)
from funker.spec.runtime import runtime_files, runtime_version


def image_version(reference: str, *, docker: DockerClient) -> str | None:
    """The version of the runtime in an image of the engine.

    Empty: it is older than versions. None: the engine doesn't have the image, or it holds none of
    our runtimes.
    """
    with engine_errors(f"can't look at {reference}"):
        found = inspect_image(docker, reference)
    labels = _labels(found) if found else {}
    return labels.get(LABEL_VERSION, "") if LABEL_RUNTIME in labels else None


def renew(
    reference: str, *, name: str, docker: DockerClient, progress: Callable[[str], None]
) -> Image | None:
    """The image of the function `name` with the current runtime; None: `reference` has that.

    `reference` is what the function runs, an ID or a digest; one that the engine doesn't have is
    pulled. Raises `BaseImageError` if that can't be, and `BuildError`.
    """
    with engine_errors(f"can't renew the image of {name}"):
        found = _present(docker, reference, name, progress)
        labels = _labels(found)
        if LABEL_RUNTIME not in labels:
            raise BuildError(
                f"the image of {name} holds no runtime that could be renewed",
                hint=f"Deploy it from its source: `funker deploy PATH {name}`.",
            )
        language = "node" if labels.get(LABEL_LANGUAGE) == "node" else "python"
        files = runtime_files(language)
        version = runtime_version(files)
        if labels.get(LABEL_VERSION) == version:
            return None
        origin = _origin(docker, found)
        user = str(origin["Config"].get("User") or "")
        plan = plan_renewed(
            name, image_id=str(origin["Id"]), user=user, version=version, language=language
        )
        image = find_planned(docker, plan)
        built = image is None
        if image is None:
            progress(f"building {plan.tag}: {name} with the current runtime")
            sent = {f"runtime/{path}": data for path, data in files.items()}
            recipe = plan.labelled(plan.recipe)
            image = run(docker, progress, recipe=recipe, extra=sent, tag=plan.tag)
    return Image(
        id=image,
        tag=plan.tag,
        name=name,
        platform=labels.get(LABEL_PLATFORM, ""),
        handler=labels.get(LABEL_HANDLER, ""),
        built=built,
    )


def _present(
    docker: DockerClient, reference: str, name: str, progress: Callable[[str], None]
) -> Mapping[str, Any]:
    found = inspect_image(docker, reference)
    if found is not None:
        return found
    problem = "and an ID says nothing of where it could be pulled"
    hint = f"Run this on the node that has it, or deploy {name} from its source."
    if "@" in reference:
        progress(f"pulling {reference}")
        try:
            docker.images.pull(reference)
        except APIError as exc:
            problem = f"nor can it be pulled: {str(exc.explanation or exc).strip()}"
            hint = "Check the engine's way to the registry; for a private one: `docker login`."
        else:
            found = inspect_image(docker, reference)
    if found is None:
        raise BaseImageError(
            f"the engine doesn't have the image of {name}, {reference}, {problem}", hint=hint
        )
    return found


def _origin(docker: DockerClient, image: Mapping[str, Any]) -> Mapping[str, Any]:
    """The image that a new version starts from: what this one was made from, if it was renewed.

    Labels are inherited: an image that somebody built on a renewed one has them too. But it does
    not have the name.
    """
    labels = _labels(image)
    origin = labels.get(LABEL_RENEWED_FROM)
    if not origin:
        return image
    digits = renewed_digits(origin, labels.get(LABEL_VERSION, ""))
    if not any(tag.endswith(f":{digits}") for tag in image.get("RepoTags") or []):
        return image
    return inspect_image(docker, origin) or image


def _labels(image: Mapping[str, Any]) -> dict[str, str]:
    return dict(image["Config"].get("Labels") or {})
