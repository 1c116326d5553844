"""Where a function's renewed image goes, and what of it is deployed. No engine."""

from __future__ import annotations

from typing import Any

import pytest

from funker.backends.base import FunctionStatus, Prepared
from funker.backends.swarm import images
from funker.images.builder import Image
from funker.images.registry import PushError


class Engine:
    """An engine whose client nobody needs here."""

    client = None


def function(reference: str) -> FunctionStatus:
    return FunctionStatus(
        name="add", image="", wanted=1, running=1, created=0.0, updated=0.0, reference=reference
    )


@pytest.fixture
def renew(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Renews the image with this reference: its new ID is "sha256:new"."""
    built = Image("sha256:new", "funker/add:1", "add", "linux/amd64", "", built=True)

    def push(image: Image, registry: str, **_: object) -> str:
        return f"{registry}/{image.name}@sha256:pushed"

    def renewed(reference: str, *, registry: str | None = None, image: Image | None = built) -> Any:
        monkeypatch.setattr(images.renew, "renew", lambda *_, **__: image)
        monkeypatch.setattr(images, "push", push)
        engine: Any = Engine()
        return images.renewed(engine, function(reference), registry=registry, progress=print)

    return renewed


def test_an_image_of_this_engine_alone_stays_there(renew: Any) -> None:
    assert renew("sha256:old") == Prepared(
        image="sha256:new", image_name="funker/add:1", platform="linux/amd64"
    )


def test_an_image_goes_to_where_the_old_one_came_from_unless_told_otherwise(renew: Any) -> None:
    old = "reg:5000/team/sum:1@sha256:old"
    assert renew(old).image == "reg:5000/team/sum@sha256:pushed"
    assert renew(old, registry="ghcr.io/me").image == "ghcr.io/me/add@sha256:pushed"
    assert renew("sha256:old", registry="ghcr.io/me").image == "ghcr.io/me/add@sha256:pushed"


def test_a_current_image_is_neither_built_nor_pushed(renew: Any) -> None:
    assert renew("sha256:old", registry="ghcr.io/me", image=None) is None


def test_an_image_of_no_registry_has_no_place_to_be_pushed_to() -> None:
    assert images.home_of("me/add@sha256:a", "add", None) == ("me", "add")
    assert images.home_of("add@sha256:a", "add", "ghcr.io/me") == ("ghcr.io/me", "add")
    with pytest.raises(PushError, match="names no registry") as caught:
        images.home_of("add@sha256:a", "add", None)
    assert "--registry" in caught.value.hint
