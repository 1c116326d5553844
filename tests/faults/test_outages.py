"""The controller is killed and stays away for 10 s, with calls waiting, running and ending."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.faults.checker import check
from tests.faults.ground import PATIENCE, RECONCILER, ROUTER, Ground

#: Seconds without it.
AWAY = 10.0
CALLS = 20
#: As many as the machine starts in a reasonable time; the other calls wait.
REPLICAS = {"local": CALLS, "swarm": 8}


def begin(ground: Ground, function: str) -> int:
    """Calls that end in each moment from just after the kill until all is there again.

    Returns the number of replicas, all of which have one.
    """
    replicas = REPLICAS[ground.backend.name]
    ground.deploy(function, replicas=replicas)
    ground.until(function, free=replicas)
    ground.wipe()
    ends = [1 + (AWAY + 2) * n / CALLS for n in range(CALLS)]
    ground.call(ground.order([(function, False)], at_once=ends))
    ground.until_written("started", replicas)
    return replicas


def check_answers(ground: Ground) -> None:
    """Every call has its one right answer, of one run."""
    ground.until_over(PATIENCE)
    verdict = check(ground.ledger(), [])
    assert not verdict.problems, str(verdict)
    assert verdict.outcomes == {"ok": CALLS}


def test_calls_that_end_while_the_controller_is_away_are_answered_and_ran_once(
    local: Ground, function: str
) -> None:
    begin(local, function)

    local.hold_down(AWAY, ROUTER, RECONCILER)

    check_answers(local)


def test_so_are_those_of_a_function_that_is_being_deployed(ground: Ground, function: str) -> None:
    replicas = begin(ground, function)
    with ThreadPoolExecutor(1) as threads:
        deploy = threads.submit(ground.deploy, function, replicas=replicas, generation=1)
        threading.Event().wait(0.7)  # some replicas are of the new version by now, others not

        ground.hold_down(AWAY, ROUTER, RECONCILER)

        deploy.result()
    check_answers(ground)
    ground.until(function, queued=0, busy=0, free=replicas)
