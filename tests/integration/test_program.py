"""Executables as functions: stdin, stdout, the environment, and every way to end."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

import funker
from funker.rpc.messages import Accept, Ack, Error, Result
from tests.integration.conftest import NEWS

RUN = [sys.executable, "-m", "funker_runtime"]


@pytest.fixture(params=["container", "process"])
def isolation(request):
    return request.param


@pytest.fixture
def program(serve, isolation):
    """A function that is a shell's script: program("wc -c")."""

    def start(script, **variables):
        own = {"FUNKER_ISOLATION": isolation, "FUNKER_SLOTS": "1"}
        return serve("", command=[*RUN, "sh", "-c", script], **own, **variables)

    return start


@pytest.fixture
def ended(isolation):
    """Wait for the end of a replica whose call has ended, if that is its end."""

    def wait(served):
        if isolation == "container":
            assert served.next_exit().status == 0

    return wait


def test_the_body_is_its_stdin_and_stdout_the_answer(program, ended):
    served = program("wc -c")
    assert served.function()(b"four") == 4
    ended(served)
    assert served.function()(b"") == 0


@pytest.mark.parametrize(
    ("script", "variables", "answer"),
    [
        ("cat", {}, {"x": 1}),
        ("echo hello", {}, "hello\n"),
        ("echo '[1, 2'", {}, "[1, 2\n"),
        ("true", {}, ""),
        (r"printf '\377'", {}, b"\xff"),
        ("cat", {"FUNKER_CONTENT_TYPE": "text/plain"}, '{"x":1}'),
        ("cat", {"FUNKER_CONTENT_TYPE": "application/octet-stream"}, b'{"x":1}'),
    ],
)
def test_an_answer_is_json_or_text_or_bytes(program, script, variables, answer):
    assert program(script, **variables)(x=1) == answer


def test_the_header_is_in_its_environment(program, peer):
    served = program("env | grep ^FUNKER_CALL_ | sort", FUNKER_CONTENT_TYPE="text/plain")
    caller = peer(served)
    call = caller.call(
        content_type="text/csv", timeout_ms=9000, deadline_ms=8000, traceparent="00-a\0b", attempt=2
    )
    result = caller.receive(Result)
    caller.send(Ack(id=call.id))
    assert result.content_type == "text/plain"
    assert result.body.decode().splitlines() == [
        "FUNKER_CALL_ATTEMPT=2",
        "FUNKER_CALL_CONTENT_TYPE=text/csv",
        "FUNKER_CALL_DEADLINE_MS=8000",
        "FUNKER_CALL_FUNCTION=echo",
        f"FUNKER_CALL_ID={call.id}",
        "FUNKER_CALL_TIMEOUT_MS=9000",
        "FUNKER_CALL_TRACEPARENT=00-ab",
    ]


def test_a_status_other_than_0_is_the_function_s_error_with_its_stderr(program, ended):
    served = program("echo out; echo 'no such thing' >&2; exit 3")
    with pytest.raises(funker.FunctionError, match=r"^sh exited with status 3") as caught:
        served()
    assert caught.value.exception_type == "ExitStatus"
    assert caught.value.output_tail == "no such thing\n"
    ended(served)


@pytest.mark.parametrize("name", ["SEGV", "KILL", "PIPE", "TERM"])
def test_an_end_by_a_signal_is_a_crash(program, name, ended):
    served = program(f"echo oh >&2; kill -{name} $$")
    with pytest.raises(funker.FunctionCrashed, match=f"was killed by SIG{name}") as caught:
        served()
    assert caught.value.output_tail == "oh\n"
    ended(served)


@pytest.fixture
def sleeper(tmp_path):
    """A command that tells its process's number and sleeps."""
    (tmp_path / "sleeper.py").write_text(
        f"{NEWS}\nimport time\n\ntell(os.getpid())\ntime.sleep(60)\n"
    )
    return f"{sys.executable} {tmp_path / 'sleeper.py'}"


