"""`funker run`: a function from its source for as long as the command lives, and not longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.test_requirements import BUILD, PROJECT

ADD = """
    import sys

    def handle(x, y=1):
        print("adding", x)
        print("aside", file=sys.stderr)
        return x + y
"""

_CALL = (str(Path(sys.executable).with_name("funker")), "call", "slow")

SLOW = """
    import pathlib, time

    def handle(began, seconds):
        pathlib.Path(began).touch()
        time.sleep(seconds)
        return "done"
"""


def _begun(command: Any) -> tuple[subprocess.Popen[str], Path]:
    """A command whose function is busy for long, and that call's process."""
    process = command.start("run", "-r", command.write(SLOW, "slow"))
    return process, command.place / "began"


def _wait_for(path: Path) -> None:
    give_up = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < give_up, f"never came: {path}"
        time.sleep(0.02)


def test_one_call_is_made_and_its_answer_alone_goes_to_stdout(command):
    done = command.run("run", command.write(ADD), "--call", '{"x": 1, "y": 2}')

    assert (done.returncode, done.stdout) == (0, "3\n")
    assert "adding 1\n" in done.stderr
    assert "aside\n" in done.stderr
    assert command.is_clear()


def test_a_call_that_fails_has_the_exit_code_of_a_call(command):
    source = command.write("def handle(x): raise ValueError(x)")

    done = command.run("run", source, "--call", '{"x": "no"}')

    assert (done.returncode, done.stdout) == (1, "")
    assert "error: function_error: ValueError: no\n" in done.stderr
    assert command.is_clear()


def test_a_file_alone_is_a_function(command):
    file = command.write("def handle(word): return word.upper()", file="shout.py") / "shout.py"

    done = command.run("run", file, "--call", '{"word": "hey"}')

    assert (done.returncode, done.stdout) == (0, "HEY"), done.stderr


def test_a_program_alone_is_a_function(command):
    program = command.place / "count.sh"
    program.write_text("#!/bin/sh\necho counting >&2\nexec wc -c\n")
    program.chmod(0o755)

    done = command.run("run", program, "--call", "four")

    assert (done.returncode, done.stdout.strip()) == (0, "4"), done.stderr
    assert "counting\n" in done.stderr


def test_a_command_is_run_with_what_the_source_has(command):
    source = command.write("print(open(0).read()[::-1])", file="turn.py")

    words = ["--call", "abc", "--command", "python3 turn.py"]
    done = command.run("run", source, *words)

    assert (done.returncode, done.stdout.strip()) == (0, "cba"), done.stderr


def test_a_directory_of_a_repository_runs_at_a_ref_with_its_requirements(command):
    repository = command.place / "repository"
    package = repository / "jobs" / "greet" / "greeting"
    package.mkdir(parents=True)
    (package / "pyproject.toml").write_text(PROJECT)
    (package / "backend.py").write_text(BUILD)
    (package / "greeting.py").write_text("def of(name): return 'Hello ' + name\n")
    (package.parent / "requirements.txt").write_text("./greeting\n")
    handler = package.parent / "handler.py"

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(
            ["git", *identity, *words], cwd=repository, env=command.environ, check=True,
            capture_output=True,
        )  # fmt: skip

    git("init", "--initial-branch", "main")
    handler.write_text("import greeting\ndef handle(name): return greeting.of(name)\n")
    git("add", ".")
    git("commit", "-m", "one")
    git("tag", "v1")
    handler.write_text("def handle(name): return 'newer'\n")
    git("commit", "-a", "-m", "two")

    done = command.run("run", f"file://{repository}//jobs/greet@v1", "--call", '{"name": "Ada"}')

    assert (done.returncode, done.stdout) == (0, "Hello Ada"), done.stderr
    assert command.is_clear()


