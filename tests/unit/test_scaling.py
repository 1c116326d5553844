"""What the reconciler does and says about functions that are scaled by themselves."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from funker.backends.base import Observed
from funker.controller.autoscaler import SHORT, WINDOW
from funker.controller.commands import Say, Scale
from funker.controller.plan import Plan
from funker.controller.scaling import RETRY_MAX, SAY_HAND, SAY_LIMIT
from funker.spec import CallPolicy, ScalePolicy

STEP = 0.5
POLICY = ScalePolicy(min=2, max=30)


def add(wanted: int = 2, **fields: Any) -> Observed:
    given = {"name": "add", "running": wanted, "scale": POLICY, "cores": 2, **fields}
    return Observed(wanted=wanted, **given)


class Swarm:
    """A plan between functions and a router's figures; what it commands is done at once."""

    def __init__(self, *functions: Observed) -> None:
        self.plan = Plan()
        self.now = 100.0
        self.functions = {function.name: function for function in functions}
        self.figures: dict[str, dict[str, Any]] = {}
        self.refusal = ""
        self.tried: list[float] = []
        self.scaled: list[tuple[str, int]] = []

    def put(self, name: str = "add", **changed: Any) -> None:
        self.functions[name] = dataclasses.replace(self.functions[name], **changed)

    def passes(self, seconds: float = STEP, *, blind: bool = False, epoch: str = "1") -> list[str]:
        said: list[str] = []
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            said += self._obey(self.plan.see([*self.functions.values()], self.now))
            about = {
                name: {"free": function.wanted, **self.figures.get(name, {})}
                for name, function in self.functions.items()
            }
            status = None if blind else {"epoch": epoch, "functions": about}
            said += self._obey(self.plan.hear(status, self.now))
        return said

    def demands(self, name: str = "add", **figures: Any) -> list[str]:
        return self._obey(self.plan.demanded({name: figures}, self.now))

    def wanted(self, name: str = "add") -> int:
        return self.functions[name].wanted

    def told(self, name: str = "add") -> Any:
        told = json.loads(self.plan.snapshot(self.now, 1700000000.0))["functions"][name]
        assert told["wanted"] == self.wanted(name)
        return told["scaling"]

    def _obey(self, commands: list[Any]) -> list[str]:
        for command in commands:
            if isinstance(command, Scale):
                self.tried.append(self.now)
                if self.refusal:
                    self.plan.not_scaled(command.name, self.refusal, self.now)
                    continue
                self.scaled.append((command.name, command.replicas))
                self.put(command.name, wanted=command.replicas, running=command.replicas)
                self.plan.scaled(command.name, command.replicas, self.now)
        return [command.text for command in commands if isinstance(command, Say)]


def test_waiting_calls_are_answered_with_replicas_and_one_line_each_way() -> None:
    swarm = Swarm(add())
    assert swarm.passes(5) == ["sees 1 function: add"]
    swarm.figures["add"] = {"queued": 58, "inflight": 2, "busy": 2, "free": 0}
    assert swarm.passes(5) == [
        "add: 2 → 10 replicas: 2 calls run and 58 wait, as its replicas start"
    ]
    assert swarm.scaled == [("add", 10)]
    swarm.figures["add"] = {}
    assert swarm.passes(WINDOW + 1) == [
        "add: 10 → 2 replicas: its minimum is 2",
    ]
    assert swarm.scaled == [("add", 10), ("add", 2)]


def test_a_demand_is_answered_without_a_look() -> None:
    swarm = Swarm(add(0, scale=ScalePolicy(min=0)))
    swarm.passes()
    swarm.demands(queued=1)
    assert swarm.scaled == [("add", 1)]
    swarm.demands(queued=1)
    assert swarm.scaled == [("add", 1)]
    assert swarm.demands("stranger", queued=1) == []


def test_the_router_is_told_the_number_and_why() -> None:
    swarm = Swarm(add())
    swarm.passes()
    swarm.figures["add"] = {"arrivals": 2.0, "service_s": 0.5, "recycle_s": 1.5}
    swarm.passes(10)
    assert swarm.told() == {
        "min": 2,
        "max": 30,
        "pinned": False,
        "wanted": 6,
        "reason": "λ 2/s · (S 0.5 s + R 1.5 s) = a 4, a + 1·√a → 6",
        "at": 1700000000.0 - 9.5,
        "saturated": "",
    }


def test_a_number_of_replicas_that_others_set_is_set_back_and_said_once() -> None:
    swarm = Swarm(add())
    swarm.passes(5)
    for theirs in (7, 0, 5):
        swarm.put(wanted=theirs, running=theirs)
        said = swarm.passes(5)
        assert swarm.wanted() == 2
        if theirs == 7:
            assert said == [
                (
                    "add: somebody has set its number of replicas to 7, but it is scaled by "
                    "itself: back to 2. `funker scale add=7` pins a number"
                )
            ]
        else:
            assert said == []
    assert len(swarm.scaled) == 3
    swarm.passes(SAY_HAND)
    swarm.put(wanted=9)
    assert len(swarm.passes(5)) == 1


def test_the_number_that_a_deploy_leaves_is_gone_on_from() -> None:
    swarm = Swarm(add(0, scale=ScalePolicy(min=0, idle=30)))
    swarm.passes(100)
    swarm.put(wanted=1, running=1)  # it tries the new handler
    assert swarm.passes(29) == ["add: 1 replica wanted (were 0)"]
    assert swarm.passes(5) == ["add: 1 → 0 replicas: nobody has called for 30 s"]
    swarm.put(wanted=3, running=3, image="add:2")
    swarm.passes(10)
    assert swarm.wanted() == 3


