"""`isolation: process` in a container: what a call leaves there, and what it can break."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Functions that leave traces and do harm: see tests/integration.
SOURCE = ROOT / "tests" / "residue"
GUIDE = ROOT / "docs" / "guides" / "isolation.md"

#: Makes calls one after the other; each one's answer, or its error's code and message.
CALL_EACH = """
import json, sys, funker

name, calls = map(json.loads, sys.argv[1:])
answers = []
for arguments in calls:
    try:
        answers.append(funker.call(name, **arguments))
    except funker.CallError as error:
        answers.append(f"{error.code}: {error.message}")
print(json.dumps(answers))
"""

Call = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def call(
    funker: Any,
    start_caller: Callable[..., Any],
    module_names: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Call:
    """Calls the function with each of these keyword arguments in turn: call({...}, {...})."""
    name = module_names("residue")
    options = ["--isolation", "process", "--slots", "1", "--replicas", "1", "--limit-memory", "96M"]
    mount = "type=tmpfs,target=/tmp,tmpfs-size=4m,tmpfs-mode=1777"
    source = shutil.copytree(SOURCE, tmp_path_factory.mktemp("functions") / name)
    (source / "owned").write_text("mine")
    funker.ok("deploy", source, *options, "--mount", mount)
    caller = start_caller("funker")

    def run(*calls: dict[str, Any]) -> list[Any]:
        answers: list[Any] = caller.run(CALL_EACH, name, calls)
        return answers

    return run


def test_the_next_call_finds_no_trace_but_those_in_the_guide(call: Call) -> None:
    (channels,) = call({})
    acts = [{"channel": name, "act": act} for name in channels for act in ("leave", "find")]
    found = call(*acts)[1::2]
    _, _, section = GUIDE.read_text().partition("## What stays open")
    documented = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    traces = {name: one for name, one in zip(channels, found, strict=True) if one != "'nothing'"}
    assert {name: one for name, one in traces.items() if name not in documented} == {}


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        ("memory", "function_crashed: .* killed by SIGKILL"),
        ("one_file", "function_error: .* No space left on device"),
        ("kill_all", "alone"),
    ],
)
def test_a_call_that_does_harm_fails_alone(call: Call, act: str, outcome: str) -> None:
    where = {"act": "hostile", "channel": "where"}
    before, answer, after = call(where, {"act": "hostile", "channel": act}, where)
    assert re.match(outcome, answer), answer
    assert before == after, "another container, or other processes"