def test_without_r_it_serves_one_call_and_ends(command):
    process = command.start("run", command.write(ADD))

    answer = command.call("add", "x=1", "y=2")

    assert (answer.returncode, answer.stdout) == (0, "3\n"), answer.stderr
    assert command.ended(process) == 0
    assert command.stdout == "adding 1\n"  # as `docker run` has it: each stream on its own
    assert "aside\n" in command.stderr


def test_without_r_it_ends_as_the_call_did(command):
    process = command.start("run", command.write("def handle(): raise ValueError('no')", "fail"))

    assert command.call("fail").returncode == 1
    assert command.ended(process) == 1
    assert "of fail: function_error on fail.1" in command.stderr


def test_a_call_that_no_replica_has_seen_is_not_the_one(command):
    process = command.start("run", command.write(ADD))

    assert command.call("other").returncode == 127
    assert process.poll() is None
    assert command.call("add", "x=1").stdout == "2\n"
    assert command.ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_with_r_it_serves_call_after_call_until_it_is_told_to_end(command, number):
    process = command.start("run", "--restart", command.write(ADD), "-n", "plus", "-e", "A=1")

    assert [command.call("plus", f"x={x}").stdout for x in (1, 2, 3)] == ["2\n", "3\n", "4\n"]
    process.send_signal(number)

    assert command.ended(process) == 130
    assert command.stdout == "adding 1\nadding 2\nadding 3\n"
    assert "Traceback" not in command.stderr


def test_a_call_that_runs_is_answered_when_it_is_told_to_end(command):
    process, began = _begun(command)
    directory = next((command.place / "tmp").iterdir())
    with subprocess.Popen(
        [*_CALL, f"began={began}", "seconds=2"],
        env={**command.environ, "FUNKER_STATE_DIR": str(directory)},
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        _wait_for(began)
        process.send_signal(signal.SIGINT)

        assert caller.communicate(timeout=30)[0] == "done"
    assert command.ended(process) == 130


def test_the_second_time_nothing_is_waited_for(command):
    process, began = _begun(command)
    directory = next((command.place / "tmp").iterdir())
    with subprocess.Popen(
        [*_CALL, f"began={began}", "seconds=60"],
        env={**command.environ, "FUNKER_STATE_DIR": str(directory)},
        stderr=subprocess.DEVNULL,
    ) as caller:
        _wait_for(began)
        process.send_signal(signal.SIGINT)
        command.told("Ctrl-C again ends them now")
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
        caller.terminate()
    assert command.ended(process) == 130


def test_killed_it_leaves_nothing_either(command):
    process = command.start("run", "-r", command.write(ADD))
    assert command.call("add", "x=1").returncode == 0

    process.kill()
    process.wait()

    give_up = time.monotonic() + 10
    while not command.is_clear():
        assert time.monotonic() < give_up, command.processes()
        time.sleep(0.05)


def test_it_says_so_when_its_controller_is_gone(command):
    process = command.start("run", command.write(ADD))
    (agent,) = (
        pid
        for pid in command.processes()
        if b"funker.backends.local.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )

    os.kill(agent, signal.SIGKILL)

    assert command.ended(process) == 125
    assert "error: no local controller is up" in command.stderr


def test_it_never_meets_the_controller_in_the_background(command):
    assert command.run("up", "--backend", "local").returncode == 0
    try:
        done = command.run("run", command.write(ADD), "--call", '{"x": 1}')
        listed = command.run("ls", "-o", "name")
    finally:
        assert command.run("down", "-y", "--backend", "local").returncode == 0

    assert done.stdout == "2\n", done.stderr
    assert (listed.returncode, listed.stdout) == (0, "")


def test_source_that_cannot_run_is_one_error_and_nothing_left(command):
    done = command.run("run", command.write("def handle(:"), "--call", "1")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {command.place}/add/handler.py:1:12: invalid syntax" in done.stderr
    assert command.is_clear()


def test_a_call_and_r_exclude_each_other(command):
    done = command.run("run", "-r", command.write(ADD), "--call", "1")

    assert done.returncode == 2
    assert done.stderr.startswith("error: --call and -r exclude each other\n")
