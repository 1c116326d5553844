"""`funker run --backend swarm`: a service that lives as long as the command does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.swarm

FUNKER = Path(sys.executable).with_name("funker")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "doubled"
    directory.mkdir()
    (directory / "handler.py").write_text(
        "def handle(x):\n    print('x is', x)\n    return 2 * x\n"
    )
    return directory


def _services(engine) -> list[str]:
    return [service.name for service in engine.services.list()]


def test_one_call_is_made_by_a_service_that_is_removed_again(funker, engine, source):
    done = funker.ok("run", source, "--backend", "swarm", "--call", '{"x": 4}')

    assert done.stdout == "8\n"
    assert "creating the service doubled-" in done.stderr
    assert not [name for name in _services(engine) if name.startswith("doubled-")]


def test_ctrl_c_removes_the_service(engine, source, name, tmp_path):
    said = tmp_path / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            [FUNKER, "run", "-r", source, "--backend", "swarm", "-n", name],
            env=os.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        give_up = time.monotonic() + 120
        while "Call it" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < give_up, said.read_text()
            time.sleep(0.1)
        assert name in _services(engine)

        process.send_signal(signal.SIGINT)

        assert process.wait(120) == 130
    assert name not in _services(engine)


def test_a_name_that_is_taken_is_not_touched(funker, engine, source, name):
    funker.ok("deploy", source, name)

    done = funker("run", source, "--backend", "swarm", "-n", name, "--call", '{"x": 4}')

    assert done.code == 2
    assert done.stderr.startswith(f"error: there is a function {name} already\n")
    assert name in _services(engine)
