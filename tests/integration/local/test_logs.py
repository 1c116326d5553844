"""What functions on the local backend write."""

from __future__ import annotations

import threading
import time
from typing import Any

CHATTY = """
import sys

def handle(text):
    print(text)
    print("to stderr", file=sys.stderr)
    print("without an end", end="")
"""


def _texts(machine: Any, **options: Any) -> list[str]:
    return [line.text for line in machine.backend.logs("add", **options)]


def test_lines_have_their_stream_replica_and_time(up: Any) -> None:
    up.deploy(CHATTY)
    started = time.time()
    up.call(text="hello")
    up.until(lambda: len(_texts(up)) == 3, "all three lines")
    lines = list(up.backend.logs("add", timestamps=True))
    assert sorted((line.stream, line.text) for line in lines) == [
        ("stderr", "to stderr"),
        ("stdout", "hello"),
        ("stdout", "without an end"),
    ]
    assert {line.replica for line in lines} == {"add.1"}
    assert len({line.task for line in lines}) == 1
    assert _texts(up, since=started - 1) == _texts(up)
    assert _texts(up, since=time.time()) == []
    assert len(_texts(up, tail=2)) == 2
    assert _texts(up, tail=0) == []


def test_following_shows_what_comes(up: Any) -> None:
    up.deploy(CHATTY)
    up.call(text="before")
    seen: list[str] = []

    def follow() -> None:
        for line in up.backend.logs("add", follow=True, tail=0):
            seen.append(line.text)
            if line.text == "last":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    up.call(text="first")
    up.call(text="last")
    thread.join(30)
    assert not thread.is_alive()
    assert seen.index("first") < seen.index("last")


def test_a_log_is_bounded(up: Any) -> None:
    up.deploy("def handle(n): print(('x' * 1000 + chr(10)) * n)")
    for _ in range(10):
        up.call(n=1000)
    up.until(lambda: (up.state.logs / "add.log.1").exists(), "the second file")
    size = sum(file.stat().st_size for file in up.state.logs.glob("add.log*"))
    assert size < 9 * 1024 * 1024
    assert _texts(up, tail=1) == ["x" * 1000] or _texts(up, tail=1) == [""]


def test_a_line_that_never_ends_is_broken_up(up: Any) -> None:
    up.deploy("def handle(n): print('x' * n)")
    up.call(n=100_000)
    up.until(lambda: sum(map(len, _texts(up))) == 100_000, "all of it")


def test_a_line_tells_its_call(up: Any) -> None:
    up.deploy(CHATTY)
    up.call(text="one")
    up.call(text="two")
    up.until(lambda: len(_texts(up)) == 6, "all six lines")
    lines = list(up.backend.logs("add"))
    with up.backend.controller() as controller:
        newest, oldest = (record["id"] for record in controller.query("calls", function="add"))
    assert {line.call for line in lines} == {newest, oldest}
    assert sorted(line.text for line in lines if line.call == newest) == [
        "to stderr",
        "two",
        "without an end",
    ]
