"""Hostile and broken calls of `isolation: process`.

The replica survives, the caller hears what went wrong, and the next call finds nothing of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import funker

HOSTILE = Path(__file__).resolve().parents[1] / "residue" / "hostile.py"

#: Bytes, seconds and numbers that a call of this file's function may have.
LIMITS = f"as={1 << 30},cpu=2,fsize={5_000_000},nofile=80"
#: Seconds for a call that doesn't end by itself.
TIMEOUT_S = 1.0
#: Of an idle replica with one slot, beside the front: zygote, keeper, two workers.
PROCESSES = 4


def descendants(pid: int) -> list[int]:
    """What a process has started, and what that has, without zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == pid and stat[0] != "Z":
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


class Function:
    """A replica that must live, and have no more processes after a call than before."""

    def __init__(self, served: Any) -> None:
        self.served = served
        self._front = served.front
        assert served() == []
        self._settled()

    def _settled(self) -> None:
        give_up = time.monotonic() + 20
        while (processes := len(descendants(self._front))) != PROCESSES:
            assert time.monotonic() < give_up, f"{processes} processes"
            time.sleep(0.02)

    def call(self, act: str, *, timeout: float | None = None, **values: Any) -> Any:
        return self.served.function(timeout=timeout)(act=act, **values)

    def check(self) -> None:
        assert self.served() == [], "the next call finds files"
        assert self.served.front == self._front
        assert self.served.exits.empty(), "the replica has ended"
        self._settled()


def _own_processes() -> int:
    """Roughly: they come and go."""
    number = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            number += entry.stat().st_uid == os.getuid()
    return number


@pytest.fixture(scope="module")
def shared(serve_all: Callable[..., Any]) -> Function:
    nproc = 60 if os.geteuid() == 0 else _own_processes() + 60
    return Function(
        serve_all(
            HOSTILE.read_text(),
            name="hostile",
            FUNKER_ISOLATION="process",
            FUNKER_SLOTS="1",
            FUNKER_ULIMITS=f"{LIMITS},nproc={nproc}",
        )
    )


@pytest.fixture
def function(shared: Function) -> Any:
    yield shared
    shared.check()


@pytest.mark.parametrize("act", ["fork_bomb", "fork_bomb_of_sessions"])
def test_a_fork_bomb_ends_with_its_call(function: Function, act: str) -> None:
    with pytest.raises(funker.FunctionTimeout):
        function.call(act, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("memory", "MemoryError"),
        ("one_file", "File too large"),
        ("descriptors", "Too many open files"),
    ],
)
def test_beyond_a_limit_the_handler_fails_with_the_systems_words(
    function: Function, act: str, why: str
) -> None:
    with pytest.raises(funker.FunctionError, match=why):
        function.call(act)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("spin", "killed by SIGXCPU"),
        ("crash", "killed by SIGSEGV"),
        ("kill_group", "killed by SIGKILL"),
    ],
)
def test_a_call_that_dies_is_told_by_how(function: Function, act: str, why: str) -> None:
    with pytest.raises(funker.FunctionCrashed, match=why):
        function.call(act)


@pytest.mark.parametrize("act", ["ignore_signals", "stop_itself"])
def test_whatever_doesnt_listen_is_killed_when_its_time_is_over(
    function: Function, act: str
) -> None:
    with pytest.raises(funker.FunctionTimeout):
        function.call(act, timeout=TIMEOUT_S)


@pytest.mark.parametrize("act", ["close_everything", "babble"])
def test_a_call_that_spoils_its_link_has_one_outcome(function: Function, act: str) -> None:
    with pytest.raises(funker.CallError):
        function.call(act, timeout=TIMEOUT_S)


def test_many_files_are_gone_with_their_call(function: Function) -> None:
    assert function.call("many_files", count=1000) == 1000


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        ("close_output", "said nothing"),
        ("daemon", "daemon started"),
        ("stay_at_exit", "answered"),
    ],
)
def test_an_answer_stays_one_whatever_the_process_does_to_itself(
    function: Function, act: str, answer: str
) -> None:
    assert function.call(act) == answer


def test_a_flood_of_lines_is_cut_off_and_holds_up_nobody(function: Function) -> None:
    before = len(function.served.stdout())
    assert function.call("print_lines", bytes=1_000_000_000) == "printed"
    function.check()
    assert len(function.served.stdout()) - before < 4_000_000
