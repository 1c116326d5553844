"""What the reconciler decides to do and to say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.backends.base import Observed
from funker.controller.commands import Command, Revive, Say
from funker.controller.plan import PATIENCE, RETRY, RETRY_MAX, STEADY, Plan
from funker.spec import CallPolicy, ScalePolicy

STEP = 0.5


def add(running: int = 3, wanted: int = 3, **fields: Any) -> Observed:
    return Observed(**{"name": "add", "wanted": wanted, "running": running, **fields})


def texts(commands: list[Command]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Say)]


class Watched:
    """A plan that sees one function in steps of half a second."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.now = 100.0
        self.revivals: list[float] = []

    def sees(
        self, *observed: Observed, seconds: float = STEP, status: dict[str, Any] | None = None
    ) -> list[str]:
        said = []
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            commands = [*self.plan.see(observed, self.now), *self.plan.hear(status, self.now)]
            self.revivals += [self.now for each in commands if isinstance(each, Revive)]
            said += texts(commands)
        return said


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_first_look_is_summed_up_in_one_line(watched: Watched) -> None:
    assert watched.sees(add(), add(name="mul")) == ["sees 2 functions: add, mul"]
    assert watched.sees(add(), add(name="mul"), seconds=60) == []
    many = Watched().sees(*(add(name=f"f{n:02}") for n in range(20)))
    assert many == ["sees 20 functions: f00, f01, f02, f03, f04, f05, f06, f07, ..."]
    assert Watched().sees() == ["sees no functions"]


def test_each_change_is_said_once(watched: Watched) -> None:
    watched.sees()
    assert watched.sees(add(wanted=1), seconds=5) == ["add is new: 1 replica wanted"]
    assert watched.sees(add(wanted=5, running=5)) == ["add: 5 replicas wanted (were 1)"]
    image = add(wanted=5, running=5, image="add:2")
    assert watched.sees(image, seconds=5) == ["add: its image is add:2"]
    assert watched.sees(seconds=5) == ["add is gone"]
    assert watched.sees(add()) == ["add is new: 3 replicas wanted"]


def test_replicas_that_are_missing_for_a_moment_are_left_to_the_swarm(watched: Watched) -> None:
    for _ in range(20):
        watched.sees(add(running=2), seconds=PATIENCE)
        watched.sees(add(running=3))
    assert watched.revivals == []


def test_a_function_of_which_replicas_stay_away_is_revived_ever_more_rarely(
    watched: Watched,
) -> None:
    watched.sees(add(running=1), seconds=300)
    pauses = [b - a for a, b in zip(watched.revivals, watched.revivals[1:], strict=False)]
    assert watched.revivals[0] == 100.0 + STEP + PATIENCE
    assert pauses[:6] == [RETRY, 4, 8, 16, 32, RETRY_MAX]
    assert set(pauses[6:]) <= {RETRY_MAX}


def test_a_try_that_helped_is_followed_by_the_next_at_once(watched: Watched) -> None:
    watched.sees(add(running=1), seconds=100)
    before = watched.now
    watched.revivals.clear()
    watched.sees(add(running=2), seconds=20)
    assert watched.revivals[0] <= before + RETRY
    pauses = [b - a for a, b in zip(watched.revivals, watched.revivals[1:], strict=False)]
    assert pauses[:2] == [RETRY, 4]


def test_a_function_that_was_complete_again_is_revived_without_delay(watched: Watched) -> None:
    watched.sees(add(running=1), seconds=100)
    watched.sees(add())
    watched.revivals.clear()
    watched.sees(add(running=1), seconds=PATIENCE + STEP)
    assert len(watched.revivals) == 1


def test_a_function_scaled_to_zero_is_not_revived(watched: Watched) -> None:
    watched.sees(add(running=0, wanted=0), seconds=30)
    assert watched.revivals == []


def test_a_function_of_which_too_many_stay_is_revived_ever_more_rarely(watched: Watched) -> None:
    watched.sees(add(running=2, wanted=0), seconds=30)
    pauses = [b - a for a, b in zip(watched.revivals, watched.revivals[1:], strict=False)]
    assert pauses[:3] == [RETRY, 4, 8]


def test_an_update_may_run_more_than_are_wanted(watched: Watched) -> None:
    watched.sees(add(running=5, updating=True), seconds=30)
    assert watched.revivals == []


def test_a_trouble_that_comes_and_goes_is_one_trouble(watched: Watched) -> None:
    watched.sees(add())
    bad = add(problem="no suitable node")
    said = []
    for _ in range(20):
        said += watched.sees(bad, seconds=2) + watched.sees(add(), seconds=STEADY - 1)
    assert said == ["add: no suitable node"]
    assert watched.sees(add(), seconds=STEADY) == ["add: all is well again"]
    assert watched.sees(bad, seconds=5) == ["add: no suitable node"]