def test_a_time_out_ends_all_that_it_started(program, peer, news, is_gone, sleeper, ended):
    served = program(f"{sleeper} & sleep 60; wait")
    caller = peer(served)
    call = caller.call(timeout_ms=1000)
    caller.receive(Accept)
    pid = int(news.wait())
    assert caller.receive(Error).code == "function_timeout"
    caller.send(Ack(id=call.id))
    assert is_gone(pid)
    ended(served)


def test_children_that_keep_stdout_open_hold_no_answer_up(program, is_gone, news, sleeper):
    served = program(f"{sleeper} & echo answer; sleep 0.5")
    started = time.monotonic()
    assert served() == "answer\n"
    assert time.monotonic() - started < 30
    assert is_gone(int(news.wait()))


def test_an_answer_that_is_too_large_is_not_read_to_its_end(program, is_gone, ended):
    served = program("yes", FUNKER_MAX_BODY="100000")
    with pytest.raises(funker.PayloadTooLarge, match="the limit is 100000"):
        served()
    ended(served)
    served = program("cat", FUNKER_MAX_BODY="100000")
    assert served.function()(b"x" * 100_000) == "x" * 100_000


def test_a_large_body_need_not_be_read(program):
    served = program("head -c 3")
    assert served.function()(b"abc" * 4_000_000) == "abc"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["./nothing"], "there is no file "),
        (["nothing-of-that-name"], "there is no such program on PATH"),
        (["handler.py"], "(the one in "),
        (["./handler.py"], "is not executable (chmod +x)"),
        (["."], "there is no such program"),
        (["./"], "is not executable"),
    ],
)
def test_what_cannot_be_run_is_told_to_callers(serve, command, told):
    served = serve("", command=[*RUN, *command])
    with pytest.raises(funker.InitFailed) as caught:
        served()
    assert told in caught.value.message


def test_the_command_may_be_a_variable(serve):
    served = serve("", FUNKER_COMMAND='["sh", "-c", "echo $0", "a b"]')
    assert served() == "a b\n"
    served = serve("", FUNKER_COMMAND="sh -c 'echo $0' 'a b'")
    assert served() == "a b\n"
    served = serve("", FUNKER_COMMAND='["sh"')
    with pytest.raises(funker.InitFailed, match="FUNKER_COMMAND"):
        served()


@pytest.fixture
def script(serve, tmp_path):
    """A function that is an executable file with this text."""

    def start(text):
        path = tmp_path / "run"
        path.write_text(text)
        path.chmod(0o755)
        return serve("", command=[*RUN, str(path)])

    return start


def test_a_script_for_an_interpreter_that_is_not_there_cannot_be_loaded(script):
    with pytest.raises(funker.InitFailed, match=r"is for /nowhere/sh, which isn't there$"):
        script("#!/nowhere/sh -e\necho hi")()
    with pytest.raises(funker.InitFailed, match=r"end in "):
        script("#!/bin/sh\r\necho hi\r\n")()


def test_a_file_that_is_no_program_is_the_function_s_error(script):
    with pytest.raises(funker.FunctionError, match="nor does it begin with #!"):
        script("echo hi")()


def test_a_script_finds_itself_and_its_directory(script, tmp_path):
    assert script('#!/bin/sh\necho "$0" "$PWD"').__call__().split() == [
        str(tmp_path / "run"),
        os.path.realpath(tmp_path / "echo-0"),
    ]


def test_what_it_prints_to_stderr_is_its_log(serve):
    served = serve("", command=[*RUN, "sh", "-c", "echo hi >&2"], FUNKER_LOG="json")
    served()
    served.next_exit()
    served.restarts = False
    (line,) = (json.loads(line) for line in served.stderr().splitlines())
    assert (line["text"], line["stream"], len(line["call"])) == ("hi", "stderr", 32)
