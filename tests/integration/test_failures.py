"""Whatever kills or fails a call: the right error at its caller, and the next call is served."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import funker

HANDLER = """
    import os, signal, subprocess, sys, threading, time
    from news import tell

    class Custom(Exception):
        pass

    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("not even that")

    def recurse(n):
        return recurse(n + 1)

    def handle(do, **kwargs):
        print("about to", do)
        return globals()[do](**kwargs)

    def add(x, y):
        return x + y

    def raise_custom():
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise Custom("no such luck: ä \\ud800") from error

    def raise_unprintable():
        raise Unprintable

    def raise_huge():
        raise ValueError("x" * 10_000_000)

    def raise_keyboard_interrupt():
        raise KeyboardInterrupt

    def abort():
        os.abort()

    def segfault():
        os.kill(os.getpid(), signal.SIGSEGV)

    def exit(code):
        sys.exit(code)

    def exit_hard():
        os._exit(7)

    def loop():
        while True:
            pass

    def sleep():
        time.sleep(3600)

    def tell_and_sleep():
        tell("sleeping")
        sleep()

    def ignore_everything():
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        sleep()

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def leave_children():
        child = subprocess.Popen(["sleep", "3600"])
        pid = os.fork()
        if not pid:
            time.sleep(3600)
        tell(child.pid)
        tell(pid)
        return "done"

    def leave_children_and_hang():
        leave_children()
        time.sleep(3600)

    def raise_in_thread():
        thread = threading.Thread(target=raise_custom)
        thread.start()
        thread.join()
        return "went on"
"""


@pytest.fixture(scope="module")
def victim(serve_all):
    return serve_all(HANDLER, name="victim")


@pytest.fixture
def served(victim):
    """A function that does what it is told. Whatever one call does to it, the next is served."""
    yield victim
    assert victim.next_exit().status == 0
    assert victim(do="add", x=1, y=2) == 3
    assert victim.next_exit().status == 0


def test_an_exception_comes_with_type_traceback_and_output(served):
    with pytest.raises(funker.FunctionError) as caught:
        served(do="raise_custom")
    error = caught.value
    assert error.message == "Custom: no such luck: ä \ud800"
    assert error.exception_type == "Custom"
    assert error.traceback.startswith("ZeroDivisionError") or "1 / 0" in error.traceback
    assert "raise Custom(" in error.traceback
    assert "funker_runtime" not in error.traceback
    assert error.output_tail == "about to raise_custom\n"
    assert (error.function, error.retry_safe) == ("victim", False)
    assert error.replica
    assert "raise Custom(" in served.stderr()
    assert "about to raise_custom\n" in served.stdout()


@pytest.mark.parametrize(
    ("do", "message"),
    [("raise_unprintable", "Unprintable"), ("raise_huge", "x" * 100)],
)
def test_exceptions_that_are_hard_to_tell_are_told(served, do, message):
    with pytest.raises(funker.FunctionError) as caught:
        served(do=do)
    assert message in caught.value.message
    assert len(caught.value.message) <= 4096
    assert f"in {do}" in caught.value.traceback


def test_wrong_arguments_are_the_function_s_error(served):
    with pytest.raises(funker.FunctionError, match="TypeError: add\\(\\) missing 1") as caught:
        served(do="add", x=1)
    assert caught.value.exception_type == "TypeError"


def test_endless_recursion_is_an_exception_like_others(served):
    with pytest.raises(funker.FunctionError, match="RecursionError"):
        served(do="recurse", n=0)


def test_an_exception_in_a_thread_is_output_and_no_outcome(served):
    assert served(do="raise_in_thread") == "went on"
    assert "raise Custom(" in served.stderr()


@pytest.mark.parametrize(
    ("do", "keywords", "how"),
    [
        ("abort", {}, "was killed by SIGABRT"),
        ("segfault", {}, "was killed by SIGSEGV"),
        ("exit", {"code": 3}, "exited with status 3"),
        ("exit", {"code": 0}, "exited with status 0"),
        ("exit", {"code": None}, "exited with status 0"),
        ("exit", {"code": "said before leaving"}, "exited with status 1"),
        ("exit_hard", {}, "exited with status 7"),
        ("raise_keyboard_interrupt", {}, "exited with status 1"),
    ],
)
def test_a_crash_says_how_and_with_what_last_words(served, do, keywords, how):
    with pytest.raises(funker.FunctionCrashed, match=how) as caught:
        served(do=do, **keywords)
    assert not caught.value.retry_safe
    assert caught.value.output_tail.startswith(f"about to {do}\n")
    if isinstance(keywords.get("code"), str):
        assert "said before leaving" in caught.value.output_tail


@pytest.mark.parametrize("do", ["loop", "sleep", "ignore_everything", "stop"])
def test_whatever_runs_past_its_time_out_is_killed(served, do):
    started = time.monotonic()
    with pytest.raises(funker.FunctionTimeout, match=r"time-out of 0\.4 s") as caught:
        served.function(timeout=0.4)(do=do)
    assert 0.4 <= time.monotonic() - started < 5
    assert caught.value.output_tail == f"about to {do}\n"


def test_the_function_s_own_time_out_holds_for_all_callers(serve):
    served = serve(HANDLER, name="victim", FUNKER_TIMEOUT="300ms")
    with pytest.raises(funker.FunctionTimeout, match=r"time-out of 0\.3 s"):
        served(do="loop")
    with pytest.raises(funker.FunctionTimeout, match=r"time-out of 0\.3 s"):
        served.function(timeout=20)(do="sleep")
    assert served.function(timeout=20)(do="add", x=1, y=2) == 3


def test_a_deadline_ends_a_running_call(served):
    started = time.monotonic()
    with pytest.raises(funker.DeadlineExceeded) as caught:
        served.function(deadline=0.8)(do="sleep")
    assert time.monotonic() - started < 5
    assert not caught.value.retry_safe


def test_a_worker_killed_from_outside_is_a_crash(served, shared_news):
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(served, do="tell_and_sleep")
        shared_news.wait()
        os.kill(served.worker, signal.SIGKILL)
        with pytest.raises(funker.FunctionCrashed, match=r"killed by SIGKILL \(out of memory\?\)"):
            calling.result()


@pytest.mark.parametrize("do", ["leave_children", "leave_children_and_hang"])
def test_what_a_handler_leaves_running_ends_with_its_call(served, shared_news, is_gone, do):
    call = served.function(timeout=1)
    if do == "leave_children":
        assert call(do=do) == "done"
    else:
        with pytest.raises(funker.FunctionTimeout):
            call(do=do)
    left = [int(shared_news.wait()) for _ in range(2)]
    assert all(is_gone(pid) for pid in left)
