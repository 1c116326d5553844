"""kill -9 of whatever runs for the local backend: the next call is answered, nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funker.rpc.errors import ReplicaLost, RouterUnavailable

ADD = "def handle(x, y): return x + y"
#: Counts its runs in a file, and takes its time.
COUNTED = """
import os, time

def handle(file, seconds):
    with open(file, "a") as runs:
        runs.write("x")
    time.sleep(seconds)
    return "done"
"""


def _agent(machine: Any) -> int:
    return int(machine.status()["pid"])


def _child(name: str) -> Callable[[Any], int]:
    def find(machine: Any) -> int:
        machine.until(lambda: machine.status()["children"][name], f"the {name}")
        return int(machine.status()["children"][name])

    return find


def _front(machine: Any) -> int:
    return int(machine.replicas()[0]["pid"])


def _worker(machine: Any) -> int:
    found: list[str] = []

    def look() -> bool:  # the replica that has just answered has none any more
        first = machine.replicas()[0]
        front = first["pid"]
        with contextlib.suppress(OSError):
            if first["state"] == "ready":
                found.extend(Path(f"/proc/{front}/task/{front}/children").read_text().split())
        return bool(found)

    machine.until(look, "a worker")
    return int(found[0])


def _kill(machine: Any, find: Callable[[Any], int]) -> None:
    machine.until(lambda: machine.replicas()[0]["state"] == "ready", "a replica that is ready")
    pid = 0

    def killed() -> bool:
        nonlocal pid
        pid = find(machine)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # one of the replica that has just answered
            return False
        return True

    machine.until(killed, "a process to kill")
    machine.until(lambda: pid not in machine.processes(), f"the end of process {pid}")
    if find is not _agent:  # until it is noticed, a call may be on its way to what is no more
        machine.until(
            lambda: pid not in [replica["pid"] for replica in machine.replicas()], "the news of it"
        )


VICTIMS = {
    "router": _child("router"),
    "reconciler": _child("reconciler"),
    "front": _front,
    "worker": _worker,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_next_call_is_answered_after_a_kill_of(up: Any, victim: str) -> None:
    up.deploy(ADD)
    for number in range(3):
        _kill(up, VICTIMS[victim])
        assert up.call(x=number, y=1) == number + 1
    up.down()
    assert up.is_clear()


def test_a_controller_that_was_killed_is_brought_up_again(up: Any) -> None:
    up.deploy(ADD)
    for number in range(3):
        _kill(up, _agent)
        assert up.up()
        assert up.call(x=number, y=1) == number + 1


def test_after_a_kill_of_everything_the_next_call_is_answered(up: Any) -> None:
    up.deploy(ADD)
    up.call(x=1, y=1)
    up.kill_all()
    up.up()
    assert up.call(x=1, y=2) == 3


def test_after_a_kill_of_everything_going_down_clears_up(up: Any) -> None:
    up.deploy(ADD)
    up.kill_all()
    assert up.state.run.exists()
    assert up.down()
    assert up.is_clear()
    assert up.down() == []


def test_without_their_agent_idle_replicas_and_the_router_leave(up: Any) -> None:
    up.deploy(ADD, replicas=3)
    _kill(up, _agent)
    killed = time.monotonic()
    up.until(lambda: not up.processes(), "the end of all processes")
    assert time.monotonic() - killed < 10


@pytest.mark.parametrize("again", ["at once", "later"])
def test_a_call_outlives_its_controller_and_runs_once(up: Any, again: str) -> None:
    up.deploy(COUNTED, replicas=2)
    runs = up.sources / "runs"
    answer = up.call_later(file=str(runs), seconds=2)
    up.until(runs.exists, "the call to run")
    os.kill(_agent(up), signal.SIGKILL)
    if again == "later":
        # Busy, it stays: first to finish, then with its answer.
        up.until(lambda: len(up.processes()) <= 2, "the end of what is idle")
        time.sleep(2.5)
        assert up.processes()
    up.up()
    assert answer() == "done"
    assert runs.read_text() == "x"


def test_a_call_outlives_the_router(up: Any) -> None:
    up.deploy(COUNTED)
    runs = up.sources / "runs"
    answer = up.call_later(file=str(runs), seconds=1)
    up.until(runs.exists, "the call to run")
    os.kill(_child("router")(up), signal.SIGKILL)
    assert answer() == "done"
    assert runs.read_text() == "x"


def test_what_a_handler_has_started_ends_with_a_front_that_was_killed(up: Any) -> None:
    up.deploy(
        """
        import subprocess

        def handle(file):
            child = subprocess.Popen(["sleep", "100"])
            with open(file + ".new", "w") as told:
                told.write(str(child.pid))
            import os; os.rename(file + ".new", file)
            child.wait()
        """
    )
    told = up.sources / "pid"
    answer = up.call_later(file=str(told), deadline=5)
    up.until(told.exists, "the handler's own process")
    pid = int(told.read_text())
    assert pid in up.processes()
    os.kill(_front(up), signal.SIGKILL)
    up.until(lambda: pid not in up.processes(), "its end")
    assert isinstance(answer(), ReplicaLost)


def test_going_down_ends_what_a_killed_controller_has_left_running(up: Any) -> None:
    up.deploy(COUNTED)
    runs = up.sources / "runs"
    answer = up.call_later(file=str(runs), seconds=1, deadline=3)
    up.until(runs.exists, "the call to run")
    os.kill(_agent(up), signal.SIGKILL)
    # Its caller gives up: nobody will ever fetch the answer.
    assert isinstance(answer(), RouterUnavailable)
    changes = up.down()
    assert "cleared up after a controller that was killed" in changes[0]
    assert up.is_clear()


#: A function whose replicas do without what only Linux has.
PORTABLE = """
from funker_runtime import kernel

