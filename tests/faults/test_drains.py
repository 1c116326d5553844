"""Replicas are asked to leave, at full rate and in the middle of long calls: nobody notices."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.faults.checker import check
from tests.faults.ground import PATIENCE, Ground
from tests.faults.swarm_ground import SwarmGround

#: Seconds of the longest calls. By hand, 30.
LONG = float(os.environ.get("FUNKER_FAULT_LONG_S", "6"))
REPLICAS = 4


def test_deploys_scalings_and_drains_cost_no_call(
    ground: Ground, function: str, say: Callable[[str], None]
) -> None:
    drains: list[Callable[[], object]] = [
        lambda: ground.deploy(function, replicas=REPLICAS, generation=1),
        lambda: ground.backend.scale(function, 1),
        lambda: ground.backend.scale(function, REPLICAS),
        lambda: ground.stop_a_replica(function),
    ]
    if isinstance(ground, SwarmGround):
        drains.append(lambda: ground.drain(3.0))
    ground.deploy(function, replicas=REPLICAS)
    ground.wipe()
    order = ground.order([(function, False)], takes=(0.01, LONG), pause=0.0, seconds=10_000)
    ground.call(order)
    ground.until_written("ended", 2)

    for drain in drains:
        before = len(ground.ledger().started)
        drain()
        ground.until_written("started", before + 2)

    ground.dismiss()
    ground.until_over(PATIENCE + LONG)
    verdict = check(ground.ledger(), [])
    say(str(verdict))
    assert not verdict.problems, str(verdict)
    assert verdict.outcomes["ok"] == verdict.calls
