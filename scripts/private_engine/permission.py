"""What the lab may do to this machine, and getting the packages that it needs.

Without an engine and as root: Debian's packages may be installed, and nothing removed for them.
Where an engine is installed or running that no lab brought: nothing is installed or changed,
unless the caller said so (`--private-engine`, or CI=true, since a CI job's machine is its own).
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from private_engine import surroundings
from private_engine.commands import run, say, works
from private_engine.errors import LabError, NotAllowed, NotPossible
from private_engine.state import PACKAGES_RECORD

#: The command that shows that a package is there -> the package.
ENGINE_PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
}
#: The engine's package brings the client up to Debian 12; later it is one of its own.
CLIENT_PACKAGES = {"docker": "docker-cli"}
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLICY = Path("/usr/sbin/policy-rc.d")
REFUSE_STARTS = "#!/bin/sh\nexit 101\n"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def require(*, private_engine: bool) -> None:
    """Raise NotPossible or NotAllowed unless this machine may be changed: packages installed,
    a private engine started."""
    if os.geteuid() != 0:
        raise NotPossible(
            "starting an engine and installing packages need root",
            hint="run it as root, or point DOCKER_HOST at an engine with a swarm",
        )
    if private_engine or in_ci():
        return
    remedy = (
        "scripts/test uses that engine as it is if it has a swarm; to start another, private one "
        "beside it, run scripts/lab up --private-engine"
    )
    running = surroundings.foreign_engine()
    if running:
        raise NotAllowed(f"an engine that isn't the lab's is running: {running}", hint=remedy)
    if shutil.which("dockerd") and ENGINE_PACKAGES["dockerd"] not in installed_by_lab():
        raise NotAllowed("an engine that isn't the lab's is installed here", hint=remedy)


def ensure_commands(wanted: dict[str, str]) -> None:
    """Install the packages of the commands (command -> package) that are missing."""
    missing = [package for command, package in wanted.items() if not shutil.which(command)]
    if missing:
        install(missing)
    for command, package in wanted.items():
        if not shutil.which(command):
            raise LabError(f"{package} is installed, but there is no {command} on the PATH")


def install(missing: list[str]) -> None:
    """Install these Debian packages, record them, and let them start nothing."""
    if not shutil.which("apt-get"):
        raise NotPossible(
            f"missing here: {', '.join(missing)}, and this is no Debian to install it from",
            hint="install it, or point DOCKER_HOST at an engine with a swarm",
        )
    say(f"installing {', '.join(missing)}")
    # Recorded before the installation: if that is interrupted, the engine still counts as ours.
    _record(missing)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _undisturbed(), _services_not_started():
        run("apt-get", "update", "-qq", env=quiet)
        options = ("--yes", "-qq", "--no-install-recommends", "--no-remove")
        run("apt-get", "install", *options, *missing, env=quiet)


def installed_by_lab() -> set[str]:
    try:
        return set(PACKAGES_RECORD.read_text().split())
    except FileNotFoundError:
        return set()


def _record(packages: list[str]) -> None:
    PACKAGES_RECORD.parent.mkdir(parents=True, exist_ok=True)
    recorded = sorted(installed_by_lab() | set(packages))
    PACKAGES_RECORD.write_text("\n".join(recorded) + "\n")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An interrupted installation leaves the package system broken: signals wait for its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _services_not_started() -> Iterator[None]:
    """Debian's way to keep packages from starting services: the host gets no engine."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text(REFUSE_STARTS)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink()
    if works("systemctl", "is-enabled", "docker.service"):
        # Else the next boot would start it.
        run("systemctl", "disable", "docker.service", "docker.socket", "containerd.service")
