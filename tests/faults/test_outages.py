"""Parts of the controller are killed and stay away for 10 s, with calls under way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.faults.checker import check
from tests.faults.ground import PATIENCE, RECONCILER, ROUTER, Ground

#: Seconds without them.
AWAY = 10.0
#: Calls, and replicas: as many as the machine starts in a reasonable time.
CALLS = 20
REPLICAS = {"local": 20, "swarm": 10}


def answered(ground: Ground) -> int:
    """The number of calls, all of which have their one right answer, of one run each."""
    ground.until_over(PATIENCE)
    verdict = check(ground.ledger(), [])
    assert not verdict.problems, str(verdict)
    assert verdict.outcomes["ok"] == verdict.calls
    return verdict.calls


def test_calls_that_end_while_the_controller_is_away_are_answered_and_ran_once(
    ground: Ground, function: str
) -> None:
    replicas = REPLICAS[ground.backend.name]
    ground.deploy(function, replicas=replicas)
    ground.until(function, free=replicas)
    ground.wipe()
    # From those that end just after the kill to those that end when all is there again.
    ends = [1 + (AWAY + 2) * n / CALLS for n in range(CALLS)]
    ground.call(ground.order([(function, False)], at_once=ends))
    ground.until_written("started", replicas)

    ground.hold_down(AWAY, ROUTER, RECONCILER)

    assert answered(ground) == CALLS


def test_a_deploy_goes_on_while_the_controller_is_away_and_no_call_is_lost(
    ground: Ground, function: str
) -> None:
    ground.deploy(function, replicas=4)
    ground.wipe()
    ground.call(ground.order([(function, False)], seconds=AWAY + 5, takes=(0.01, 4.0)))
    ground.until_written("ended", 2)
    with ThreadPoolExecutor(1) as threads:
        deploy = threads.submit(ground.deploy, function, replicas=4, generation=1)
        threading.Event().wait(0.7)  # some replicas are of the new version by now, others not

        ground.hold_down(AWAY, ROUTER, RECONCILER)

        deploy.result()
    assert answered(ground) > 4
    ground.until(function, queued=0, busy=0, free=4)