kernel.LINUX = False

import funker, os, subprocess

def handle(file):
    child = subprocess.Popen(["sleep", "100"])
    with open(file + ".new", "w") as told:
        told.write(f"{os.getpid()} {child.pid}")
    os.rename(file + ".new", file)
    child.wait()

def answer(file):
    return handle(file) if file else "done"

funker.handle(answer)
"""
DOCKERFILE = """
FROM funker-python
COPY . .
ENTRYPOINT ["/usr/bin/tini", "--", "python3", "portable.py"]
"""


def _deploy_portable(machine: Any) -> None:
    place = machine.sources / "portable"
    place.mkdir()
    (place / "portable.py").write_text(PORTABLE)
    (place / "Dockerfile").write_text(DOCKERFILE)
    machine.deploy_source(place, "add")


def test_where_no_kernel_ends_children_with_their_parents_nothing_is_left_either(up: Any) -> None:
    _deploy_portable(up)
    assert up.call(file="") == "done"
    told = up.sources / "pids"
    answer = up.call_later(file=str(told), deadline=5)
    up.until(told.exists, "the handler's own process")
    os.kill(_front(up), signal.SIGKILL)
    pids = {int(pid) for pid in told.read_text().split()}
    up.until(lambda: not pids & set(up.processes()), "the end of the worker and its child")
    assert isinstance(answer(), ReplicaLost)
    assert up.call(file="") == "done"
    _kill(up, _agent)
    up.until(lambda: not up.processes(), "the end of all processes")


def test_a_worker_whose_front_and_agent_were_killed_is_ended_by_the_next_agent(up: Any) -> None:
    _deploy_portable(up)
    told = up.sources / "pids"
    answer = up.call_later(file=str(told), deadline=20)
    up.until(told.exists, "the handler's own process")
    front = _front(up)
    os.kill(_agent(up), signal.SIGKILL)
    os.kill(front, signal.SIGKILL)
    up.up()
    pids = {int(pid) for pid in told.read_text().split()}
    up.until(lambda: not pids & set(up.processes()), "the end of the worker and its child")
    assert isinstance(answer(), ReplicaLost)
