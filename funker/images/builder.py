"""From a source to an image in the engine, and from there to a registry.

What goes into an image is decided in `recipe`; this module reads the files, talks to the engine
and says what went wrong. It uses the engine's own (classic) builder, through the API: that works
with every engine and context that the docker library reaches, and needs no docker command here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from funker.images import recipe as recipes
from funker.images.buildlog import BuildLog
from funker.images.context import write_context
from funker.images.recipe import Plan
from funker.images.source import Source, SourceFile, check_syntax, read_source
from funker.rpc.errors import FunkerError
from funker.spec.runtime import runtime_files

__all__ = [
    "DEFAULT_BASE",
    "BaseImageError",
    "BuildError",
    "Image",
    "build",
]

DEFAULT_BASE = "python:3.12-slim"

Progress = Callable[[str], None]


class BuildError(FunkerError):
    """Raised when an image can't be built.

    `step` is the step that failed ("3/7"), `command` what it ran and `output` the last lines that
    it printed; all three are empty where no step was reached. The message holds them too.
    """

    def __init__(
        self, message: str, *, hint: str = "", step: str = "", command: str = "", output: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.command = command
        self.output = output


class BaseImageError(BuildError):
    """Raised when the base image is neither in the engine nor can be pulled."""


@dataclass(frozen=True)
class Image:
    """A function's image in the engine."""

    id: str
    tag: str  # funker/NAME:HASH, or the one that the caller asked for
    name: str  # of the function
    platform: str  # like linux/amd64
    handler: str  # module:callable
    built: bool  # False: it was there already


def build(
    source: Source | Path | str,
    *,
    docker: DockerClient,
    progress: Progress,
    name: str | None = None,
    base: str | None = None,
    tag: str | None = None,
    handler: str | None = None,
) -> Image:
    """The image of a function, built unless the engine has it.

    `tag` is a further name for it. Raises `SourceError` or `SpecError` for what its author has to
    change, `BaseImageError`, and `BuildError` for a step that failed.
    """
    if not isinstance(source, Source):
        source = read_source(source, name=name, handler=handler)
    with engine_errors(f"can't build {source.name}"):
        found = base_image(docker, base or DEFAULT_BASE, progress)
        language = recipes.base_of(source.runtime)
        if not recipes.has_newer_python(found["Config"].get("Env") or []):
            check_syntax(source)
        platform = platform_of(found)
        files = runtime_files(language)
        runtime = recipes.plan_runtime(
            base_id=found["Id"], platform=platform, runtime=files, language=language
        )
        plan = recipes.plan_function(source, runtime)
        image = find_planned(docker, plan)
        built = image is None
        if image is None:
            _ensure_runtime(docker, runtime, files, base or DEFAULT_BASE, progress)
            progress(f"building {plan.tag}")
            if source.own_dockerfile:
                image = _build_own(docker, source, plan, runtime, progress)
            else:
                sent = [(f"app/{file.path}", file) for file in source.files]
                image = run(
                    docker, progress, recipe=plan.labelled(plan.recipe), files=sent, tag=plan.tag
                )
        else:
            progress(f"{plan.tag} is unchanged")
        if tag is not None:
            _tag(docker, image, tag)
    return Image(image, tag or plan.tag, source.name, platform, source.handler, built)


def base_image(docker: DockerClient, base: str, progress: Progress) -> Mapping[str, Any]:
    """What the engine knows of the base image. The engine's own comes first: pull to renew it."""
    found = inspect_image(docker, base)
    if found is not None:
        return found
    progress(f"pulling {base}")
    try:
        docker.images.pull(base)
    except (DockerException, RequestException) as exc:
        raise BaseImageError(
            f"the base image {base} is not in the engine and can't be pulled: {_explain(exc)}",
            hint="Check its name and the engine's way to the registry (`docker pull "
            f"{base}`), or choose another with --base or FUNKER_BASE.",
        ) from exc
    found = inspect_image(docker, base)
    if found is None:
        raise BaseImageError(f"the base image {base} is gone again", hint="Try once more.")
    return found


