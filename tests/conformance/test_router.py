"""Through a router: joining it, its restarts and silences, and calls in all of that."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from funker.rpc.keys import make_keys, parse
from funker.rpc.messages import Accept, Ack, Busy, Bye, Cancel, Error, Failed, Output, Ready, Result
from tests.conformance.peers import Dial, Peers, Routed, Start
from tests.conformance.runtimes import Runtime
from tests.processes import is_gone

OF_THE_FRONT = True


@pytest.mark.parametrize("secure", [True, False], ids=["keys", "plain"])
def test_a_replica_joins_and_takes_a_call(routed: Routed, runtime: Runtime, secure: bool) -> None:
    replica, router = routed(secure=secure, FUNKER_NODE="n1", FUNKER_VERSION="v1", FUNKER_SLOTS="2")
    ready = router.ready()
    assert (ready.function, ready.replica, ready.node, ready.version) == (
        "act",
        "act.1",
        "n1",
        "v1",
    )
    assert (ready.protocol, tuple(ready.held), ready.once) == (1, (), runtime.once)
    assert ready.free == (1 if runtime.once else 2)
    call = router.call(ready, "echo", n=1)
    answer = router.outcome(call, ack=False)
    assert isinstance(answer, Result)
    assert json.loads(answer.body or b"") == {"n": 1}
    router.send(Ack(id=call.id))
    if runtime.once:
        assert not list(router.until(Bye, within=0.2))  # READY has said that one call is all
        assert replica.status() == 0
    else:
        again = router.call(ready, "echo", n=2)
        assert isinstance(router.outcome(again), Result)


def test_the_router_hears_that_a_call_runs_if_it_isn_t_over_at_once(routed: Routed) -> None:
    replica, router = routed()
    ready = router.ready()
    go = replica.directory / "go"
    call = router.call(ready, "wait", file=str(go))
    assert router.receive(Accept, Result) == Accept(id=call.id, replica="act.1")
    router.send(call.replace(resend=True, body=None))
    assert router.receive(Accept).id == call.id
    go.touch()
    assert isinstance(router.outcome(call), Result)


def test_what_a_call_printed_follows_its_answer(routed: Routed) -> None:
    _, router = routed()
    call = router.call(router.ready(), "print", text="fine words")
    assert isinstance(router.outcome(call), Result)
    output = router.receive(Output)
    assert output.id == call.id
    assert "fine words" in output.text


def test_a_handler_that_can_t_be_loaded_is_told_to_the_router(
    routed: Routed, runtime: Runtime
) -> None:
    replica, router = routed(**{runtime.handler_variable: runtime.broken})
    failed = router.receive(Failed, Ready)
    assert isinstance(failed, Failed)
    assert (failed.function, failed.replica) == ("act", "act.1")
    assert failed.message
    began = time.monotonic()
    router.send(Ack(id=failed.session, wait_ms=50))
    assert replica.status() == 1
    assert time.monotonic() - began < 3


def test_pings_echo_the_stamp_that_came_last(routed: Routed) -> None:
    _, router = routed()
    router.ready()
    assert not list(router.until(Ready, within=0.7))
    assert router.stamp >= 2
    assert router.echoes == [0, *range(1, router.stamp)]


def test_a_router_that_has_forgotten_is_told_what_is_held(routed: Routed) -> None:
    replica, router = routed(FUNKER_SLOTS="2")
    ready = router.ready()
    assert ready.slots == (1 if replica.runtime.once else 2)
    go = replica.directory / "go"
    call = router.call(ready, "wait", file=str(go))
    router.receive(Accept)
    router.known = False
    again = router.ready()
    assert (again.session, tuple(again.held)) == (ready.session, (call.id,))
    assert again.free == (0 if replica.runtime.once else 1)
    go.touch()
    assert isinstance(router.outcome(call, ack=False), Result)
    router.epoch = "another"
    assert tuple(router.ready().held) == (call.id,)  # its outcome isn't acknowledged
    router.send(Ack(id=call.id))
    if replica.runtime.once:
        assert replica.status() == 0
    else:
        assert isinstance(router.outcome(router.call(ready, "null")), Result)


def test_a_router_that_restarts_gets_the_outcome_of_the_time_between(
    routed: Routed, peers: Peers
) -> None:
    replica, router = routed(secure=False)
    ready = router.ready()
    go = replica.directory / "go"
    call = router.call(ready, "wait", file=str(go))
    router.receive(Accept)
    router.close()
    go.touch()
    replica.told("waited")
    time.sleep(0.1)  # the answer is there before the router is, or after: both are right
    another = peers.router(port=router.port)
    assert tuple(another.ready().held) == (call.id,)
    another.send(call.replace(resend=True, body=None))
    assert isinstance(another.outcome(call), Result)
    assert replica.ran() == ["wait"]


def test_a_router_that_falls_silent_is_dialled_anew(routed: Routed) -> None:
    replica, router = routed(secure=False)
    ready = router.ready()
    go = replica.directory / "go"
    call = router.call(ready, "wait", file=str(go))
    router.receive(Accept)
    router.mute = True
    began = time.monotonic()
    again = router.ready()
    assert 1.5 < time.monotonic() - began < 5
    assert (again.session, tuple(again.held)) == (ready.session, (call.id,))
    router.mute = False
    go.touch()
    assert isinstance(router.outcome(call), Result)


def test_the_router_s_cancel_stops_a_call(routed: Routed) -> None:
    replica, router = routed()
    call = router.call(router.ready(), "child", hang=True)
    child = int(replica.told("child"))
    router.send(Cancel(id=call.id))
    error = router.outcome(call)
    assert isinstance(error, Error)
    assert error.code == "cancelled"
    assert is_gone(child)


def test_sigterm_says_bye_to_the_router(routed: Routed) -> None:
    replica, router = routed()
    ready = router.ready()
    replica.signal()
    bye = router.receive(Bye)
    assert (bye.session, tuple(bye.held)) == (ready.session, ())
    router.send(Ack(id=bye.session))
    assert replica.status() == 0


def test_direct_callers_are_served_beside_a_router(routed: Routed, dial: Dial) -> None:
    replica, router = routed(FUNKER_SLOTS="1")
    ready = router.ready()
    caller = dial(replica)
    go = replica.directory / "go"
    call = caller.call("wait", file=str(go))
    caller.receive(Accept)
    crossing = router.call(ready, "null")
    if replica.runtime.once:
        bye = router.receive(Bye, Busy)
        assert (bye.session, tuple(bye.held)) == (ready.session, (call.id,))
    assert router.receive(Busy) == Busy(id=crossing.id, session=ready.session)
    go.touch()
    assert isinstance(caller.outcome(call), Result)
    if not replica.runtime.once:
        assert isinstance(router.outcome(router.call(ready, "null")), Result)


def test_a_router_that_won_t_have_it_keeps_nobody_from_direct_calls(
    start: Start, dial: Dial, peers: Peers, tmp_path: Path
) -> None:
    fields = parse(make_keys()[0])
    router = peers.router(keys=(fields["ROUTER_PUBLIC"].encode(), fields["ROUTER_SECRET"].encode()))
    file = tmp_path / "another-key"
    file.write_text(make_keys()[1])
    replica = start(FUNKER_ROUTER=router.address, FUNKER_KEY_FILE=str(file))
    caller = dial(replica)
    assert isinstance(caller.outcome(caller.call("null")), Result)
    assert not list(router.until(Ready, within=0))
