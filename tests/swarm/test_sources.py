"""From an address to a running function, through everything in between."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.swarm

HANDLER = """\
# /// script
# dependencies = ["six==1.17.0"]
# ///
import six

def handle(x, y):
    return [six.__version__, x + y]
"""


def test_a_file_in_a_repository_is_deployed_with_its_requirements(funker, name, tmp_path):
    repository = tmp_path / "repository"
    (repository / "jobs").mkdir(parents=True)
    (repository / "jobs" / "add.py").write_text(HANDLER)
    git(repository, "init", "--quiet", "--template=")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=work")
    git(repository, "tag", "v1")
    (repository / "jobs" / "add.py").write_text("def handle(x, y):\n    return 'not this'\n")
    git(repository, "commit", "--quiet", "--all", "--message=more")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    deployed = funker.ok(
        "deploy", f"file://{repository}//jobs/add.py@v1", name, "--json", env=environment
    )

    assert deployed.json["name"] == name
    assert f"funker call {name} x=... y=..." in deployed.stderr
    assert funker.ok("call", name, "x=1", "y=2").json == ["1.17.0", 3]


def git(repository: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", repository, *author, *arguments], check=True)