def _ensure_runtime(
    docker: DockerClient,
    plan: Plan,
    files: Mapping[str, bytes],
    base: str,
    progress: Progress,
) -> None:
    image = find_planned(docker, plan)
    if image is None:
        progress(f"building {plan.tag}, the runtime on {base}: once for all functions")
        sent = {f"runtime/{path}": data for path, data in files.items()}
        image = run(docker, progress, recipe=plan.labelled(plan.recipe), extra=sent, tag=plan.tag)
    _tag(docker, image, plan.alias)


def _build_own(
    docker: DockerClient, source: Source, plan: Plan, runtime: Plan, progress: Progress
) -> str:
    """The user's Dockerfile first, then what makes any image a replica."""
    files = [(file.path, file) for file in source.files]
    image = run(docker, progress, files=files, buildargs={"FUNKER_BASE": runtime.tag})
    found = inspect_image(docker, image)
    assert found is not None  # it was made a moment ago
    config = found["Config"]
    problem = recipes.own_image_problem(config, runtime, source)
    if problem is not None:
        raise BuildError(f"{source.location / 'Dockerfile'}: {problem[0]}", hint=problem[1])
    if config.get("Volumes"):
        progress(f"warning: VOLUME {' '.join(config['Volumes'])} makes a volume for every call")
    finish = recipes.finish_recipe(
        user=config.get("User") or "",
        handler=source.handler,
        command=source.command,
        runtime=source.runtime,
    )
    plan = replace(plan, labels={**plan.labels, **recipes.own_language(config, source)})
    return run(docker, progress, recipe=plan.labelled(f"FROM {image}\n{finish}"), tag=plan.tag)


def run(
    docker: DockerClient,
    progress: Progress,
    *,
    recipe: str | None = None,
    extra: Mapping[str, bytes] | None = None,
    files: Iterable[tuple[str, SourceFile]] = (),
    tag: str | None = None,
    buildargs: dict[str, str] | None = None,
) -> str:
    """Build a recipe (None: the `Dockerfile` among `files`) and return the image's id."""
    log = BuildLog()
    with tempfile.TemporaryFile() as context:
        own = {} if recipe is None else {"Dockerfile": recipe.encode()}
        write_context(context, {**(extra or {}), **own}, files)
        context.seek(0)
        messages = docker.api.build(
            fileobj=context,
            custom_context=True,
            decode=True,
            rm=True,
            forcerm=True,
            tag=tag,
            buildargs=buildargs,
        )
        for message in messages:
            for line in log.feed(message):
                progress(line)
    if log.error:
        raise BuildError(
            log.failure(), hint=log.hint(), step=log.step, command=log.command, output=log.tail()
        )
    if not log.image:
        raise BuildError("the engine ended the build without an image", output=log.tail())
    return log.image


def find_planned(docker: DockerClient, plan: Plan) -> str | None:
    """The id of the planned image if the engine has it, by name and by the whole hash."""
    found = inspect_image(docker, plan.tag)
    if found is None:
        return None
    labels = found["Config"].get("Labels") or {}
    return str(found["Id"]) if plan.labels.items() <= labels.items() else None


def inspect_image(docker: DockerClient, image: str) -> Mapping[str, Any] | None:
    try:
        return dict(docker.images.get(image).attrs)
    except ImageNotFound:
        return None


def _tag(docker: DockerClient, image: str, tag: str) -> None:
    # The part behind the last colon is a version, unless it belongs to a registry's port.
    repository, colon, version = tag.rpartition(":")
    if not colon or "/" in version:
        repository, version = tag, "latest"
    docker.api.tag(image, repository, version)


def platform_of(image: Mapping[str, Any]) -> str:
    parts = [image["Os"], image["Architecture"], image.get("Variant") or ""]
    return "/".join(part for part in parts if part)


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except APIError as exc:
        raise BuildError(f"{doing}: {_explain(exc)}") from exc
    except (DockerException, RequestException) as exc:
        raise BuildError(
            f"{doing}: the engine doesn't answer: {_explain(exc)}",
            hint="Check with `docker info`; DOCKER_HOST and the docker context say which engine.",
        ) from exc
    except OSError as exc:
        raise BuildError(f"{doing}: {exc}") from exc


def _explain(exc: Exception) -> str:
    explanation = getattr(exc, "explanation", None)
    return str(explanation or exc).strip()
