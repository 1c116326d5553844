"""What is around a call: its log, its limits."""

from __future__ import annotations

import json
import time
from typing import Any

from funker.rpc.messages import Result
from tests.conformance.peers import Dial, Start
from tests.conformance.replica import Replica
from tests.conformance.wire import PATIENCE, Caller


def lines(replica: Replica, count: int) -> list[dict[str, Any]]:
    """The first so many lines of the log."""
    give_up = time.monotonic() + PATIENCE
    while len(found := [line for line in replica.output().split("\n") if line]) < count:
        assert time.monotonic() < give_up, f"the log has {found}"
        time.sleep(0.01)
    return [json.loads(line) for line in found]


def test_each_line_of_the_log_names_its_call(replica: Replica, caller: Caller) -> None:
    call = caller.call("print", text="one\ntwo ü")
    assert isinstance(caller.outcome(call), Result)
    first, second = lines(replica, 2)
    assert [first["text"], second["text"]] == ["one", "two ü"]
    assert (first["function"], first["call"]) == ("act", call.id)
    assert first["stream"] in ("stdout", "stderr")
    assert first["time"].endswith("Z")


def test_the_log_of_a_call_is_bounded(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_LOG_LIMIT="100")
    caller = dial(replica)
    call = caller.call("print", text="x" * 50_000)
    assert isinstance(caller.outcome(call), Result)
    cut, told = lines(replica, 2)
    assert cut["text"] == "x" * 100
    assert "49901 bytes" in told["text"]
    assert told["call"] == call.id


def test_limits_are_the_worker_s(start: Start, dial: Dial) -> None:
    caller = dial(start(FUNKER_ULIMITS="nofile=200, cpu=60"))
    answer = caller.outcome(caller.call("descriptors"))
    assert isinstance(answer, Result), answer
    assert answer.body == b"200"
