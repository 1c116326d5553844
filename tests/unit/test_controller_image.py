"""What the controller's image is made of, and when it is made anew."""

from __future__ import annotations

import pytest

from funker import packaged
from funker.images import controller

BASE = {"base_id": "sha256:base", "platform": "linux/amd64"}


def test_the_context_holds_what_the_dockerfile_copies() -> None:
    files = controller.context()
    recipe = packaged.text("Dockerfile")
    sources = [
        word
        for line in recipe.splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    ]
    assert sources
    for source in sources:
        assert any(path == source or path.startswith(source) for path in files), source
    assert "funker/controller/router.py" in files
    assert "runtime/python/funker_runtime/front.py" in files


def test_the_same_context_gives_the_same_name() -> None:
    files = controller.context()
    one, other = (controller.plan("FROM x\n", files, **BASE) for _ in range(2))
    assert one == other
    assert one.tag.startswith("funker-controller:")


@pytest.mark.parametrize("change", ["recipe", "file", "name", "base", "platform"])
def test_whatever_is_in_it_makes_it_another(change: str) -> None:
    before = controller.plan("FROM x\n", {"a": b"1"}, **BASE)
    after = {
        "recipe": controller.plan("FROM y\n", {"a": b"1"}, **BASE),
        "file": controller.plan("FROM x\n", {"a": b"2"}, **BASE),
        "name": controller.plan("FROM x\n", {"b": b"1"}, **BASE),
        "base": controller.plan("FROM x\n", {"a": b"1"}, **BASE | {"base_id": "sha256:x"}),
        "platform": controller.plan("FROM x\n", {"a": b"1"}, **BASE | {"platform": "linux/arm64"}),
    }[change]
    assert after.tag != before.tag
    assert after.labels[controller.LABEL] != before.labels[controller.LABEL]
