"""One process for each call, under any process manager."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time

import pytest

import funker
from funker.rpc.messages import Accept, Ack, Busy, Bye, Call, Error, Ping, Pong, Result

PID = """
    import os

    def handle(**kwargs):
        return os.getpid()
"""
SLOW = """
    import sys
    from news import tell

    def handle():
        tell("started")
        with open("ledger", "a") as ledger:
            ledger.write("ran\\n")
        while not os.path.exists("go"):
            time.sleep(0.01)
        return "done"

    import os, time
"""
ADD = """
    import funker

    def add(x, y):
        return x + y

    funker.handle(add)
"""


def test_each_answer_comes_from_another_process_which_then_exits_with_0(serve):
    served = serve(PID)
    workers = [served() for _ in range(5)]
    lives = [served.next_exit() for _ in range(5)]
    assert len(set(workers)) == 5
    assert len({life.pid for life in lives}) == 5
    assert {life.status for life in lives} == {0}


def test_a_program_with_handle_is_a_replica_named_after_its_callable(serve):
    served = serve(ADD, name="add", FUNKER_FUNCTION="", command=[sys.executable, "handler.py"])
    assert [served(x=n, y=1) for n in range(3)] == [1, 2, 3]
    assert [served.next_exit().status for _ in range(3)] == [0, 0, 0]


def test_a_shell_loop_is_process_manager_enough(serve):
    loop = f"while :; do {sys.executable} handler.py; done"
    served = serve(ADD, name="add", command=["sh", "-c", loop])
    assert [served(x=n, y=2) for n in range(4)] == [2, 3, 4, 5]


def test_a_program_may_have_main_guards_threads_of_libraries_and_lambdas(serve):
    served = serve(
        """
        import funker

        if __name__ == "__main__":
            funker.handle(lambda x: x * 2)
        """,
        name="double",
        command=[sys.executable, "handler.py"],
    )
    assert served(x=21) == 42


def test_a_repeated_call_repeats_the_outcome_and_runs_nothing(serve, peer):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    assert caller.receive() == Accept(id=call.id, replica=caller.state("busy").replica)
    caller.send(call.replace(resend=True))
    assert caller.receive(Accept).id == call.id
    (served.directory / "go").touch()
    answer = caller.receive(Result)
    assert answer.body == b"done"
    caller.send(call.replace(resend=True, body=None))
    assert caller.receive(Result) == answer
    other = peer(served)
    other.send(call.replace(resend=True, body=None))
    assert other.receive(Result) == answer
    other.send(Ack(id=call.id))
    assert served.next_exit().status == 0
    assert (served.directory / "ledger").read_text() == "ran\n"


def test_whoever_asks_meanwhile_gets_busy(serve, peer):
    served = serve(SLOW)
    caller, other = peer(served), peer(served)
    session = other.state("idle").session
    call = caller.call()
    caller.receive(Accept)
    second = Call(id=secrets.token_hex(16), function="echo", session=session, body=b"{}")
    other.send(second)
    assert other.receive(Busy) == Busy(id=second.id, session=session)
    (served.directory / "go").touch()
    caller.receive(Result)
    other.send(second)
    assert other.receive(Busy).id == second.id  # an outcome that nobody has acknowledged is held
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0


def test_a_stale_session_is_busy_and_leaves_the_replica_free(serve, peer):
    served = serve(PID)
    caller = peer(served)
    call = caller.call(session=secrets.token_hex(16))
    assert caller.receive(Busy).id == call.id
    assert caller.state("idle", "busy").state == "idle"
    assert served() > 0


def test_whoever_was_told_idle_hears_that_it_isn_t_any_more(serve, peer):
    served = serve(PID)
    caller, other = peer(served), peer(served)
    session = other.state("idle").session
    call = caller.call()
    bye = other.receive(Bye)
    assert (bye.session, tuple(bye.held)) == (session, (call.id,))
    # Until it acknowledges, it has a moment in which its call gets an answer: not taken.
    caller.receive(Result)
    caller.send(Ack(id=call.id))
    crossing = Call(id=secrets.token_hex(16), function="echo", session=session, body=b"{}")
    other.send(crossing)
    assert other.receive(Busy).id == crossing.id
    assert served.next_exit().status == 0


def test_names_are_the_own_one_its_short_forms_and_the_aliases(serve, peer):
    served = serve(PID, name="shop_add", FUNKER_ALIASES="plus, sum")
    caller = peer(served)
    assert tuple(caller.state("idle").names) == ("shop_add", "add", "plus", "sum")
    call = caller.call(function="multiply")
    refused = caller.receive(Error)
    assert (refused.id, refused.code) == (call.id, "function_not_found")
    assert refused.retry_safe
    assert funker.function("plus", address=served.address)() > 0
    assert funker.function("shop_add", address=served.address)() > 0


def test_a_caller_that_never_acknowledges_and_goes_frees_the_replica(serve, peer):
    served = serve(PID)
    caller = peer(served)
    caller.call()
    answer = caller.receive(Result)
    caller.close()
    started = time.monotonic()
    assert served.next_exit().status == 0
    assert time.monotonic() - started < 6
    assert served() != int(answer.body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_replica_with_a_bye(serve, peer, number):
    served = serve(PID)
    prober = peer(served)
    session = prober.state("idle").session
    os.kill(served.front, number)
    bye = prober.receive(Bye)
    assert (bye.session, tuple(bye.held)) == (session, ())
    prober.send(Ack(id=session))
    assert served.next_exit().status == 0


def test_an_idle_replica_that_nobody_has_asked_leaves_at_once(serve, peer):
    served = serve("from news import tell\ntell('loaded')\ndef handle(): pass")
    caller = peer(served)
    caller.state("idle")
    caller.close()
    started = time.monotonic()
    os.kill(served.front, signal.SIGTERM)
    assert served.next_exit().status == 0
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("state", ["running", "holding"])
def test_sigterm_lets_a_call_end_and_its_answer_arrive(serve, peer, state):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    caller.receive(Accept)
    if state == "holding":
        (served.directory / "go").touch()
        caller.receive(Result)
    os.kill(served.front, signal.SIGTERM)
    # It has seen the signal when this is answered, and it still knows the call.
    caller.send(call.replace(resend=True))
    answer = caller.receive(Accept if state == "running" else Result)
    assert answer.id == call.id
    if state == "running":
        (served.directory / "go").touch()
        assert caller.receive(Result).body == b"done"
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0


@pytest.mark.parametrize("milliseconds", range(0, 150, 30))
def test_sigterm_during_the_start_ends_it(serve, milliseconds):
    served = serve(PID)
    time.sleep(milliseconds / 1000)  # the moment itself is what's tested
    os.kill(served.front, signal.SIGTERM)
    # Before the front listens to signals, the signal itself ends it.
    assert served.next_exit().status in (0, -signal.SIGTERM)


def test_the_caller_hears_signs_of_life_while_its_call_runs(serve, peer):
    served = serve(SLOW)
    caller = peer(served)
    call = caller.call()
    caller.receive(Accept)
    assert caller.receive() == caller.receive()
    caller.send(Ping(number=7, function="echo"))
    while (pong := caller.receive(Pong)).number != 7:
        assert (pong.number, pong.state) == (0, "busy")
    (served.directory / "go").touch()
    caller.receive(Result)
    caller.send(Ack(id=call.id))


def test_it_works_without_what_only_linux_has(serve, news):
    code = "from funker_runtime import kernel, main; kernel.LINUX = False; main()"
    served = serve(SLOW, command=[sys.executable, "-c", code])
    with pytest.raises(funker.FunctionTimeout):
        served.function(timeout=0.3)()
    (served.directory / "go").touch()
    assert served() == "done"
    assert [served.next_exit().status for _ in range(2)] == [0, 0]
