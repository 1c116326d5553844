"""Another version of the runtime for a function whose source isn't at hand, on a real engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.images import Image

from funker.backends.base import DeployFailed
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import connect
from funker.images import builder, renew
from funker.images.builder import DEFAULT_BASE, build
from funker.spec.runtime import current_version, runtime_files

pytestmark = pytest.mark.swarm

BASE = os.environ.get("FUNKER_BASE") or DEFAULT_BASE
#: Where users' Dockerfiles find the runtime.
ALIAS = "funker-python"
HANDLER = """\
import os

import funker.rpc


def handle():
    told = os.environ
    return [funker.rpc.__doc__, told["FUNKER_VERSION"], told["COLOUR"], os.getuid()]
"""


def other_version(note: str) -> dict[str, bytes]:
    """The runtime's files with one that says something else."""
    return runtime_files() | {"funker/rpc/__init__.py": f'"""{note}"""\n'.encode()}


@pytest.fixture
def old_image(
    engine: DockerClient, name: str, write_function: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An image of the function with a runtime of another version."""
    files = other_version("Of old.")
    ours = alias(engine)
    with monkeypatch.context() as patched:
        patched.setattr(builder, "runtime_files", lambda *_: files)
        source: Path = write_function(HANDLER, name=name)
        tag = build(source, docker=engine, progress=print, base=BASE).tag
    others = alias(engine)
    if ours is not None:  # what relays run, and Dockerfiles start from
        ours.tag(ALIAS)
    yield tag
    if ours is None:
        engine.images.remove(ALIAS)
    for tag in others.tags if others else ():
        if not tag.startswith(f"{ALIAS}:"):
            engine.images.remove(tag)


def alias(engine: DockerClient) -> Image | None:
    """The runtime that this engine has built last."""
    try:
        return engine.images.get(ALIAS)
    except ImageNotFound:
        return None


def test_rebuild_renews_the_runtime_and_changes_nothing_else(
    funker: Any, engine: DockerClient, name: str, old_image: str
) -> None:
    funker.ok("deploy", "--image", old_image, name, "-e", "COLOUR=blue", "--replicas", "2")
    doc, version, *_ = funker.ok("call", name, "-o", "json").json
    assert doc == "Of old."
    before = engine.services.get(name).attrs["Spec"]
    assert outdated(funker, name)

    rebuilt = funker.ok("rebuild", name)
    assert rebuilt.stdout == f"{name}\n"
    assert f"{name} updated: funker/{name}:" in rebuilt.stderr

    doc, current, colour, uid = funker.ok("call", name, "-o", "json").json
    assert doc != "Of old."
    assert (current, colour, uid) == (current_version(), "blue", 10001)
    assert current != version
    assert not outdated(funker, name)
    after = engine.services.get(name).attrs["Spec"]
    assert without_image(after) == without_image(before)
    assert f"{name} has the current runtime" in funker.ok("rebuild", name).stderr


def test_an_image_that_does_not_serve_leaves_the_function_as_it_was(
    funker: Any, engine: DockerClient, name: str, write_function: Any
) -> None:
    funker.ok("deploy", write_function("def handle():\n    return 1\n", name=name))
    before = engine.services.get(name).attrs["Spec"]
    base = str(engine.images.get(BASE).id)
    with closing(connect(None)) as connected, pytest.raises(DeployFailed) as caught:
        Swarm(connected).set_image(name, base, "base")
    assert f"The version of {name} that was deployed before still serves." in caught.value.hint
    assert engine.services.get(name).attrs["Spec"] == before
    assert funker.ok("call", name).stdout == "1\n"


def test_layers_do_not_pile_up(
    engine: DockerClient, name: str, old_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renewed(reference: str) -> str:
        image = renew.renew(reference, name=name, docker=engine, progress=print)
        assert image is not None
        return image.id

    original = engine.images.get(old_image)
    first = engine.images.get(renewed(original.id))
    files = other_version("Of later.")
    monkeypatch.setattr(renew, "runtime_files", lambda *_: files)
    second = engine.images.get(renewed(first.id))

    assert second.id != first.id
    assert second.labels["funker.renewed-from"] == original.id
    layers = [len(image.attrs["RootFS"]["Layers"]) for image in (original, first, second)]
    assert layers[1] == layers[2]
    assert layers[1] <= layers[0] + 3


def outdated(funker: Any, name: str) -> bool:
    (found,) = (each for each in funker.ok("ls", "--json").json if each["name"] == name)
    return bool(found["outdated"])


def without_image(spec: dict[str, Any]) -> dict[str, Any]:
    template = spec["TaskTemplate"]
    labels = {key: value for key, value in spec["Labels"].items() if key != "funker.image"}
    container = {k: v for k, v in template["ContainerSpec"].items() if k != "Image"}
    return spec | {"Labels": labels, "TaskTemplate": template | {"ContainerSpec": container}}
