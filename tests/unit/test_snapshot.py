"""What the reconciler tells of the functions: taken as it is, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from funker.controller.snapshot import Observed
from funker.controller.tables import Catalogue, Rules
from funker.rpc.errors import ProtocolError

ADD: dict[str, Any] = {
    "names": ["add"],
    "wanted": 2,
    "running": 1,
    "image": "add:1",
    "routed": True,
    "problem": "",
    "calls": {"idempotent": True, "retries": 3, "backoff": 0.5, "max_inflight": 7},
    "scaling": {"min": 1, "max": 20, "reason": "two calls wait"},
}


def a_body(**functions: Any) -> bytes:
    return json.dumps({"functions": functions}).encode()


def test_a_snapshot_tells_names_and_what_else_was_seen() -> None:
    observed = Observed()
    rules = Rules(idempotent=True, retries=3, backoff=0.5, max_inflight=7)
    assert observed.learn(a_body(shop_add=ADD), 5.0) == Catalogue(
        {"shop_add": ("add",)}, wanted={"shop_add": 2}, rules={"shop_add": rules}
    )
    assert observed.at == 5.0
    told = {k: v for k, v in ADD.items() if k not in ("names", "calls")}
    assert observed.functions == {"shop_add": told | {"policy": ADD["calls"]}}


def test_what_is_missing_has_its_default_and_what_is_new_is_passed_over() -> None:
    observed = Observed()
    observed.learn(a_body(add={"names": [], "colour": "blue"}), 1.0)
    policy = {"idempotent": False, "retries": 0, "backoff": 0.2, "max_inflight": None}
    expected = {"wanted": 0, "running": 0, "image": "", "routed": True, "problem": ""}
    expected |= {"policy": policy, "scaling": None}
    assert observed.functions == {"add": expected}


def test_a_policy_tells_what_it_knows_and_may_be_newer() -> None:
    told = Observed().learn(a_body(add={**ADD, "calls": {"retries": 2, "colour": "blue"}}), 1.0)
    assert told.rules == {"add": Rules(retries=2)}


def test_functions_that_cant_join_are_told_apart() -> None:
    told = Observed().learn(a_body(add={**ADD, "routed": False}, sub=ADD), 1.0)
    assert told.unrouted == {"add"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"functions": []}',
        b'{"functions": {"add": []}}',
        b"[" * 100_000,
        a_body(add={}),
        a_body(add={"names": "add"}),
        a_body(add={"names": [1]}),
        a_body(add=ADD, sub={**ADD, "wanted": "2"}),
        a_body(add={**ADD, "running": True}),
        a_body(add={**ADD, "routed": None}),
        a_body(add={**ADD, "problem": 5}),
        a_body(add={**ADD, "scaling": "up"}),
        a_body(add={**ADD, "calls": None}),
        a_body(add={**ADD, "calls": {"idempotent": 1}}),
        a_body(add={**ADD, "calls": {"retries": -1}}),
        a_body(add={**ADD, "calls": {"retries": "3"}}),
        a_body(add={**ADD, "calls": {"backoff": "1s"}}),
        a_body(add={**ADD, "calls": {"max_inflight": 0}}),
        a_body(add={**ADD, "calls": {"max_inflight": True}}),
    ],
)
def test_what_is_no_snapshot_is_refused_and_changes_nothing(body: bytes) -> None:
    observed = Observed()
    observed.learn(a_body(add=ADD), 1.0)
    with pytest.raises(ProtocolError, match="SNAPSHOT: not a catalogue"):
        observed.learn(body, 2.0)
    assert (observed.at, observed.functions.keys()) == (1.0, {"add"})