def test_two_troubles_by_turns_are_said_once_each(watched: Watched) -> None:
    watched.sees(add())
    said = []
    for _ in range(10):
        said += watched.sees(add(problem="one")) + watched.sees(add(problem="other"))
    assert said == ["add: one", "add: other"]


def test_what_the_router_knows_of_a_function_is_said_too(watched: Watched) -> None:
    watched.sees(add())
    status = {"epoch": "1", "functions": {"add": {"failing": "No module named 'numpy'"}}}
    assert watched.sees(add(), status=status, seconds=5) == [
        "add: its handler can't be loaded: No module named 'numpy'"
    ]
    healed = {"epoch": "1", "functions": {"add": {"failing": None}}}
    assert watched.sees(add(), status=healed, seconds=STEADY) == ["add: all is well again"]


def test_a_router_that_restarted_is_noticed_by_its_epoch(watched: Watched) -> None:
    watched.sees(add(), status={"epoch": "1", "functions": {}})
    assert watched.sees(add(), status=None, seconds=5) == []
    second = {"epoch": "2", "functions": {}}
    assert watched.sees(add(), status=second) == ["the router has restarted (epoch 2)"]
    assert watched.sees(add(), status=second, seconds=5) == []


def test_a_function_that_cant_join_the_router_is_named_once(watched: Watched) -> None:
    watched.sees()
    said = watched.sees(add(routed=False), seconds=5)
    assert said[0] == "add is new: 3 replicas wanted"
    assert len(said) == 2
    assert "can't join the router" in said[1]
    assert watched.sees(add())[0] == "add: its replicas can join the router now"


def test_a_revival_that_worked_and_one_that_was_refused_are_said_once(watched: Watched) -> None:
    watched.sees(add(running=0), seconds=10)
    assert "restart policy" in texts(watched.plan.revived("add"))[0]
    assert watched.plan.revived("add") == []
    assert texts(watched.plan.not_revived("add", "no")) == [
        "add: its replicas can't be started: no"
    ]
    assert watched.plan.not_revived("add", "no") == []


def test_a_snapshot_has_what_the_router_is_told(watched: Watched) -> None:
    calls = CallPolicy(idempotent=True, retries=2, backoff=0.5, max_inflight=7)
    fields = {"names": ("add",), "running": 2, "image": "add:1", "problem": "slow"}
    watched.sees(add(name="shop_add", calls=calls, **fields))
    assert json.loads(watched.plan.snapshot(watched.now, 1700000000.0)) == {
        "functions": {
            "shop_add": {
                "names": ["add"],
                "wanted": 3,
                "running": 2,
                "image": "add:1",
                "routed": True,
                "problem": "slow",
                "calls": {"idempotent": True, "retries": 2, "backoff": 0.5, "max_inflight": 7},
                "scaling": None,
            }
        }
    }


def test_edited_policies_are_said_once(watched: Watched) -> None:
    watched.sees(add())
    scaled = add(scale=ScalePolicy(min=0, max=9, idle=60))
    assert watched.sees(scaled, seconds=5) == [
        "add: it is scaled by itself, from 0 to 9, to zero after 60 s, with a headroom of 1"
    ]
    pinned = add(scale=scaled.scale, pinned=True)
    assert watched.sees(pinned, seconds=5) == ["add: it is pinned at 3"]
    assert watched.sees(add(), seconds=5) == ["add: it has a fixed number of replicas"]
    assert watched.sees(add(calls=CallPolicy(retries=2)), seconds=5) == [
        "add: its calls are not idempotent, retries 2 after 0.2 s"
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "a", "b"]), st.booleans()
        ),
        max_size=200,
    )
)
def test_whatever_happens_nothing_is_done_or_said_without_end(
    looks: list[tuple[int, int, str, bool]],
) -> None:
    watched = Watched()
    wanted_before = None
    for running, wanted, problem, there in looks:
        tried = len(watched.revivals)
        function = add(running=running, wanted=wanted, problem=problem)
        watched.sees(*([function] if there else []))
        if not there or running == wanted:
            assert len(watched.revivals) == tried
        wanted_before = wanted if there else None
    pauses = [b - a for a, b in zip(watched.revivals, watched.revivals[1:], strict=False)]
    assert all(pause >= RETRY for pause in pauses)
    if wanted_before is not None:
        # Once nothing changes any more, nothing more is said.
        last = add(running=3, wanted=wanted_before)
        watched.sees(last, seconds=2 * STEADY)
        assert watched.sees(last, seconds=60) == []


@given(st.integers(0, 2), st.integers(1, 200))
def test_a_function_whose_replicas_stay_away_is_tried_for_ever(running: int, steps: int) -> None:
    watched = Watched()
    watched.sees(add(running=running), seconds=steps * STEP)
    tried = len(watched.revivals)
    watched.sees(add(running=running), seconds=PATIENCE + RETRY_MAX)
    assert len(watched.revivals) > tried
