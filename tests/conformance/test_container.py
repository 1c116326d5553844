"""`isolation: container`: one call, and the replica ends."""

from __future__ import annotations

from funker.rpc.messages import Ack, Bye, Result
from tests.conformance.peers import Dial
from tests.conformance.replica import Replica

ISOLATION = "container"


def test_who_was_told_idle_hears_when_it_isn_t_any_more(replica: Replica, dial: Dial) -> None:
    caller, other = dial(replica), dial(replica)
    session = other.state("idle").session
    call = caller.call("null")
    bye = other.receive(Bye)
    assert (bye.session, tuple(bye.held)) == (session, (call.id,))
    other.send(Ack(id=session))
    assert isinstance(caller.outcome(call), Result)
    assert replica.status() == 0
