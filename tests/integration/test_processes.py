"""A replica that stands and forks a process for each call, and what becomes of its processes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import funker
from funker.rpc.messages import Accept, Ack, Busy, Bye, Call, Error, Pong, Result
from tests.processes import PATIENCE

HANDLER = """
    import os, random, time
    from news import tell

    tell("loaded")
    calls = 0

    def handle(do="count", **kwargs):
        return globals()[do](**kwargs)

    def count(n=0, sleep=0.0):
        global calls
        calls += 1
        began = time.monotonic()
        time.sleep(sleep)
        ran = [began, time.monotonic()]
        return {"n": n, "calls": calls, "pid": os.getpid(), "random": random.random(), "ran": ran}

    def wait(path):
        tell(os.getpid())
        while not os.path.exists(path):
            time.sleep(0.005)
        return "waited"

    def daemon():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                tell(os.getpid())
                while True:
                    time.sleep(60)
            os._exit(0)
        while True:
            time.sleep(60)
"""


class Tree:
    """The processes of a replica, found by their parents."""

    def __init__(self, served):
        self.front = served.front
        (self.zygote,) = _children(self.front)

    @property
    def keepers(self):
        return _children(self.zygote)

    def all(self):
        found, parents = [], [self.front]
        while parents:
            parent = parents.pop()
            found.append(parent)
            parents += _children(parent)
        return found


def _children(pid):
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid:
            found.append(int(directory.name))
    return sorted(found)


@pytest.fixture
def replica(serve, news):
    """Start a replica, and wait until it has answered a call: replica(**variables)."""

    def start(**variables):
        served = serve(HANDLER, **{"FUNKER_ISOLATION": "process", "FUNKER_SLOTS": "2"} | variables)
        assert news.wait() == "loaded"
        assert served()["n"] == 0
        return served

    return start


@pytest.fixture
def threads():
    with ThreadPoolExecutor(16) as threads:
        yield threads


# Calls


def test_many_calls_at_once_run_in_a_process_each_as_many_as_there_are_slots(replica, threads):
    served = replica()
    answers = list(threads.map(lambda n: served(n=n, sleep=0.01), range(120)))
    assert [answer["n"] for answer in answers] == list(range(120))
    assert {answer["calls"] for answer in answers} == {1}
    assert len({answer["pid"] for answer in answers}) == 120
    assert len({answer["random"] for answer in answers}) == 120
    spans = [answer["ran"] for answer in answers]
    at_once = [sum(start <= at < end for start, end in spans) for at, _ in spans]
    assert max(at_once) == 2
    assert served.exits.empty()


def test_a_program_with_handle_may_have_slots(serve):
    served = serve(
        """
        import os
        import funker

        print("loaded by", os.getpid())

        @funker.after_fork
        def connect():
            global connection
            connection = os.getpid()

        funker.handle(lambda: [connection, os.getpid()])
        """,
        command=[sys.executable, "handler.py"],
        FUNKER_ISOLATION="process",
    )
    first, second = served(), served()
    assert first[0] == first[1] != second[0] == second[1]
    assert served.stdout().count("loaded by") == 1


def test_what_is_printed_is_told_apart(serve, peer):
    served = serve(
        "import os\ndef handle(n): os.write(1, b'%d and no more' % n); return n",
        FUNKER_ISOLATION="process",
        FUNKER_SLOTS="1",
        FUNKER_LOG="json",
    )
    caller = peer(served)
    ids = []
    for n in range(5):
        call = caller.call(json.dumps({"n": n}).encode())
        assert caller.receive(Result).body == b"%d" % n
        caller.send(Ack(id=call.id))
        ids.append(call.id)
    os.kill(served.front, signal.SIGTERM)
    served.next_exit()
    served.restarts = False
    lines = [json.loads(line) for line in served.stdout().splitlines()]
    assert [(line["call"], line["text"]) for line in lines] == [
        (id, f"{n} and no more") for n, id in enumerate(ids)
    ]


def test_a_handler_that_has_started_a_thread_is_warned_of_and_works(serve):
    served = serve(
        """
        import threading, time
        threading.Thread(target=time.sleep, args=[600], daemon=True).start()

        def handle():
            return threading.active_count()
        """,
        FUNKER_ISOLATION="process",
    )
    assert served() == 1
    assert "has started 1 threads" in served.stderr()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_like_this", "nothing_like_this"),
        ("import sys; sys.exit(3)", "the function's process exited with status 3 before any call"),
        ("import os; os.abort()", "was killed by SIGABRT before any call"),
    ],
)
def test_what_cant_be_loaded_is_told_to_callers(serve, code, message):
    served = serve(code, FUNKER_ISOLATION="process")
    with pytest.raises(funker.InitFailed, match=message):
        served()


def test_it_holds_an_outcome_beside_other_calls(replica, peer):
    served = replica(FUNKER_SLOTS="1")
    caller, other = peer(served), peer(served)
    call = caller.call()
    answer = caller.receive(Result)
    assert served()["n"] == 0
    other.send(call.replace(resend=True, body=None))
    assert other.receive(Result) == answer
    other.send(Ack(id=call.id))
    other.send(call.replace(resend=True, body=None))
    assert other.receive(Busy).id == call.id


def test_it_is_idle_as_long_as_a_slot_is_free(replica, peer, news, tmp_path):
    served = replica()
    caller = peer(served)
    body = json.dumps({"do": "wait", "path": str(tmp_path / "go")}).encode()
    calls = [caller.call(body), caller.call(body)]
    for _ in calls:
        news.wait()
    pong = peer(served).state("idle", "busy")
    assert pong.state == "busy"
    third = Call(id=secrets.token_hex(16), function="echo", session=pong.session, body=b"{}")
    caller.send(third)
    assert caller.receive(Busy).id == third.id
    (tmp_path / "go").touch()
    assert {caller.receive(Result).id for _ in calls} == {call.id for call in calls}
    assert peer(served).state("idle").session == pong.session


# The end


def test_sigterm_lets_calls_end_and_takes_no_more(replica, peer, news, tmp_path, is_gone):
    served = replica()
    tree = Tree(served)
    caller, prober = peer(served), peer(served)
    call = caller.call(json.dumps({"do": "wait", "path": str(tmp_path / "go")}).encode())
    caller.receive(Accept)
    news.wait()
    session = prober.state("idle").session
    os.kill(served.front, signal.SIGTERM)
    bye = prober.receive(Bye)
    assert (bye.session, tuple(bye.held)) == (session, (call.id,))
    crossing = call.replace(id=secrets.token_hex(16))
    prober.send(crossing)
    assert prober.receive(Busy).id == crossing.id
    (tmp_path / "go").touch()
    assert caller.receive(Result).body == b"waited"
    caller.send(Ack(id=call.id))
    life = served.next_exit()
    assert (life.pid, life.status) == (tree.front, 0)
    assert is_gone(tree.zygote)
    assert served()["n"] == 0  # by the next


def test_an_idle_one_leaves_at_once_with_all_its_processes_and_directories(replica, is_gone):
    served = replica(TMPDIR="", FUNKER_SLOTS="4")
    processes = Tree(served).all()
    places = {str(Path(f"/proc/{pid}/cwd").readlink()) for pid in processes}
    assert len(processes) == 2 + 4 + 8
    started = time.monotonic()
    os.kill(served.front, signal.SIGTERM)
    assert served.next_exit().status == 0
    assert time.monotonic() - started < 2
    assert all(is_gone(pid) for pid in processes)
    assert [place for place in places if "/funker-" in place and Path(place).exists()] == []


@pytest.mark.parametrize("whom", ["worker", "keeper", "zygote", "front"])
def test_whoever_is_killed_takes_its_call_along_and_nothing_stays(
    replica, peer, news, is_gone, whom
):
    served = replica(FUNKER_SLOTS="1")
    tree = Tree(served)
    (keeper,) = tree.keepers
    caller = peer(served)
    call = caller.call(b'{"do": "daemon"}')
    caller.receive(Accept)
    daemon = int(news.wait())
    processes = [*tree.all(), daemon]
    (worker,) = {pid for pid in _children(keeper) if _children(pid)} or {0}
    victim = {"worker": worker, "keeper": keeper, "zygote": tree.zygote, "front": tree.front}[whom]
    os.kill(victim, signal.SIGKILL)
    assert is_gone(daemon)
    assert is_gone(worker)
    if whom == "front":
        assert served.next_exit().status == -signal.SIGKILL
    else:
        error = caller.receive(Error)
        assert (error.id, error.code) == (call.id, "function_crashed")
        caller.send(Ack(id=call.id))
    if whom == "zygote":
        assert served.next_exit().status == 1
    if whom in ("zygote", "front"):
        assert all(is_gone(pid) for pid in processes)
    assert served()["n"] == 0
    if whom in ("worker", "keeper"):
        assert served.front == tree.front


def test_an_idle_keeper_that_is_killed_is_replaced(replica, threads):
    served = replica()
    tree = Tree(served)
    keepers = tree.keepers
    os.kill(keepers[0], signal.SIGKILL)
    # A call at once might be given to its worker, which dies with it, and would be told so.
    give_up = time.monotonic() + PATIENCE
    while len(set(tree.keepers) - {keepers[0]}) < 2:
        assert time.monotonic() < give_up, "it isn't replaced"
        time.sleep(0.01)
    assert [a["n"] for a in threads.map(lambda n: served(n=n), range(20))] == list(range(20))
    assert served.front == tree.front
    assert len(tree.keepers) == 2
    assert keepers[0] not in tree.keepers


def test_its_descriptors_and_processes_are_as_many_after_as_before_many_calls(
    replica, peer, threads
):
    served = replica()

    def count():
        tree = Tree(served)
        pids = [tree.front, tree.zygote, *tree.keepers]
        front, *others = (len([*Path(f"/proc/{pid}/fd").iterdir()]) for pid in pids)
        return front, others, len(tree.all())

    prober = peer(served)
    prober.state("idle")
    front, *rest = count()
    assert len(list(threads.map(lambda n: served(n=n), range(100)))) == 100
    prober.state("idle")
    front_after, *rest_after = count()
    assert rest_after == rest
    assert front_after < front + 5  # callers' connections


def test_the_caller_hears_signs_of_life_of_a_call_in_a_slot(replica, peer, news, tmp_path):
    served = replica()
    caller = peer(served)
    call = caller.call(json.dumps({"do": "wait", "path": str(tmp_path / "go")}).encode())
    caller.receive(Accept)
    assert caller.receive(Pong) == caller.receive(Pong)
    (tmp_path / "go").touch()
    assert caller.receive(Result).id == call.id
