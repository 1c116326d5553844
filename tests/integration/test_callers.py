"""Callers and pools: everybody gets an answer, and a lost replica is told or made up for."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import funker
from funker.rpc import direct

ENTER = """
    import os, time
    from news import tell

    def handle(n, wait_for="", seconds=0, error=None):
        with open("../ledger", "a") as ledger:
            ledger.write(f"{n}\\n")
        tell(os.getpid())
        time.sleep(seconds)
        while wait_for and not os.path.exists("../" + wait_for):
            time.sleep(0.01)
        if error:
            raise ValueError(error)
        return [n, os.getpid()]
"""


@pytest.fixture
def pool(serve, monkeypatch):
    """Start replicas of one function, all found by its name: pool(4)."""

    def start(number, code=ENTER):
        replicas = [serve(code, name="enter") for _ in range(number)]
        addresses = tuple(replica.address for replica in replicas)
        known = {"enter": addresses, **{address: (address,) for address in addresses}}
        monkeypatch.setattr(direct, "_addresses", lambda name, _: known.get(name, ()))
        return replicas

    return start


def ledger(replicas):
    text = (replicas[0].directory.parent / "ledger").read_text()
    return collections.Counter(int(line) for line in text.split())


def go(replicas, name):
    (replicas[0].directory.parent / name).touch()


def test_sixteen_callers_on_four_replicas_are_all_answered_once_each(pool):
    replicas = pool(4)
    enter = funker.function("enter", deadline=90)

    def calls(caller):
        return [enter(n=n) for n in range(caller * 12, (caller + 1) * 12)]

    with ThreadPoolExecutor(16) as threads:
        answers = [answer for some in threads.map(calls, range(16)) for answer in some]
    assert [n for n, _ in answers] == list(range(192))
    assert len({pid for _, pid in answers}) == 192
    assert ledger(replicas) == collections.Counter(range(192))


def test_replicas_that_are_told_to_leave_lose_no_call(pool):
    replicas = pool(4)
    enter = funker.function("enter", deadline=90)
    done = threading.Event()

    def tell_them_to_leave():
        for n in range(10_000):
            if done.wait(0.2):
                return
            try:
                os.kill(replicas[n % 4].front, signal.SIGTERM)
            except ProcessLookupError:
                continue

    with ThreadPoolExecutor(9) as threads:
        leaving = threads.submit(tell_them_to_leave)
        try:
            answers = list(threads.map(lambda n: enter(n=n), range(40)))
        finally:
            done.set()
        leaving.result()
    assert [n for n, _ in answers] == list(range(40))
    assert ledger(replicas) == collections.Counter(range(40))


def test_idempotent_calls_survive_replicas_that_are_killed(pool):
    replicas = pool(4)
    enter = funker.function("enter", deadline=90, idempotent=True)
    done = threading.Event()

    def kill():
        for n in range(10_000):
            if done.wait(0.2):
                return
            try:
                os.kill(replicas[n % 4].front, signal.SIGKILL)
            except ProcessLookupError:
                continue

    with ThreadPoolExecutor(9) as threads:
        killing = threads.submit(kill)
        try:
            answers = list(threads.map(lambda n: enter(n=n, seconds=0.05), range(40)))
        finally:
            done.set()
        killing.result()
    assert [n for n, _ in answers] == list(range(40))
    assert set(ledger(replicas)) == set(range(40))


@pytest.mark.parametrize("replaced", [True, False])
def test_a_replica_that_is_killed_in_mid_call_is_lost_and_told_soon(pool, news, replaced):
    replicas = pool(1)
    served = replicas[0]
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(served, n=1, wait_for="go")
        news.wait()
        if not replaced:
            served.restarts = False
        started = time.monotonic()
        os.kill(served.front, signal.SIGKILL)
        with pytest.raises(funker.ReplicaLost, match="may have run") as caught:
            calling.result()
        assert time.monotonic() - started < 5
    assert not caught.value.retry_safe
    assert served.next_exit().status == -signal.SIGKILL
    assert ledger(replicas) == {1: 1}
    go(replicas, "go")
    if replaced:
        assert served(n=2)[0] == 2


def test_an_idempotent_call_is_made_again_at_the_next_replica(pool, news):
    replicas = pool(2)
    enter = funker.function("enter", deadline=30, idempotent=True)
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(enter, n=1, wait_for="go")
        worker = int(news.wait())
        (front,) = [r.front for r in replicas if r.worker == worker]
        os.kill(front, signal.SIGKILL)
        assert int(news.wait()) != worker
        go(replicas, "go")
        assert calling.result()[0] == 1
    assert ledger(replicas) == {1: 2}


def test_a_busy_pool_is_waited_for_until_the_deadline(pool, news):
    replicas = pool(1)
    enter = funker.function("enter")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(enter, n=1, wait_for="go")
        news.wait()
        with pytest.raises(funker.DeadlineExceeded, match="its replicas: busy") as caught:
            funker.function("enter", deadline=2)(n=2)
        assert caught.value.retry_safe
        third = threads.submit(enter, n=3)
        go(replicas, "go")
        assert [first.result()[0], third.result()[0]] == [1, 3]
    assert ledger(replicas) == {1: 1, 3: 1}


def test_a_name_that_fits_two_functions_is_ambiguous(serve, peer, monkeypatch):
    code = "def handle(): return 'answered'"
    replicas = [serve(code, name=name) for name in ("shop_add", "math_add")]
    for replica in replicas:
        peer(replica).state("idle")
    addresses = tuple(replica.address for replica in replicas)
    monkeypatch.setattr(direct, "_addresses", lambda *_: addresses)
    with pytest.raises(funker.AmbiguousFunction, match="'add' may be math_add or shop_add"):
        funker.call("add")
    assert funker.call("shop_add") == "answered"


def test_an_unknown_name_is_told_by_the_deadline(pool):
    pool(1)
    started = time.monotonic()
    with pytest.raises(funker.FunctionNotFound, match="no function 'exit' on this network"):
        funker.function("exit", deadline=0.4)()
    assert time.monotonic() - started < 3


def test_another_function_at_the_address_is_never_called(pool):
    replicas = pool(1)
    with pytest.raises(funker.FunctionNotFound, match="is a replica of 'enter', not of 'other'"):
        funker.function("other", address=replicas[0].address, deadline=5)(n=1)
    assert not (replicas[0].directory.parent / "ledger").exists()


async def test_coroutines_call_side_by_side(pool):
    pool(3)
    enter = funker.function("enter", deadline=30)
    answers = await asyncio.gather(*(enter.aio(n=n) for n in range(6)))
    assert [n for n, _ in answers] == list(range(6))
    with pytest.raises(funker.FunctionError, match="ValueError: on purpose"):
        await enter.aio(n=0, error="on purpose")


async def test_a_cancelled_coroutine_stops_the_handler(pool, news, is_gone):
    (served,) = pool(1)
    calling = asyncio.create_task(funker.function("enter").aio(n=1, wait_for="never"))
    worker = int(await asyncio.to_thread(news.wait))
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await asyncio.to_thread(is_gone, worker)
    assert (await asyncio.to_thread(served.next_exit)).status == 0
    assert (await funker.function("enter").aio(n=2))[0] == 2


async def test_wait_for_gives_up_a_call_that_waits_for_a_replica(pool, news):
    replicas = pool(1)
    enter = funker.function("enter")
    first = asyncio.create_task(enter.aio(n=1, wait_for="go"))
    await asyncio.to_thread(news.wait)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(enter.aio(n=2), timeout=0.2)
    go(replicas, "go")
    assert (await first)[0] == 1
    assert (await enter.aio(n=3))[0] == 3
    assert set(ledger(replicas)) == {1, 3}


def test_map_keeps_the_order_whatever_ends_first(pool):
    pool(3)
    values = [{"n": n, "seconds": 0.3 if n == 0 else 0} for n in range(8)]
    enter = funker.function("enter", deadline=60)
    assert [n for n, _ in enter.map(values, concurrency=3)] == list(range(8))
    assert list(enter.map([])) == []


def test_map_raises_the_first_error_in_its_place_and_cancels_the_rest(pool, news, is_gone):
    replicas = pool(4)
    values = [
        {"n": 0},
        {"n": 1, "wait_for": "go", "error": "the first"},
        {"n": 2, "wait_for": "never"},
        {"n": 3, "wait_for": "never"},
        {"n": 4},
        {"n": 5},
    ]
    answers = funker.function("enter", deadline=60).map(iter(values), concurrency=4)
    assert next(answers)[0] == 0
    workers = [int(news.wait()) for _ in range(4)]
    go(replicas, "go")
    with pytest.raises(funker.FunctionError, match="the first"):
        next(answers)
    assert all(is_gone(worker) for worker in workers)
    assert funker.function("enter")(n=6)[0] == 6
    assert ledger(replicas)[5] == 0


def test_a_forked_child_calls_on_connections_of_its_own(serve, environment):
    served = serve("def handle(n): return n")
    code = """if True:
        import funker, os, sys

        echo = funker.function("echo", address=os.environ["ADDRESS"])
        assert echo(n=1) == 1
        child = os.fork()
        assert echo(n=2) == 2
        if not child:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, "ADDRESS": served.address},
        check=True,
        timeout=60,
    )


def test_a_program_that_gives_up_a_coroutine_s_call_ends_in_silence(pool, environment):
    (served,) = pool(1)
    code = """if True:
        import asyncio, funker, os

        enter = funker.function("enter", address=os.environ["ADDRESS"])

        async def give_up():
            try:
                await asyncio.wait_for(enter.aio(n=1, wait_for="never"), timeout=0.5)
            except asyncio.TimeoutError:
                print("gave up")

        asyncio.run(give_up())
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        env={**environment, "ADDRESS": served.address},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"gave up\n", b"")
