"""`funker call --address` against a real replica on this machine: sockets, signals, pipes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FUNKER = Path(sys.executable).with_name("funker")

ACTS = """
    import sys, time

    from news import tell

    def handle(act="add", **given):
        print("this is", act)
        match act:
            case "add":
                return given["x"] + given["y"]
            case "raise":
                raise ValueError("too big")
            case "exit":
                sys.exit(3)
            case "sleep":
                tell("asleep")
                time.sleep(60)
            case "bytes":
                return bytes(range(256))
            case "nested":
                return {"list": [1, None], "text": "\\u00fc"}
"""


@pytest.fixture
def acts(serve):
    """A function that does what its argument `act` says."""
    return serve(ACTS, name="acts", FUNKER_REPLICA="acts.1")


@pytest.fixture
def call(funker, acts) -> Callable[..., Any]:
    """Types `funker call acts ...`, to that replica, and waits for the end."""
    return lambda *words, **options: funker(
        "call", "acts", "--address", acts.address, *words, **options
    )


@pytest.fixture
def asleep(acts, news) -> Callable[..., subprocess.Popen[bytes]]:
    """Types the same with a handler that sleeps, and comes back when it does."""

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [FUNKER, "call", "acts", "--address", acts.address, "act=sleep", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert news.wait() == "asleep"
        return process

    return start


def test_a_call_prints_the_answer_and_nothing_else(call):
    finished = call("x=1", "y=2")
    assert (finished.code, finished.stdout, finished.stderr) == (0, "3\n", "")


def test_a_body_comes_from_data_a_file_or_a_pipe(call, tmp_path):
    body = b'{"x": 20, "y": 22}'
    (tmp_path / "body.json").write_bytes(body)
    assert call("-d", body.decode()).stdout == "42\n"
    assert call("-d", f"@{tmp_path}/body.json").stdout == "42\n"
    assert call("-d", "-", stdin=body).stdout == "42\n"
    assert call(stdin=body).stdout == "42\n"


def test_arguments_win_over_a_pipe(call):
    assert call("x=1", "y=1", stdin=b'{"x": 2, "y": 2}').stdout == "2\n"


def test_bytes_are_printed_as_they_are(call):
    assert call("act=bytes").stdout_bytes == bytes(range(256))


def test_an_answer_has_the_form_that_was_asked_for(call):
    assert json.loads(call("act=nested", "--json").stdout) == {"list": [1, None], "text": "ü"}
    assert call("act=nested", "-o", "yaml").stdout == "list:\n- 1\n- \ntext: ü\n"
    assert call("act=nested").stdout == '{"list":[1,null],"text":"\\u00fc"}\n'


def test_a_terminal_gets_readable_json_and_is_spared_bytes(acts):
    def shown(*words: str) -> str:
        ours, theirs = pty.openpty()
        command = [FUNKER, "call", "acts", "--address", acts.address, *words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=60, check=True
        )
        assert done.returncode == 0
        os.close(theirs)
        with open(ours, "rb", closefd=True) as terminal:
            return terminal.read1(65536).decode().replace("\r\n", "\n")

    assert shown("act=nested") == '{\n  "list": [\n    1,\n    null\n  ],\n  "text": "ü"\n}\n'
    assert "256 bytes of application/octet-stream" in shown("act=bytes")


def test_a_handler_that_raised_is_shown_with_its_traceback_and_output(call):
    finished = call("act=raise")
    assert (finished.code, finished.stdout) == (1, "")
    lines = finished.stderr.splitlines()
    assert lines[0] == "error: function_error: ValueError: too big"
    assert "  replica: acts.1" in lines
    assert "  ValueError: too big" in lines
    assert "  this is raise" in lines
    assert "funker/cli" not in finished.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["act=exit"], 1, "function_crashed"),
        (["act=sleep", "--timeout", "300ms"], 124, "function_timeout"),
        (["act=sleep", "--deadline", "1"], 124, "deadline_exceeded"),
        (["x=1"], 1, "function_error"),
    ],
)
def test_each_outcome_has_its_exit_code(call, words, exit_code, code):
    finished = call(*words)
    assert finished.code == exit_code, finished
    assert finished.stderr.startswith(f"error: {code}: ")
    assert call("x=1", "y=2").stdout == "3\n"


def test_a_replica_killed_in_mid_call_is_lost_and_the_next_call_is_served(call, acts, asleep):
    process = asleep()
    os.kill(acts.front, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert err.startswith(b"error: replica_lost: ")
    assert call("x=1", "y=2").stdout == "3\n"


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_is_cancelled_and_ends_quietly(call, acts, asleep, signal_number):
    process = asleep()
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert acts.next_exit().status == 0  # else it would sleep for a minute
    assert call("x=1", "y=2").stdout == "3\n"


def test_many_calls_give_figures_and_succeed_only_together(call):
    finished = call("x=1", "y=2", "--repeat", "6", "-c", "3", "-o", "json")
    assert finished.code == 0
    figures = json.loads(finished.stdout)
    assert list(figures) == [
        "ok",
        "errors",
        "calls_per_s",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "max_ms",
    ]
    assert figures["ok"] == 6
    assert figures["errors"] == {}
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] <= figures["max_ms"]

    finished = call("act=raise", "--repeat", "3")
    assert finished.code == 1
    assert finished.stdout.splitlines() == [
        "answered   0 of 3 (0 a second)",
        "failed     function_error 3",
    ]
    assert finished.stderr.count("error: function_error: ") == 1


def test_an_interrupted_run_cancels_what_is_open_and_prints_what_it_has(acts, asleep):
    process = asleep("--repeat", "5", "-o", "json")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["ok"] == 0
    assert acts.next_exit().status == 0


def test_an_address_without_a_port_number_is_refused(funker):
    finished = funker("call", "acts", "--address", "localhost:http", "x=1")
    assert finished.code == 2
    assert finished.stderr.startswith("error: --address: ")
