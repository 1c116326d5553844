"""The lab itself, tested beside the one that the engine under test may belong to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "lab"
#: Where a lab leaves traces on its machine.
PLACES = [
    ["ip", "-brief", "address"],
    ["ip", "netns", "list"],
    ["ip", "route", "show", "table", "all"],
    ["iptables", "-S"],
    ["iptables", "-t", "nat", "-S"],
    ["find", "/sys/fs/cgroup", "-maxdepth", "2", "-type", "d"],
    ["cat", "/proc/mounts"],
]


class Lab:
    """A lab in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str) -> str:
        environment = {**os.environ, "FUNKER_LAB_DIR": str(self.directory)}
        return run(str(SCRIPT), *arguments, env=environment)

    @property
    def state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads((self.directory / "lab.json").read_text())
        return state

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(f"unix://{self.directory}/node1/docker.sock")

    def kill_engine(self) -> None:
        """As a crash would: its containers live on, and nobody tidies up."""
        engines = self.state["engines"]
        assert isinstance(engines, dict)
        os.kill(engines["1"]["pid"], signal.SIGKILL)


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def lab(engine: docker.DockerClient) -> Iterator[Lab]:
    labels = engine.info().get("Labels") or []
    if not any(label.startswith("funker.lab=") for label in labels):
        pytest.skip("on a machine with an engine of its own no lab is started")
    with tempfile.TemporaryDirectory(prefix="funker-", dir="/tmp") as parent:
        lab = Lab(Path(parent, "lab"))
        try:
            lab("up", "--private-engine")
            yield lab
        finally:
            lab("down")


def traces(lab_slot: object) -> list[str]:
    """The lines anywhere on the machine that speak of the lab with this number."""
    lines = [line for place in PLACES for line in run(*place).splitlines()]
    return [line for line in lines if f"funker{lab_slot}" in line or f"10.77.{lab_slot}." in line]


def test_a_lab_leaves_the_machine_as_it_was_even_after_its_engine_crashed(
    lab: Lab, engine: docker.DockerClient
) -> None:
    slot = lab.state["slot"]
    client = lab.client()
    container = client.containers.run("funker-lab/base", ["sleep", "1000"], detach=True)
    client.close()
    assert traces(slot)

    lab.kill_engine()
    lab("down")

    lab("down")  # may be said twice

    assert traces(slot) == []
    assert not lab.directory.exists()
    assert str(container.id) not in run("ps", "-e", "-o", "args")
    assert engine.ping(), "the other lab's engine is none of its business"


def test_up_mends_what_is_broken_and_leaves_alone_what_is_not(lab: Lab) -> None:
    before = lab.state
    lab("up", "--private-engine")
    assert lab.state == before

    lab.kill_engine()
    lab("up", "--private-engine")

    assert lab.state != before
    client = lab.client()
    swarm = client.info()["Swarm"]
    assert client.images.get("funker-lab/base")
    client.close()
    assert swarm["LocalNodeState"] == "active"
    assert swarm["ControlAvailable"]
