"""Handlers that can't be loaded: callers are told why at once, and nothing spins."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

import funker
from funker.rpc.messages import Bye
from funker_runtime.replica import STEADY_S

FINE = "def handle(**kwargs): return kwargs"


@pytest.mark.parametrize(
    ("code", "variables", "message", "traceback"),
    [
        ("import nothing_of_this_name", {}, "ModuleNotFoundError", "line 1, in <module>"),
        ("def handle(:", {}, "SyntaxError", 'handler.py", line 1'),
        ("raise KeyError('url')", {}, "KeyError: 'url'", "raise KeyError('url')"),
        ("pass", {}, "handler 'handler:handle': handler has no 'handle'", ""),
        ("handle = 3", {}, "'handler:handle' is a int, not callable", ""),
        (FINE, {"FUNKER_HANDLER": "other:run"}, "there is no module 'other' in /", ""),
        (FINE, {"FUNKER_HANDLER": "handle"}, "isn't of the form module:callable", ""),
        ("import sys; sys.exit(3)", {}, "exited with status 3 before any call", ""),
        ("import os; os.abort()", {}, "was killed by SIGABRT before any call", ""),
        ("import sys; sys.exit('no database')", {}, "exited with status 1", "no database"),
        (FINE, {"FUNKER_TIMEOUT": "soon"}, "FUNKER_TIMEOUT: expected a time such as 500ms", ""),
        (FINE, {"FUNKER_MAX_BODY": "1e6"}, "FUNKER_MAX_BODY: expected a number of bytes", ""),
        (FINE, {"FUNKER_ISOLATION": "none"}, "FUNKER_ISOLATION: expected container or process", ""),
    ],
)
def test_what_can_t_be_loaded_is_told_to_callers(serve, code, variables, message, traceback):
    served = serve(code, **variables)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(funker.InitFailed) as caught:
            served()
        assert message in caught.value.message
        assert traceback in caught.value.traceback
        assert "funker_runtime" not in caught.value.traceback
        assert "importlib" not in caught.value.traceback
        assert caught.value.retry_safe
        assert caught.value.function == served.name
    assert time.monotonic() - started < 5
    os.kill(served.front, signal.SIGTERM)
    assert served.next_exit().status == 1


def test_a_broken_replica_lingers_then_exits_for_a_fresh_try(serve, peer):
    served = serve("raise OSError('no database')")
    prober = peer(served)
    failed = prober.state("failed")
    started = time.monotonic()
    assert failed.message == "OSError: no database"
    assert "raise OSError('no database')" in failed.traceback
    (served.directory / "handler.py").write_text(FINE)
    assert served.next_exit().status == 1
    assert 4 < time.monotonic() - started < 10
    assert served(x=1) == {"x": 1}
    assert "raise OSError('no database')" in served.stderr()


def test_callers_wait_while_a_slow_handler_is_loaded(serve, peer, news):
    served = serve(
        """
        import os, time
        from news import tell

        tell("loading")
        while not os.path.exists("go"):
            time.sleep(0.01)

        def handle():
            return "at last"
        """
    )
    news.wait()
    caller = peer(served)
    assert caller.state("boot", "idle").state == "boot"
    with pytest.raises(funker.DeadlineExceeded, match="its replicas: boot") as caught:
        served.function(deadline=0.3)()
    assert caught.value.retry_safe
    (served.directory / "go").touch()
    assert served() == "at last"


def test_a_worker_that_dies_soon_after_it_has_loaded_is_told(serve, peer):
    served = serve(
        """
        import os, threading

        def die():
            while not os.path.exists("die"):
                pass
            print("out of here", flush=True)
            os._exit(9)

        threading.Thread(target=die, daemon=True).start()

        def handle():
            return "alive"
        """
    )
    prober = peer(served)
    (served.directory / "die").touch()
    failed = prober.state("failed")
    assert "exited with status 9 before any call" in failed.message
    assert failed.traceback == "out of here\n"
    os.kill(served.front, signal.SIGTERM)
    (served.directory / "die").unlink()
    assert served.next_exit().status == 1
    assert served() == "alive"


def test_a_worker_killed_while_it_waits_makes_room_for_the_next(serve, peer):
    served = serve(FINE)
    prober = peer(served)
    prober.state("idle")
    assert prober.quiet(STEADY_S)  # until then it would be a broken handler
    os.kill(served.worker, signal.SIGKILL)
    prober.receive(Bye)
    assert served.next_exit().status == 1
    assert served(x=1) == {"x": 1}


def test_a_front_killed_while_it_waits_takes_its_worker_along(serve, peer, is_gone):
    served = serve(FINE)
    peer(served).state("idle")
    worker = served.worker
    os.kill(served.front, signal.SIGKILL)
    assert served.next_exit().status == -signal.SIGKILL
    assert is_gone(worker)
    assert served(x=1) == {"x": 1}


def test_an_endpoint_that_can_t_be_had_is_named_and_nothing_spins(serve, peer):
    first = serve(FINE)
    peer(first).state("idle")
    second = serve(FINE, FUNKER_LISTEN=f"tcp://{first.address}")
    third = serve(FINE, FUNKER_LISTEN="somewhere")
    started = time.monotonic()
    assert second.next_exit().status == third.next_exit().status == 1
    assert 4 < time.monotonic() - started < 10
    assert f"can't listen on tcp://{first.address}: Address already in use" in second.stderr()
    assert "can't listen on somewhere" in third.stderr()
    assert first(x=1) == {"x": 1}


def test_an_address_is_waited_for_until_its_holder_leaves(serve, peer):
    first = serve(FINE)
    peer(first).state("idle")
    second = serve(FINE, FUNKER_LISTEN=f"tcp://{first.address}")
    first.restarts = False
    os.kill(first.front, signal.SIGTERM)
    assert first.next_exit().status == 0
    second.address = first.address
    assert second(x=1) == {"x": 1}
    assert second.next_exit().status == 0


def test_importing_the_package_as_a_library_starts_nothing(serve):
    served = serve("", command=[sys.executable, "-c", "import funker, funker_runtime"])
    assert served.next_exit().status == 0
