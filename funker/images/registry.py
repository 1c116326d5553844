"""Pushing a function's image to where other nodes can get it, and its name there by digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from docker.errors import DockerException
from requests.exceptions import RequestException

from funker.images.recipe import TAG_DIGITS, repository
from funker.rpc.errors import FunkerError

if TYPE_CHECKING:
    from docker import DockerClient

    from funker.images.builder import Image

_REGISTRY = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)*")


class PushError(FunkerError):
    """Raised when a registry doesn't take an image."""


def push(
    image: Image, registry: str, *, docker: DockerClient, progress: Callable[[str], None]
) -> str:
    """Push to `registry` (`ghcr.io/me`, `10.0.0.1:5000`) and return `REGISTRY/NAME@sha256:...`.

    Credentials are those of `docker login`. Raises `PushError`.
    """
    registry = registry.rstrip("/")
    if not _REGISTRY.fullmatch(registry):
        raise PushError(
            f'"{registry}" is no registry',
            hint="Write a host with an optional path in lower case and without https://, "
            "like `ghcr.io/me` or `10.0.0.1:5000`.",
        )
    target = f"{registry}/{repository(image.name).removeprefix('funker/')}"
    version = image.id.removeprefix("sha256:")[:TAG_DIGITS]
    progress(f"pushing {target}:{version}")
    digest = problem = ""
    try:
        docker.api.tag(image.id, target, version)
        for message in docker.api.push(target, tag=version, stream=True, decode=True):
            problem = str(message.get("error", problem))
            digest = message.get("aux", {}).get("Digest", digest)
    except (DockerException, RequestException) as exc:
        raise _push_error(target, str(getattr(exc, "explanation", "") or exc)) from exc
    if problem or not digest:
        raise _push_error(target, problem or "the registry named no digest")
    return f"{target}@{digest}"


def _push_error(target: str, problem: str) -> PushError:
    said = problem.lower()
    host = target.partition("/")[0]
    if any(word in said for word in ("denied", "unauthorized", "no basic auth", "authentication")):
        hint = f"Log in with `docker login {host}`, with an account that may write there."
    elif "http response to https" in said or "x509" in said or "certificate" in said:
        hint = (
            f"The engine doesn't trust {host}: give it the registry's certificate, or list it "
            "under insecure-registries in its daemon.json (on every node)."
        )
    else:
        hint = f"Check the address, and that the engine (not only this machine) reaches {host}."
    return PushError(f"can't push {target}: {problem}", hint=hint)
