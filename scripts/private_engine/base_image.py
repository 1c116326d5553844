"""The base image: a Debian of the lab's own, since a bare machine may have no registry to ask.

It stands in for `python:3-slim`: Python, pip and certificates, and tini; `apt-get` and
`pip install` work in builds on it as they do on the machine itself.
"""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

from private_engine import api
from private_engine.commands import run, say
from private_engine.errors import LabError
from private_engine.state import BASE_IMAGE, CACHE, Node

RELEASE = "bookworm"
PACKAGES = "python3,python3-pip,ca-certificates,tini"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS = f"[global]\ncert = {CERTIFICATES}\n"
#: Its mounts and processes live apart, and die with us if we are interrupted or killed.
APART = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
)
#: Raise it when what this module makes changes: the cached archive has it in its name.
VERSION = 1


def archive() -> Path:
    """The image's file system as a tar file, made once and cached."""
    tar = CACHE / f"base-{RELEASE}-{platform.machine()}-{VERSION}.tar"
    if tar.exists():
        return tar
    CACHE.mkdir(parents=True, exist_ok=True)
    root = CACHE / "root"
    shutil.rmtree(root, ignore_errors=True)
    say(f"making the base image from Debian {RELEASE} (once, about a minute)")
    packages = f"--include={PACKAGES}"
    run(*APART, "debootstrap", "--variant=minbase", packages, RELEASE, str(root))
    _adapt(root)
    aside = tar.with_suffix(".new")
    run("tar", "-C", str(root), "--exclude=./dev/*", "--exclude=./proc/*", "-cf", str(aside), ".")
    aside.rename(tar)
    shutil.rmtree(root)
    return tar


def provide(node: Node) -> None:
    """Give the node's engine the base image: from the cache, or node 1's very image."""
    if _has_image(node):
        return
    first = node.lab.node(1)
    if node.number != first.number:
        api.copy_image(BASE_IMAGE, first.socket, node.socket)
        return
    repository, tag = BASE_IMAGE.split(":")
    with archive().open("rb") as tar:
        answer = api.request(
            node.socket,
            "POST",
            "/images/create",
            tar,
            fromSrc="-",
            repo=repository,
            tag=tag,
            changes='CMD ["python3"]',
        )
    # The engine reports a failed import in its answer's last line, with status 200.
    outcome = json.loads(answer.splitlines()[-1])
    if "error" in outcome:
        raise LabError(f"importing the base image failed: {outcome['error']}")


def _has_image(node: Node) -> bool:
    images = api.get(node.socket, "/images/json")
    return any(BASE_IMAGE in (image["RepoTags"] or []) for image in images)


def _adapt(root: Path) -> None:
    """What `python:3-slim` does too, and what this machine's way to the packages needs."""
    for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for file in (root / unneeded).iterdir():
            if file.is_file():
                file.unlink()
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    if CERTIFICATES.exists():
        shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        (root / "etc/pip.conf").write_text(PIP_SETTINGS)
    # debootstrap copies the machine's name and resolvers in; an engine writes its own.
    for host_file in ("etc/hostname", "etc/resolv.conf"):
        (root / host_file).unlink(missing_ok=True)
