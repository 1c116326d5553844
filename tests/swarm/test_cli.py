"""The command line on the real swarm, typed as somebody would who has just installed it."""

from __future__ import annotations

import contextlib
import os
import pty
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from funker.backends.swarm.attached import RELAY_LABEL

pytestmark = pytest.mark.swarm

FUNKER = Path(sys.executable).with_name("funker")

ACTS = """\
import os
import sys
import time


def handle(act="add", **given):
    print("this is", act, flush=True)
    match act:
        case "add":
            return given["x"] + given["y"]
        case "raise":
            raise ValueError("too big")
        case "sleep":
            print("asleep with", given.get("teddy"), flush=True)
            time.sleep(60)
        case "variables":
            return {name: os.environ.get(name) for name in given["names"]}
"""


class Acts:
    """A function that does what its argument `act` says, deployed once for this module."""

    def __init__(self, name: str, funker: Any, engine: docker.DockerClient) -> None:
        self.name = name
        self._funker = funker
        self._engine = engine

    def __call__(self, *words: str, **options: Any) -> Any:
        """Types `funker call NAME WORDS` and waits for its end."""
        return self._funker("call", self.name, *words, **options)

    def asleep(self) -> tuple[subprocess.Popen[bytes], str]:
        """Types a call that sleeps, and comes back with the container in which it does."""
        teddy = secrets.token_hex(4)
        process = subprocess.Popen(
            [FUNKER, "call", self.name, "act=sleep", f'teddy="{teddy}"'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with subprocess.Popen(
            [FUNKER, "logs", self.name, "--follow", "--since", "10s"], stdout=subprocess.PIPE
        ) as log:
            assert log.stdout is not None
            too_late = threading.Timer(60, log.kill)
            too_late.start()
            line = next(line.decode() for line in log.stdout if teddy.encode() in line)
            log.terminate()
            too_late.cancel()
        assert log.returncode == 130
        slot = line.partition("@")[0].partition(".")[2].partition(".")[0]
        (container,) = self._engine.containers.list(filters={"name": f"{self.name}.{slot}."})
        return process, container.id


@pytest.fixture(scope="module")
def acts(
    funker: Any, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Acts]:
    name = f"acts-{secrets.token_hex(3)}"
    directory = tmp_path_factory.mktemp("functions") / name
    directory.mkdir()
    (directory / "handler.py").write_text(ACTS)
    (directory / "variables.env").write_text("# of a file\nCOLOUR=red\nSHAPE=round\n")
    deployed = funker.ok(
        *("deploy", directory, "--replicas", "2", "--timeout", "30s", "--label", "team=tests"),
        *("--env-file", directory / "variables.env", "-e", "COLOUR=blue", "-e", "INHERITED"),
        env={"INHERITED": "yes"},
    )
    assert deployed.stdout == f"{name}\n"
    yield Acts(name, funker, engine)
    funker.ok("rm", name, "-y")
    for image in engine.images.list(f"funker/{name}"):
        engine.images.remove(image.id, force=True)


def test_the_first_ten_minutes(funker, name, tmp_path):
    made = funker.ok("new", name, cwd=tmp_path)
    deploy, call = [line.split()[1:] for line in made.stderr.splitlines()[1:]]

    deployed = funker.ok(*deploy, cwd=tmp_path)
    assert deployed.stdout == f"{name}\n"
    assert f"{name} created: 1 replica of funker/{name}:" in deployed.stderr
    assert f"  funker call {name}\n" in deployed.stderr
    assert f'funker.call("{name}")' in deployed.stderr

    assert funker.ok(*call).stdout == "Hello, Ada!"
    assert funker.ok("call", name).stdout == "Hello, world!"

    header, *rows = funker.ok("ls").stdout.splitlines()
    assert header.split()[:2] == ["NAME", "REPLICAS"]
    assert [name] == [row.split()[0] for row in rows if row.startswith(name)]
    assert name in funker.ok("ls", "-q").stdout.splitlines()
    (listed,) = [item for item in funker.ok("ls", "--json").json if item["name"] == name]
    assert listed["wanted"] == 1

    (shown,) = funker.ok("inspect", name).json
    assert shown["name"] == name

    again = funker.ok(*deploy, cwd=tmp_path)
    assert f"{name} unchanged" in again.stderr

    assert funker.ok("rm", name, "-y").stdout == f"{name}\n"
    gone = funker("call", name)
    assert (gone.code, gone.stdout) == (127, "")
    assert gone.stderr.startswith("error: function_not_found: ")


def test_a_call_prints_the_answer_and_nothing_else(acts):
    finished = acts("x=1", "y=2")
    assert (finished.code, finished.stdout, finished.stderr) == (0, "3\n", "")


def test_a_pipe_carries_the_body(acts):
    assert acts(stdin=b'{"x": 20, "y": 22}').stdout == "42\n"


def test_variables_come_from_files_and_flags_and_the_flags_win(acts):
    answer = acts("act=variables", 'names=["COLOUR", "SHAPE", "INHERITED"]').json
    assert answer == {"COLOUR": "blue", "SHAPE": "round", "INHERITED": "yes"}


def test_a_misspelled_function_is_corrected(acts):
    finished = acts._funker("call", acts.name.replace("acts", "actss"), "x=1")
    assert finished.code == 127
    assert finished.stderr.splitlines()[1] == f"hint: Did you mean {acts.name}?"


def test_a_handler_that_raised_is_shown_with_its_traceback_output_and_replica(acts):
    finished = acts("act=raise")
    assert (finished.code, finished.stdout) == (1, "")
    lines = finished.stderr.splitlines()
    assert lines[0] == "error: function_error: ValueError: too big"
    assert lines[1].startswith(f"  replica: {acts.name}.")
    assert '    File "/app/handler.py", line 12, in handle' in lines
    assert "  this is raise" in lines


def test_a_time_out_ends_the_call_with_its_own_exit_code(acts):
    finished = acts("act=sleep", "--timeout", "0.5")
    assert finished.code == 124
    assert finished.stderr.startswith("error: function_timeout: ")


def test_a_container_killed_in_mid_call_is_lost_and_the_next_call_is_served(acts, engine):
    process, container = acts.asleep()
    engine.containers.get(container).kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 125
    assert err.decode().startswith("error: replica_lost: ")
    assert acts("x=1", "y=2").stdout == "3\n"


def test_ctrl_c_cancels_the_call_and_leaves_no_relay(acts, engine):
    def relays():
        return set(engine.containers.list(filters={"label": RELAY_LABEL}, ignore_removed=True))

    others = relays()
    process, container = acts.asleep()
    sleeper = engine.containers.get(container)
    ours = relays() - others
    assert ours
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert sleeper.wait(timeout=30)["StatusCode"] == 0  # else it would sleep until its time-out
    for relay in ours:
        with contextlib.suppress(docker.errors.NotFound):  # it is gone already
            relay.wait(condition="removed", timeout=60)


def test_many_calls_give_their_figures(acts):
    finished = acts("x=1", "y=2", "--repeat", "6", "--concurrency", "2", "-o", "json")
    assert finished.code == 0, finished
    assert set(finished.json) == {
        *("ok", "errors", "calls_per_s"),
        *("p50_ms", "p90_ms", "p99_ms", "max_ms"),
    }
    assert (finished.json["ok"], finished.json["errors"]) == (6, {})

    finished = acts("act=raise", "--repeat", "2", "-o", "json")
    assert finished.code == 1
    assert (finished.json["ok"], finished.json["errors"]) == (0, {"function_error": 2})


def test_tab_completes_the_names_of_functions(acts, funker):
    words = f"funker call {acts.name[:-2]}"
    tab = {"_FUNKER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
    assert funker(env=tab).stdout.split() == [acts.name]


def test_logs_show_what_replicas_wrote(acts):
    acts("act=raise")
    logged = acts._funker.ok("logs", acts.name, "--tail", "50", "-t")
    line = next(line for line in logged.stdout.splitlines() if line.endswith("| this is raise"))
    assert f"{acts.name}." in line
    assert line[:4].isdigit()
    assert "ValueError: too big" in logged.stderr


def test_an_image_that_exists_is_deployed_by_its_name(acts, funker, name):
    (shown,) = [item for item in funker.ok("ls", "--json").json if item["name"] == acts.name]
    image = shown["image"]
    deployed = funker.ok("deploy", "--image", image, name, "--json")
    assert (deployed.json["name"], deployed.json["outcome"]) == (name, "created")
    assert funker.ok("call", name, "x=2", "y=2").stdout == "4\n"

    missing = funker("deploy", "--image", f"funker/{name}:none", name)
    assert missing.code == 125
    assert f"no image funker/{name}:none" in missing.stderr.splitlines()[0]


def test_a_handler_that_can_t_be_imported_fails_the_deploy_with_its_traceback(
    funker, write_function, name
):
    directory = write_function("import no_such_module\n\ndef handle(): ...\n", name=name)
    finished = funker("deploy", directory)
    assert finished.code == 1, finished
    assert "No module named 'no_such_module'" in finished.stderr
    assert finished.stdout == ""


def test_a_build_that_fails_shows_the_step_and_its_output(funker, write_function, name):
    directory = write_function(
        "def handle(): ...\n", name=name, files={"Dockerfile": "FROM funker-python\nRUN exit 7\n"}
    )
    finished = funker("build", directory)
    assert finished.code == 1, finished
    assert "exit 7" in finished.stderr


def test_nothing_is_removed_without_a_yes(acts, funker):
    refused = funker("rm", acts.name)
    assert refused.code == 2
    assert "Confirm with -y" in refused.stderr

    misspelled = funker("rm", acts.name, f"{acts.name}x", "-y")
    assert misspelled.code == 127

    def answered(answer: bytes) -> int:
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "r+b", buffering=0) as person:
            process = subprocess.Popen(
                [FUNKER, "rm", acts.name], stdin=theirs, stdout=theirs, stderr=theirs
            )
            os.close(theirs)
            asked = b""
            while b"[y/N]" not in asked:
                asked += person.read(1024)
            person.write(answer)
            return process.wait(timeout=60)

    assert answered(b"n\n") == 2
    assert answered(b"\n") == 2
    assert acts("x=1", "y=1").stdout == "2\n"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["call", "--context", "no-such"], 2, "funker call: missing argument"),
        (["ls", "--context", "no-such"], 125, "no-such"),
        (["deploy"], 2, "what to deploy is missing"),
        (["deploy", "./no-such-directory"], 2, "no such directory"),
    ],
)
def test_mistakes_are_one_line(funker, words, code, error):
    finished = funker(*words)
    assert (finished.code, finished.stdout) == (code, "")
    assert error in finished.stderr.splitlines()[0]
    assert len(finished.stderr.splitlines()) <= 2


def test_without_an_engine_deploy_says_so_before_it_builds(funker, write_function, tmp_path):
    directory = write_function("def handle(): ...\n")
    finished = funker("deploy", directory, env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert finished.code == 125
    assert [line.partition(":")[0] for line in finished.stderr.splitlines()] == ["error", "hint"]
