"""The quickstart, typed as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.swarm

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the console blocks with the output lines below it."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield command, output


def shows(printed: str, line: str) -> bool:
    """Whether a line of the docs, in which `...` stands for anything, is among the printed ones.

    There may be more: the swarm may have other functions too.
    """
    pattern = re.escape(line).replace(r"\.\.\.", ".*")
    return any(re.fullmatch(pattern, other) for other in printed.splitlines())


def test_the_quickstart_works_as_it_is_written(engine: object, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    typed = [
        (command, output)
        for command, output in commands(QUICKSTART.read_text(encoding="utf-8"))
        if not command.startswith("pip ")
    ]
    assert len(typed) >= 8
    try:
        for command, output in typed:
            if command.startswith("docker "):
                continue  # its client may not be installed
            done = subprocess.run(
                command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            for line in output:
                assert shows(done.stdout, line), f"{command}: {line!r} isn't in\n{done.stdout}"
    finally:
        subprocess.run(
            ["funker", "rm", "-y", "hello"], env=environment, capture_output=True, check=False
        )