def test_a_pinned_number_is_left_alone_until_it_is_let_go() -> None:
    swarm = Swarm(add())
    swarm.passes()
    swarm.put(wanted=5, running=5, pinned=True)
    swarm.figures["add"] = {"queued": 50}
    assert swarm.passes(5) == ["add: it is pinned at 5", "add: 5 replicas wanted (were 2)"]
    assert swarm.told()["reason"] == "pinned at 5"
    assert swarm.told()["pinned"]
    assert not swarm.scaled
    swarm.put(pinned=False)
    assert "is scaled by itself" in swarm.passes(5)[0]
    assert swarm.wanted() > 5


def test_edited_bounds_are_kept_to_at_once() -> None:
    swarm = Swarm(add())
    swarm.passes()
    swarm.put(scale=ScalePolicy(min=4, max=30))
    assert [line for line in swarm.passes(3) if "replicas:" in line] == [
        "add: 2 → 4 replicas: its minimum is 4"
    ]
    swarm.put(scale=ScalePolicy(min=1, max=3))
    swarm.passes(3)
    assert swarm.wanted() == 3


def test_a_number_that_cant_be_set_is_said_once_and_tried_ever_more_rarely() -> None:
    swarm = Swarm(add())
    swarm.passes()
    swarm.refusal = "the service has no number"
    swarm.figures["add"] = {"queued": 5, "busy": 2, "free": 0}
    said = swarm.passes(300)
    assert said == ["add: its number of replicas can't be set: the service has no number"]
    pauses = [b - a for a, b in zip(swarm.tried, swarm.tried[1:], strict=False)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, RETRY_MAX]
    swarm.refusal = ""
    assert any("2 → 5 replicas" in line for line in swarm.passes(RETRY_MAX))


def test_a_service_that_is_deleted_while_it_is_scaled_is_gone_and_no_trouble() -> None:
    swarm = Swarm(add())
    swarm.passes()
    swarm.refusal = "the service add was removed meanwhile"
    swarm.demands(queued=5)
    del swarm.functions["add"]
    assert swarm.passes(5) == ["add is gone"]
    assert swarm.demands(queued=5) == []


def test_without_a_router_and_for_strangers_to_it_nothing_is_decided() -> None:
    swarm = Swarm(add(), add(name="mul", routed=False))
    swarm.passes()
    swarm.put(wanted=6)
    swarm.passes(5, blind=True)
    assert swarm.wanted() == 6
    swarm.figures["mul"] = {"queued": 5}
    swarm.passes(5)
    assert swarm.wanted() == 2
    assert swarm.wanted("mul") == 2


def test_a_new_router_has_heard_no_calls_so_idle_begins_anew() -> None:
    swarm = Swarm(add(1, scale=ScalePolicy(min=0, idle=30)))
    swarm.passes(20)
    swarm.passes(29, epoch="2")
    assert swarm.wanted() == 1
    swarm.passes(2, epoch="2")
    assert swarm.wanted() == 0


def test_a_function_whose_replicas_end_is_told_once_and_started_rarely() -> None:
    swarm = Swarm(add(3))
    swarm.passes()
    said, ran = [], 0
    for _ in range(600):
        there = swarm.wanted()
        ran += there
        ends = "replicas end: exit code 127" if there else ""
        swarm.put(failing=ends, problem=ends)
        swarm.figures["add"] = {"free": 0, "queued": 4}
        said += swarm.passes()
    assert ran * STEP < 60
    assert said == [
        "add: replicas end: exit code 127",
        "add: 3 → 4 replicas: 4 calls wait",
        "add: its replicas end before they are ready: one is tried at times",
        "add: 4 → 0 replicas: its replicas end before they are ready: one is tried after 5 s",
    ]
    swarm.put(failing="", problem="", image="add:2", wanted=1)  # it is mended
    swarm.figures["add"] = {"free": 1}
    swarm.passes(20)
    assert swarm.wanted() == 2


def test_one_that_recycles_quickly_isnt_taken_for_one_that_fails() -> None:
    swarm = Swarm(add(4))
    swarm.passes()
    swarm.put(failing="replicas end: exit code 137")  # somebody has killed one
    for ended in range(60):
        swarm.figures["add"] = {"free": 0, "queued": 9, "calls": ended}
        swarm.passes()
        assert swarm.wanted() >= 4


def test_two_that_grow_share_what_may_start() -> None:
    swarm = Swarm(add(1, scale=ScalePolicy()), add(1, name="mul", scale=ScalePolicy()))
    swarm.passes()
    busy = {"free": 0, "busy": 1, "inflight": 1, "queued": 100}
    swarm.figures = {"add": busy, "mul": busy}
    swarm.passes()
    assert (swarm.wanted("add"), swarm.wanted("mul")) == (5, 5)


def test_a_limit_that_makes_calls_wait_is_said_once() -> None:
    swarm = Swarm(add(scale=ScalePolicy(min=2, max=2)))
    swarm.passes()
    swarm.figures["add"] = {"queued": 5, "inflight": 2, "busy": 2, "free": 0}
    said = swarm.passes(SHORT + 60)
    assert [line for line in said if "saturated" in line] == [
        f"add is saturated: {swarm.told()['saturated']}"
    ]
    swarm.figures["add"] = {}
    swarm.passes(SAY_LIMIT / 2)
    assert not swarm.told()["saturated"]
    swarm.figures["add"] = {"queued": 5, "busy": 2, "free": 0}
    assert not swarm.passes(SHORT + 60)


def test_calls_that_may_not_run_at_once_need_no_more_replicas() -> None:
    swarm = Swarm(add(calls=CallPolicy(max_inflight=3)))
    swarm.passes()
    swarm.figures["add"] = {"queued": 50, "inflight": 2, "busy": 2, "free": 0}
    swarm.passes()
    assert swarm.wanted() == 3
