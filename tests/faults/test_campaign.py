"""Faults of a seeded schedule under load: no call is lost, none runs twice, none lies."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.faults.campaign import Campaign
from tests.faults.ground import Ground

#: Seconds of load, on each ground.
SECONDS = {"local": 30.0, "swarm": 30.0}


def test_no_call_is_lost_whatever_fails(
    ground: Ground, seed: int, say: Callable[[str], None]
) -> None:
    minutes = os.environ.get("FUNKER_FAULT_MINUTES")
    seconds = float(minutes) * 60 if minutes else SECONDS[ground.backend.name]

    verdict = Campaign(ground, seed, seconds, say).run()

    say(str(verdict))
    assert not verdict.problems, f"FUNKER_FAULT_SEED={seed}: {verdict}"
