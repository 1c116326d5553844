"""What a call of `isolation: process` leaves for the next one: nothing, but what the docs list."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import funker

ROOT = Path(__file__).resolve().parents[2]
HANDLER = ROOT / "tests" / "residue" / "handler.py"
GUIDE = ROOT / "docs" / "guides" / "isolation.md"

CHANNELS = re.findall(r'^@finds\("(.+)"\)|^file_channel\("(.+?)"', HANDLER.read_text(), re.M)
NAMES = [one or other for one, other in CHANNELS]


def documented() -> set[str]:
    """The channels that the guide says are open."""
    _, _, section = GUIDE.read_text().partition("## What stays open")
    return set(re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE))


@pytest.fixture(scope="module")
def function(serve_all: Callable[..., Any]) -> Any:
    code = HANDLER.read_text()
    served = serve_all(code, name="residue", FUNKER_ISOLATION="process", FUNKER_SLOTS="1")
    (served.directory / "owned").write_text("mine")
    return served


def test_the_table_of_the_tests_is_the_functions(function: Any) -> None:
    assert sorted(function(act="list")) == sorted(NAMES)


@pytest.mark.parametrize("channel", NAMES)
def test_the_next_call_finds_no_trace(function: Any, channel: str) -> None:
    try:
        left = function(channel=channel, act="leave")
    except funker.CallError as error:
        left = error.message
    found = function(channel=channel, act="find")
    is_open = found != "'nothing'"
    if channel in documented():
        assert is_open, f"the guide says that {channel!r} is open; leaving it gave {left!r}"
    else:
        assert not is_open, f"not in the guide: {channel!r} leaves {found}; it gave {left!r}"
