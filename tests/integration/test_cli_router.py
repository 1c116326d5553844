"""The command line at a router's address, with its key and without Docker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import zmq

from funker.rpc.keys import client_keys, secure
from funker.rpc.messages import Query, decode, encode
from tests.ports import free_port

ACTS = """
    import time

    from news import tell

    def handle(x, y, wait=False):
        print("adding", x, "and", y)
        if wait:
            tell("asleep")
            time.sleep(60)
        return x + y
"""


@pytest.fixture
def router(tmp_path, environment):
    """A router's process; the variables by which it is found, and no engine."""
    pair, client = zmq.curve_keypair(), zmq.curve_keypair()
    keys = {
        "ROUTER_PUBLIC": pair[0],
        "ROUTER_SECRET": pair[1],
        "CLIENT_PUBLIC": client[0],
        "CLIENT_SECRET": client[1],
    }
    file = tmp_path / "keys"
    file.write_text("".join(f"{name}={key.decode()}\n" for name, key in keys.items()))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "funker.controller.router"],
        env={
            **environment,
            "FUNKER_LISTEN": f"tcp://{address}",
            "FUNKER_CONTROL": f"tcp://127.0.0.1:{free_port()}",
            "FUNKER_ROUTER_KEY_FILE": str(file),
        },
        stderr=subprocess.PIPE,
    )
    assert b"serving" in process.stderr.readline()
    yield {
        "FUNKER_ROUTER": address,
        "FUNKER_KEY_FILE": str(file),
        "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock",
    }
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.fixture
def typed(funker, router):
    """Types a command with these variables: typed("calls")."""
    return lambda *words, **options: funker(*words, env=router, **options)


@pytest.fixture
def known(router):
    """What the router knows of the function: known()."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        secure(sock, client_keys(router))
        sock.connect(f"tcp://{router['FUNKER_ROUTER']}")

        def ask():
            sock.send_multipart(encode(Query(number=1, what="status")))
            assert sock.poll(30_000)
            return json.loads(decode(sock.recv_multipart()).body)["functions"].get("acts")

        yield ask


@pytest.fixture
def acts(serve, router, known):
    served = serve(ACTS, name="acts", **router)
    give_up = time.monotonic() + 30
    while not (known() or {}).get("free"):  # the router has no event for it
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return served


def test_a_call_its_record_and_its_output_are_had_from_the_router_alone(typed, acts):
    called = typed("call", "acts", "x=1", "y=2", "-v")
    assert (called.code, called.stdout) == (0, "3\n")
    id = called.stderr.split()[1]
    assert called.stderr == f"call {id} of acts, answered by {called.stderr.split()[-1]}\n"

    (record,) = typed("calls", "acts", "--json").json
    assert (record["id"], record["outcome"]) == (id, "ok")
    acts.next_exit()  # the replica is gone, and what it printed is not

    logs = typed("logs", "acts", "--call", id[:8])
    assert (logs.code, logs.stdout) == (0, "adding 1 and 2\n")
    assert logs.stderr.startswith(f"call {id} of acts: ok on ")


def test_a_call_that_runs_is_told_as_such(typed, acts, router, known, news, environment):
    with subprocess.Popen(
        [sys.executable, "-m", "funker.cli.main", "call", "acts", "x=1", "y=2", "wait=true"],
        env={**environment, **router},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as caller:
        assert news.wait() == "asleep"
        (replica,) = known()["replicas"]
        (id,) = replica["calls"]
        logs = typed("logs", "acts", "--call", id)
        assert (logs.code, logs.stdout) == (0, "")
        assert logs.stderr.startswith(f"call {id} of acts: running")
        caller.send_signal(signal.SIGINT)
        caller.communicate(timeout=30)


def test_a_flag_is_above_the_environment(funker, router, acts):
    elsewhere = {**router, "FUNKER_ROUTER": "127.0.0.1:9"}
    flag = ["--router", router["FUNKER_ROUTER"]]
    called = funker("call", "acts", "x=1", "y=2", *flag, env=elsewhere)
    assert (called.code, called.stdout) == (0, "3\n")
    assert len(funker("calls", "--json", *flag, env=elsewhere).json) == 1


def test_a_misspelled_name_gets_a_suggestion(typed, acts):
    assert typed("call", "acts", "x=1", "y=2").code == 0
    for words in (["calls", "act"], ["logs", "act", "--call", "a"]):
        missed = typed(*words)
        assert (missed.code, missed.stdout) == (127, "")
        assert missed.stderr.splitlines()[1] == "hint: Did you mean acts?"


def test_a_key_that_is_none_is_told_and_not_authorised(funker, router, tmp_path):
    (tmp_path / "wrong").write_text("ROUTER_PUBLIC=short\n")
    refused = funker("calls", env={**router, "FUNKER_KEY_FILE": str(tmp_path / "wrong")})
    assert (refused.code, refused.stdout) == (4, "")
    assert f"{tmp_path}/wrong is no key file" in refused.stderr.splitlines()[0]


def test_where_no_router_is_one_line_says_so(funker, router):
    nobody = funker("calls", env={**router, "FUNKER_ROUTER": "127.0.0.1:9"})
    assert (nobody.code, nobody.stdout) == (125, "")
    error, hint = nobody.stderr.splitlines()
    assert error.startswith("error: router_unavailable: no router at 127.0.0.1:9")
    assert hint.startswith("hint: ")
