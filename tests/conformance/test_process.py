"""`isolation: process`: many calls in one replica, a fresh process for each."""

from __future__ import annotations

import os
import time
from pathlib import Path

from funker.rpc.messages import Accept, Ack, Busy, Result
from tests.conformance.peers import Dial, Routed, Start
from tests.conformance.replica import Replica
from tests.conformance.wire import Caller, body_of, made
from tests.processes import is_gone

ISOLATION = "process"


def test_each_call_has_a_process_of_its_own(caller: Caller) -> None:
    answers = [caller.outcome(caller.call("pid")) for _ in range(4)]
    pids = {int(answer.body or b"") for answer in answers if isinstance(answer, Result)}
    assert len(pids) == 4
    assert all(is_gone(pid) for pid in pids)


def test_nothing_is_remembered_from_call_to_call(caller: Caller) -> None:
    answers = [caller.outcome(caller.call("count")) for _ in range(3)]
    assert [answer.body for answer in answers if isinstance(answer, Result)] == [b"1"] * 3


def test_so_many_calls_run_at_once_as_there_are_slots(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_SLOTS="2")
    caller = dial(replica)
    go = replica.directory / "go"
    session = caller.state("idle").session
    waits = body_of({"do": "wait", "file": str(go)})
    calls = [made(replica.function, session, body=waits) for _ in range(2)]
    for call in calls:
        caller.send(call)
    assert {caller.receive(Accept).id for _ in range(2)} == {call.id for call in calls}
    third = made(replica.function, session, body=body_of({"do": "null"}))
    caller.send(third)
    assert caller.receive(Busy, Accept) == Busy(id=third.id, session=session)
    go.touch()
    assert {caller.receive(Result).id for _ in range(2)} == {call.id for call in calls}
    assert replica.ran() == ["wait", "wait"]


def test_ready_says_how_many_are_free_and_what_stays_behind(routed: Routed) -> None:
    replica, router = routed(FUNKER_SLOTS="3")
    ready = router.ready()
    assert (ready.free, ready.slots, ready.once) == (3, 3, False)
    assert ready.residue.partition(":")[0] in ("enforced", "partial", "off")
    go = replica.directory / "go"
    calls = [router.call(ready, "wait", file=str(go)) for _ in range(3)]
    for _ in calls:
        router.receive(Accept)
    router.known = False
    again = router.ready()
    assert (again.free, set(again.held)) == (0, {call.id for call in calls})
    go.touch()
    for _ in calls:
        router.send(Ack(id=router.receive(Result).id))
    assert isinstance(router.outcome(router.call(ready, "null")), Result)


def test_a_call_s_files_are_gone_with_it(replica: Replica, caller: Caller) -> None:
    answer = caller.outcome(caller.call("scratch"))
    assert isinstance(answer, Result)
    scratch, there = (answer.body or b"").decode().split("\n")
    assert there == scratch  # its working directory, and where temporary files go
    give_up = time.monotonic() + 5
    while Path(scratch).exists():
        assert time.monotonic() < give_up, "the scratch directory is still there"
        time.sleep(0.01)


def test_a_daemon_that_a_call_leaves_ends_with_it(caller: Caller) -> None:
    answer = caller.outcome(caller.call("daemon"))
    assert isinstance(answer, Result), answer
    daemon = int(answer.body or b"")
    assert daemon != os.getpid()
    assert is_gone(daemon, 5)


def test_a_burst_is_served_one_after_the_other(start: Start, dial: Dial) -> None:
    replica = start(FUNKER_SLOTS="1")
    caller = dial(replica)
    for number in range(10):
        answer = caller.outcome(caller.call("echo", n=number))
        assert isinstance(answer, Result), answer
    assert replica.ran() == ["echo"] * 10
