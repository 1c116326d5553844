"""The controller's image, from the Dockerfile that people build by hand.

Like functions' images it is named after the hash of all that is in it: built when something of
that has changed, and found otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from docker import DockerClient

import funker
from funker import packaged
from funker.images.builder import (
    DEFAULT_BASE,
    Image,
    Progress,
    base_image,
    engine_errors,
    find_planned,
    platform_of,
    run,
)
from funker.images.recipe import LABEL_BASE, LABEL_PLATFORM, TAG_DIGITS, Plan

NAME = "funker-controller"
#: The label with the hash.
LABEL = "funker.controller"

#: Files at the top of the context.
_TOP = ("constraints.txt", "compose.yaml", "compose.publish.yaml")


def build(*, docker: DockerClient, progress: Progress, base: str | None = None) -> Image:
    """The image, built unless the engine has it. Raises `BaseImageError` or `BuildError`."""
    files = context()
    with engine_errors(f"can't build {NAME}"):
        found = base_image(docker, base or DEFAULT_BASE, progress)
        base_id, platform = str(found["Id"]), platform_of(found)
        planned = plan(packaged.text("Dockerfile"), files, base_id=base_id, platform=platform)
        image = find_planned(docker, planned)
        built = image is None
        if image is None:
            progress(f"building {planned.tag}")
            recipe = planned.labelled(planned.recipe)
            argument = {"BASE": base_id}
            image = run(
                docker, progress, recipe=recipe, extra=files, tag=planned.tag, buildargs=argument
            )
    return Image(image, planned.tag, NAME, platform, "", built)


def plan(recipe: str, files: Mapping[str, bytes], *, base_id: str, platform: str) -> Plan:
    """What the image is called, on this base."""
    digests = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())
    parts = json.dumps([recipe, base_id, platform, digests])
    version = hashlib.sha256(parts.encode()).hexdigest()
    return Plan(
        tag=f"{NAME}:{version[:TAG_DIGITS]}",
        recipe=recipe,
        labels={LABEL: version, LABEL_BASE: base_id, LABEL_PLATFORM: platform},
    )


def context() -> dict[str, bytes]:
    """What the Dockerfile copies, by path, as in a clone."""
    package = Path(funker.__file__).parent
    spec = importlib.util.find_spec("funker_runtime")
    assert spec is not None  # it stands beside this package, in clones and wheels alike
    assert spec.origin is not None
    runtime = Path(spec.origin).parent
    files = {name: packaged.text(name).encode() for name in _TOP}
    for root, prefix in ((package, "funker"), (runtime, "runtime/python/funker_runtime")):
        for path in sorted(root.rglob("*.py")):
            files[f"{prefix}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files
