"""What a call printed, out of the line that its replica's log has."""

from __future__ import annotations

import json

import pytest

from funker.backends.base import LogLine
from funker.backends.loglines import unwrapped

TOLD = {"time": "T", "function": "add", "call": "c1", "stream": "stdout", "text": "hello"}


def line(text: str) -> LogLine:
    return LogLine(text=text, stream="stdout", replica="add.1", time="T2")


def test_a_front_s_line_becomes_what_was_printed_and_by_which_call() -> None:
    found = unwrapped(line(json.dumps(TOLD, separators=(",", ":"))))
    assert found == LogLine(text="hello", stream="stdout", replica="add.1", time="T2", call="c1")
    before = json.dumps(TOLD | {"call": None}, separators=(",", ":"))
    assert unwrapped(line(before)).call == ""


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "",
        '{"time":',
        '{"time":1}',
        json.dumps(TOLD | {"more": 1}, separators=(",", ":")),
        json.dumps(TOLD | {"text": 1}, separators=(",", ":")),
    ],
)
def test_any_other_line_stays_as_it_is(text: str) -> None:
    assert unwrapped(line(text)) == line(text)
