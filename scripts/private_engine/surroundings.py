"""The engines that this machine has besides the lab's: looked at, never changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from private_engine import api
from private_engine.errors import LabError

#: Every engine of a lab has it, with the lab's directory as its value.
LABEL = "funker.lab"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
#: Seconds; an engine behind ssh takes a few.
PATIENCE = 20
ASK_SWARM = "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"


def foreign_engine() -> str | None:
    """The address of a running engine that no lab started, where docker's client would find it."""
    for address in _addresses():
        if _swarm(address) is not None and not _is_lab(address):
            return address
    return None


def swarm() -> str | None:
    """The address of an engine that manages a swarm, where docker's client would find one.

    Raises LabError if DOCKER_HOST names an engine that doesn't answer or manages none: then
    another engine isn't what was asked for.
    """
    for address in _addresses():
        state = _swarm(address)
        if state == ("active", True):
            return address
        if _named() and not _in_a_lab(address):
            trouble = "doesn't answer" if state is None else "doesn't manage a swarm"
            raise LabError(
                f"DOCKER_HOST is {address}, and the engine there {trouble}",
                hint="unset DOCKER_HOST, or run `docker swarm init` there",
            )
    return None


def _named() -> str:
    return os.environ.get("DOCKER_HOST", "")


def _addresses() -> list[str]:
    if _named():
        return [_named()]
    context = _client("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    return list(dict.fromkeys([context or DEFAULT_ENGINE, DEFAULT_ENGINE]))


def _swarm(address: str) -> tuple[str, bool] | None:
    """The engine's state in the swarm, and whether it is a manager; None if nothing answers."""
    if address.startswith("unix://"):
        socket = _path(address)
        if not api.answers(socket):
            return None
        swarm = api.get(socket, "/info")["Swarm"]
        return str(swarm["LocalNodeState"]), bool(swarm["ControlAvailable"])
    state, _, manages = _client("--host", address, "info", "--format", ASK_SWARM).partition(" ")
    return (state, manages == "true") if state else None


def _is_lab(address: str) -> bool:
    if not address.startswith("unix://"):
        return False
    labels = api.get(_path(address), "/info").get("Labels") or []
    return any(label.startswith(f"{LABEL}=") for label in labels)


def _in_a_lab(address: str) -> bool:
    """Whether it is, or was before the lab went down, the address of a lab's engine."""
    directory = os.environ.get("FUNKER_LAB_DIR", "")
    return bool(directory) and address.startswith(f"unix://{directory}/")


def _path(address: str) -> Path:
    return Path(address.removeprefix("unix://"))


def _client(*arguments: str) -> str:
    """What docker's own client says (it knows contexts, ssh and TLS); nothing if it can't."""
    if not shutil.which("docker"):
        return ""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
