"""Which replicas of a service live, and why others don't."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from funker.backends.swarm import slots

_times = itertools.count()


def spec(replicas: int) -> dict[str, Any]:
    return {"Name": "add", "Mode": {"Replicated": {"Replicas": replicas}}}


def task(slot: int, state: str, desired: str = "running", error: str = "") -> dict[str, Any]:
    return {
        "ID": f"task{next(_times)}",
        "CreatedAt": f"2026-01-01T00:00:{next(_times):02}Z",
        "Slot": slot,
        "DesiredState": desired,
        "Status": {"State": state, "Err": error},
    }


@pytest.mark.parametrize(
    ("tasks", "number"),
    [
        ([], 2),
        ([task(1, "running"), task(2, "running")], 0),
        ([task(1, "running"), task(2, "preparing")], 0),
        ([task(1, "running"), task(2, "ready", "ready")], 0),
        ([task(1, "running"), task(2, "pending", error="no suitable node")], 0),
        ([task(1, "running"), task(2, "failed", "shutdown")], 1),
        ([task(1, "complete", "shutdown"), task(2, "complete", "shutdown")], 2),
        ([task(1, "running"), task(2, "failed", "shutdown"), task(2, "starting")], 0),
        ([task(1, "running"), task(2, "running"), task(3, "running", "remove")], 0),
    ],
)
def test_a_slot_is_dead_if_the_swarm_wants_none_of_its_tasks(
    tasks: list[dict[str, Any]], number: int
) -> None:
    assert slots.dead(spec(2), tasks) == number


@pytest.mark.parametrize(
    ("tasks", "number"),
    [
        ([], 0),
        ([task(1, "running"), task(2, "running")], 0),
        ([task(1, "running"), task(2, "running"), task(3, "running")], 1),
        ([task(1, "running"), task(2, "running"), task(3, "running", "remove")], 0),
        ([task(1, "running"), task(2, "complete", "shutdown"), task(2, "starting")], 0),
    ],
)
def test_replicas_are_too_many_if_the_swarm_has_told_none_of_them_to_go(
    tasks: list[dict[str, Any]], number: int
) -> None:
    assert slots.surplus(spec(2), tasks) == number


def test_a_service_that_runs_once_on_each_node_has_no_number() -> None:
    service = {"Name": "add", "Mode": {"Global": {}}}
    assert slots.wanted(service) is None
    assert slots.dead(service, []) == 0
    assert slots.surplus(service, [task(1, "running")]) == 0


def test_those_are_leaving_that_were_told_to_go_and_are_still_there() -> None:
    going = task(1, "running", "remove")
    tasks = [going, task(2, "running"), task(3, "shutdown", "remove"), task(4, "complete")]
    assert slots.leaving(tasks) == [going]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task(1, "running"), task(2, "starting")], ""),
        (
            [task(1, "running"), task(2, "pending", error="no suitable node (2 nodes)")],
            "no suitable node (2 nodes)",
        ),
        (
            [task(1, "running"), task(2, "failed", "shutdown", "task: non-zero exit (1)")],
            "1 replica has ended, and the restart policy starts none: task: non-zero exit (1)",
        ),
        (
            [task(1, "complete", "shutdown"), task(2, "complete", "shutdown")],
            "2 replicas have ended, and the restart policy starts none",
        ),
        (
            [
                task(1, "running"),
                task(2, "rejected", "shutdown", "No such image: add:1"),
                task(2, "ready", "ready"),
            ],
            "replicas end: No such image: add:1",
        ),
        ([task(1, "running"), task(2, "failed", "shutdown", "old"), task(2, "running")], ""),
    ],
)
def test_the_swarm_is_quoted_on_why_replicas_are_missing(
    tasks: list[dict[str, Any]], words: str
) -> None:
    assert slots.why_missing(spec(2), tasks) == words
