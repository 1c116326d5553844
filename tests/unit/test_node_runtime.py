"""The replica in JavaScript has tests of its own: codec, state machine; node runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime" / "node"


def test_its_own_tests_pass() -> None:
    bundled = Path(sys.executable).with_name("node")
    node = str(bundled) if bundled.exists() else shutil.which("node")
    if node is None:
        pytest.skip("there is no node: scripts/test installs it")
    done = subprocess.run(
        [node, "--test"], cwd=RUNTIME, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
