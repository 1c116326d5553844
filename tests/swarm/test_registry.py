"""Images on their way to a real registry, that asks who is there."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import docker
import pytest
from docker import DockerClient

from funker.images.builder import DEFAULT_BASE, Image
from funker.images.registry import PushError, push

BASE = os.environ.get("FUNKER_BASE") or DEFAULT_BASE

#: The password `secret`, as htpasswd stores it.
SECRET = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"

UNTIL_IT_LISTENS = """
import socket, time
while socket.socket().connect_ex(("127.0.0.1", 5000)):
    time.sleep(0.02)
"""

Names = Callable[..., str]


def test_a_registry_takes_an_image_from_who_has_logged_in_and_gives_it_by_its_digest(
    engine: DockerClient,
    image: Image,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(PushError, match="no basic auth credentials") as caught:
        push(image, registry, docker=engine, progress=lambda _: None)
    assert f"docker login {registry}" in caught.value.hint

    login = {"auths": {registry: {"auth": base64.b64encode(b"tester:secret").decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with closing(docker.from_env()) as logged_in:
        reference = push(image, f"{registry}/mine/", docker=logged_in, progress=lambda _: None)

        assert reference.startswith(f"{registry}/mine/{image.name}@sha256:")
        assert reference in engine.images.get(image.id).attrs["RepoDigests"]
        engine.api.remove_image(image.id, force=True)
        assert logged_in.images.pull(reference).id == image.id
        engine.images.remove(reference)


@pytest.mark.parametrize(
    ("registry", "problem"),
    [("127.0.0.1:9", "connection refused"), ("https://ghcr.io/me", "is no registry")],
)
def test_a_registry_that_takes_nothing_is_told_with_the_remedy(
    engine: DockerClient, image: Image, registry: str, problem: str
) -> None:
    with pytest.raises(PushError, match=problem) as caught:
        push(image, registry, docker=engine, progress=lambda _: None)

    assert caught.value.hint


@pytest.fixture
def image(engine: DockerClient, name: str) -> Image:
    """A tiny image that is unlike any other, in the place of a function's."""
    with io.BytesIO() as target:
        with tarfile.open(fileobj=target, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        engine.api.import_image_from_data(target.getvalue(), repository=f"funker/{name}", tag="1")
    found = engine.images.get(f"funker/{name}:1")
    return Image(
        id=str(found.id),
        tag=f"funker/{name}:1",
        name=name,
        platform="linux/amd64",
        handler="handler:handle",
        built=True,
    )


@pytest.fixture
def registry(engine: DockerClient, names: Names) -> str:
    """HOST:PORT of a registry for `tester` (password `secret`). Loopback, which engines trust."""
    name = names("registry")
    text = (
        f"FROM {BASE}\n"
        "RUN apt-get update && apt-get install -y docker-registry\n"
        f"RUN echo 'tester:{SECRET}' > /users\n"
        "ENV REGISTRY_AUTH_HTPASSWD_REALM=test REGISTRY_AUTH_HTPASSWD_PATH=/users\n"
        'CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]\n'
    )
    image, _ = engine.images.build(
        fileobj=io.BytesIO(text.encode()), tag=f"test/{name}:1", rm=True, forcerm=True
    )
    container = engine.containers.run(
        image, name=name, detach=True, ports={"5000/tcp": ("127.0.0.1", 0)}
    )
    code, output = container.exec_run(["timeout", "30", "python3", "-c", UNTIL_IT_LISTENS])
    assert code == 0, (output, container.logs())
    container.reload()
    published = container.ports["5000/tcp"]
    assert published is not None
    return f"127.0.0.1:{published[0]['HostPort']}"
