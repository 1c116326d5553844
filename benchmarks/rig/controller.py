"""The router's image and its keys, for a router of the rig's own beside any that a user has."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq
from docker import DockerClient

import funker.controller
from funker.backends.base import ControlPlane
from funker.backends.swarm import parts
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.keyring import CLIENT_SECRET
from funker.images.context import write_context
from funker.rpc.keys import ROUTER_NAME

#: The module that is the router's process.
ROUTER = "funker.controller.router"
PORT = 5571
#: Of the functions' own user.
UID = 10001


@dataclass(frozen=True)
class Router:
    """Where a router of the rig's is, and what its callers and replicas have to know."""

    #: Its name on the rig's network; also that of the swarm's secret with the key.
    host: str
    #: The key file's content. Empty: it hears everybody.
    key: bytes = b""
    #: The swarm's ID of the secret, and its name if that isn't the router's.
    secret: str = ""
    secret_name: str = ""

    @property
    def address(self) -> str:
        return f"{self.host}:{PORT}"

    @property
    def known_as(self) -> str:
        """The secret's name."""
        return self.secret_name or self.host

    @property
    def environment(self) -> dict[str, str]:
        """A caller's variables."""
        told = {"FUNKER_ROUTER": self.address}
        return {**told, "FUNKER_KEY_FILE": self._file} if self.key else told

    @property
    def files(self) -> dict[str, bytes]:
        """A caller's files: contents by absolute path."""
        return {self._file: self.key} if self.key else {}

    @property
    def _file(self) -> str:
        return f"/app/{self.host}.key"


@dataclass(frozen=True)
class Keys:
    """The two key files of one router: its own, and that of its callers and replicas."""

    router: bytes
    client: bytes


@contextlib.contextmanager
def brought_up(engine: Engine) -> Iterator[Router]:
    """The engine's own controller, which is taken down again if it wasn't there."""
    backend = Swarm(engine)
    was_there = bool(parts.services(engine))
    base = os.environ.get("FUNKER_BASE", "")
    backend.up(ControlPlane() if was_there else ControlPlane(base=base))
    try:
        (secret,) = engine.client.secrets.list(filters={"name": CLIENT_SECRET})
        key = backend.client_key().encode()
        yield Router(ROUTER_NAME, key, str(secret.id), CLIENT_SECRET)
    finally:
        if not was_there:
            backend.down()


def new_keys() -> Keys:
    router_public, router_secret = (key.decode() for key in zmq.curve_keypair())
    client_public, client_secret = (key.decode() for key in zmq.curve_keypair())
    return Keys(
        router=_file(
            ROUTER_PUBLIC=router_public, ROUTER_SECRET=router_secret, CLIENT_PUBLIC=client_public
        ),
        client=_file(
            ROUTER_PUBLIC=router_public, CLIENT_PUBLIC=client_public, CLIENT_SECRET=client_secret
        ),
    )


def _file(**lines: str) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode()


def router_image(docker: DockerClient, image: str) -> str:
    """The functions' image with the controller on top: the router needs nothing else."""
    package = Path(funker.controller.__file__).parent
    files = {f"controller/{file.name}": file.read_bytes() for file in package.glob("*.py")}
    recipe = (
        f"FROM {image}\nUSER root\nCOPY controller/ /opt/controller/\n"
        "RUN package=$(python3 -c 'import funker; print(funker.__path__[0])') "
        '&& mv /opt/controller "$package" && python3 -m compileall -q "$package"\n'
        f"USER {UID}:{UID}\n"
    )
    with tempfile.TemporaryFile() as context:
        write_context(context, {**files, "Dockerfile": recipe.encode()}, [])
        context.seek(0)
        built, _ = docker.images.build(fileobj=context, custom_context=True, rm=True)
    return str(built.id)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of files, named by absolute paths, that only the functions' user may read."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.lstrip("/"))
            info.size, info.mode, info.uid, info.gid = len(content), 0o400, UID, UID
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
