"""Which image a renewed one starts from, and when there is nothing to do: over a made-up engine."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from funker.images import renew
from funker.images.builder import BaseImageError, BuildError
from funker.images.recipe import renewed_digits
from funker.spec.runtime import current_version

OLD = {"funker.runtime": "hash", "funker.runtime-version": "old", "funker.platform": "linux/amd64"}


class Engine:
    """Knows images by ID and by name, and builds whatever it is asked to."""

    def __init__(self, **images: dict[str, Any]) -> None:
        self.known = {f"sha256:{name}": image for name, image in images.items()}
        self.registry: dict[str, dict[str, Any]] = {}
        self.pulled: list[str] = []
        self.built: list[dict[str, Any]] = []
        self.images = self.api = self

    def get(self, reference: str) -> Any:
        for identity, image in self.known.items():
            if reference in (identity, *image.get("RepoTags", ()), *image.get("RepoDigests", ())):
                self.attrs = {"Id": identity, **image}
                return self
        raise ImageNotFound(reference)

    def pull(self, reference: str) -> None:
        self.pulled.append(reference)
        if reference not in self.registry:
            raise APIError("refused", explanation="pull access denied")
        self.known["sha256:pulled"] = self.registry[reference]

    def build(self, **options: Any) -> list[dict[str, Any]]:
        self.built.append(options | {"context": options["fileobj"].read()})
        return [{"aux": {"ID": "sha256:new"}}]


def image(labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {"Config": {"Labels": labels, "User": "10001:10001"}, **more}


def renewed(engine: Engine, reference: str) -> Any:
    return renew.renew(reference, name="add", docker=engine, progress=lambda _: None)  # type: ignore[arg-type]


def started_from(engine: Engine) -> str:
    (build,) = engine.built
    recipe = build["context"].split(b"FROM ")[1].splitlines()[0]
    return str(recipe.decode())


def test_an_older_runtime_is_renewed_from_the_function_s_own_image() -> None:
    engine = Engine(add=image(OLD))
    made = renewed(engine, "sha256:add")
    assert (made.id, made.name, made.platform) == ("sha256:new", "add", "linux/amd64")
    assert made.tag == f"funker/add:{renewed_digits('sha256:add', current_version())}"
    assert started_from(engine) == "sha256:add"
    assert b"funker/rpc/messages.py" in engine.built[0]["context"]


def test_an_image_with_the_current_runtime_is_left_alone() -> None:
    current = OLD | {"funker.runtime-version": current_version()}
    engine = Engine(add=image(current))
    assert renewed(engine, "sha256:add") is None
    assert engine.built == []


def test_what_was_renewed_before_starts_from_where_that_started() -> None:
    digits = renewed_digits("sha256:add", "old")
    labels = OLD | {"funker.renewed-from": "sha256:add"}
    engine = Engine(add=image(OLD), second=image(labels, RepoTags=[f"funker/add:{digits}"]))
    renewed(engine, "sha256:second")
    assert started_from(engine) == "sha256:add"


def test_without_the_first_image_it_starts_from_the_second() -> None:
    digits = renewed_digits("sha256:add", "old")
    labels = OLD | {"funker.renewed-from": "sha256:add"}
    engine = Engine(second=image(labels, RepoTags=[f"funker/add:{digits}"]))
    renewed(engine, "sha256:second")
    assert started_from(engine) == "sha256:second"


def test_what_somebody_built_on_a_renewed_image_isn_t_lost() -> None:
    labels = OLD | {"funker.renewed-from": "sha256:add"}
    engine = Engine(add=image(OLD), theirs=image(labels, RepoTags=["mine:latest"]))
    renewed(engine, "sha256:theirs")
    assert started_from(engine) == "sha256:theirs"


def test_an_image_without_a_runtime_can_t_be_renewed() -> None:
    with pytest.raises(BuildError, match="holds no runtime") as caught:
        renewed(Engine(add=image({"other": "1"})), "sha256:add")
    assert "funker deploy PATH add" in caught.value.hint


def test_an_image_that_only_its_registry_has_is_pulled_first() -> None:
    engine, reference = Engine(), "reg/add@sha256:aa"
    engine.registry[reference] = image(OLD, RepoDigests=[reference])
    assert renewed(engine, reference).id == "sha256:new"
    assert engine.pulled == [reference]
    assert started_from(engine) == "sha256:pulled"


@pytest.mark.parametrize(
    ("reference", "pulled", "words"),
    [("sha256:gone", False, "an ID says nothing"), ("reg/add@sha256:gone", True, "access denied")],
)
def test_an_image_that_isn_t_there_is_pulled_if_a_registry_may_have_it(
    reference: str, pulled: bool, words: str
) -> None:
    engine = Engine()
    with pytest.raises(BaseImageError, match=words):
        renewed(engine, reference)
    assert engine.pulled == ([reference] if pulled else [])


@pytest.mark.parametrize(
    ("labels", "version"),
    [(OLD, "old"), ({"funker.runtime": "hash"}, ""), ({}, None), (None, None)],
)
def test_an_image_tells_the_version_of_its_runtime(
    labels: dict[str, str] | None, version: str | None
) -> None:
    engine: Any = Engine(add=image(labels))
    assert renew.image_version("sha256:add", docker=engine) == version
    assert renew.image_version("sha256:gone", docker=engine) is None
