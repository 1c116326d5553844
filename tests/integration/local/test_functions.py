"""Functions on the local backend: deployed, called, listed, scaled and removed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from funker.backends.base import DeployFailed, ImageMissing, NoController, Unsupported
from funker.rpc.errors import FunctionCrashed, FunctionError, FunctionNotFound, InitFailed
from funker.spec import FunctionSpec

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
ADD = """
def handle(x, y):
    return x + y
"""
SLOW = """
import time

def handle(seconds):
    time.sleep(seconds)
    return "done"
"""


def test_a_function_is_deployed_called_scaled_and_removed(up: Any) -> None:
    deployed = up.deploy(ADD, replicas=2)
    assert (deployed.outcome, deployed.replicas, deployed.warnings) == ("created", 2, ())
    assert [up.call(x=number, y=2) for number in range(6)] == [2, 3, 4, 5, 6, 7]
    (listed,) = up.backend.functions()
    assert (listed.name, listed.wanted, listed.image) == ("add", 2, deployed.image)
    up.backend.scale("add", 3)
    assert up.backend.find("add").wanted == 3
    assert len(up.replicas()) == 3
    up.backend.scale("add", 0)
    up.until(lambda: up.replicas() == [], "the end of all replicas")
    up.backend.scale("add", 1)
    assert up.call(x=1, y=2) == 3
    up.backend.remove("add")
    assert up.backend.functions() == []
    with pytest.raises(FunctionNotFound, match='no function "add"'):
        up.backend.find("add")
    assert list(up.state.logs.glob("add*")) == []


def test_each_call_has_a_process_and_a_scratch_directory_of_its_own(up: Any) -> None:
    up.deploy(
        """
        import os, pathlib, tempfile

        def handle():
            pathlib.Path(tempfile.gettempdir(), "mine").touch()
            locked = pathlib.Path.home() / "locked"
            locked.mkdir()
            (locked / "file").touch()
            locked.chmod(0)
            return [os.getpid(), tempfile.gettempdir(), os.listdir(tempfile.gettempdir())]
        """
    )
    first, second = up.call(), up.call()
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert sorted(second[2]) == ["locked", "mine"]
    up.until(lambda: not Path(first[1]).exists(), "the end of the first one's scratch directory")


def test_a_function_gets_its_own_environment_and_none_of_the_users(
    up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.deploy(
        """
        import os

        def handle():
            return dict(os.environ)
        """,
        env={"COLOUR": "blue", "LANG": "xx"},
        timeout="7s",
    )
    environ = up.call()
    assert (environ["COLOUR"], environ["LANG"]) == ("blue", "xx")
    assert (environ["FUNKER_FUNCTION"], environ["FUNKER_TIMEOUT"]) == ("add", "7.0")
    assert "XDG_CACHE_HOME" not in environ
    assert environ["HOME"] == environ["TMPDIR"] != os.environ["HOME"]


def test_a_function_sees_no_library_of_the_command_line(up: Any) -> None:
    up.deploy(
        """
        import importlib.util

        def handle():
            names = ("docker", "pydantic", "pip", "pytest", "funker.cli", "zmq", "funker.rpc")
            return [name for name in names if importlib.util.find_spec(name)]
        """
    )
    assert up.call() == ["zmq", "funker.rpc"]


def test_functions_call_each_other(up: Any) -> None:
    up.deploy(ADD)
    up.deploy(
        """
        import funker

        def handle(x):
            return funker.call("add", x=x, y=x)
        """,
        "double",
    )
    assert up.call("double", x=4) == 8


def test_the_source_may_change_while_its_function_runs(up: Any) -> None:
    up.deploy(ADD)
    place = up.write("def handle(x, y): return x * y")
    assert [up.call(x=3, y=4) for _ in range(3)] == [7, 7, 7]
    assert up.deploy_source(place).outcome == "updated"
    assert [up.call(x=3, y=4) for _ in range(3)] == [12, 12, 12]
    assert up.deploy_source(place).outcome == "unchanged"


def test_what_doesnt_concern_replicas_restarts_none(up: Any) -> None:
    up.deploy(ADD)
    (before,) = up.replicas()
    deployed = up.deploy(ADD, replicas=2, labels={"team": "blue"})
    assert (deployed.outcome, deployed.restarted) == ("updated", False)
    assert before["pid"] in [replica["pid"] for replica in up.replicas()]


def test_no_call_fails_while_a_function_is_updated(up: Any) -> None:
    version = "def handle(): return {}"
    up.deploy(version.format(1), replicas=2)
    answers: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answers.append(up.call())

    thread = threading.Thread(target=call)
    thread.start()
    try:
        up.deploy(version.format(2), replicas=2)
        seen = len(answers)
        up.until(lambda: len(answers) > seen + 3, "more answers")
    finally:
        stop.set()
        thread.join()
    # Slot by slot; but once it is deployed, what comes next is the new version's.
    assert set(answers[: seen + 1]) <= {1, 2}
    assert set(answers[seen + 1 :]) == {2}


def test_a_broken_update_is_undone_and_what_worked_goes_on(up: Any) -> None:
    up.deploy(ADD)
    with pytest.raises(DeployFailed, match="ZeroDivisionError") as failed:
        up.deploy("1 / 0")
    assert 'handler.py", line 1' in failed.value.traceback
    assert failed.value.hint.endswith("The version of add that was deployed before still serves.")
    assert [up.call(x=number, y=1) for number in range(3)] == [1, 2, 3]
    assert up.backend.find("add").warnings == ()


def test_what_works_answers_while_its_broken_update_is_tried(up: Any) -> None:
    up.deploy(ADD)
    place = up.write("import time; time.sleep(2); 1 / 0")
    errors: list[Exception] = []

    def deploy() -> None:
        try:
            up.deploy_source(place)
        except DeployFailed as error:
            errors.append(error)

    thread = threading.Thread(target=deploy)
    thread.start()
    answers = 0
    while thread.is_alive():
        assert up.call(x=answers, y=1) == answers + 1
        answers += 1
    thread.join()
    assert errors
    assert answers > 3


def test_a_new_function_that_cant_be_loaded_stays_and_tells_its_callers(up: Any) -> None:
    with pytest.raises(DeployFailed, match="ModuleNotFoundError"):
        up.deploy("import nowhere")
    with pytest.raises(InitFailed, match="nowhere"):
        up.call(deadline=5)
    assert "nowhere" in up.backend.find("add").warnings[0]
    assert up.deploy(ADD).outcome == "updated"
    assert up.call(x=1, y=2) == 3


def test_errors_of_the_function_are_told_as_from_everywhere(up: Any) -> None:
    up.deploy(
        """
        import os

        def handle(way):
            print("so far", flush=True)
            os._exit(3) if way == "crash" else int(way)
        """
    )
    with pytest.raises(FunctionError, match="ValueError"):
        up.call(way="x")
    with pytest.raises(FunctionCrashed, match="status 3") as crashed:
        up.call(way="crash")
    assert crashed.value.output_tail == "so far\n"


def test_removing_a_function_waits_for_its_call(up: Any) -> None:
    up.deploy(SLOW)
    answer = up.call_later(seconds=1)
    up.until(lambda: _running(up), "the call to run")
    up.backend.remove("add")
    assert answer() == "done"


def test_functions_outlive_their_controller(up: Any) -> None:
    up.deploy(ADD)
    assert up.down()[-1] == "1 function stays: `funker up --backend local` starts them again"
    assert up.is_clear()
    (listed,) = up.backend.functions()
    assert (listed.wanted, listed.running) == (1, 0)
    up.backend.scale("add", 2)
    up.up()
    assert up.call(x=1, y=2) == 3
    up.until(lambda: len(up.replicas()) == 2, "as many replicas as were asked for meanwhile")


def test_going_down_waits_for_calls(up: Any) -> None:
    up.deploy(SLOW)
    answer = up.call_later(seconds=1)
    up.until(lambda: _running(up), "the call to run")
    up.down()
    assert answer() == "done"


def test_without_a_controller_nothing_is_deployed(machine: Any) -> None:
    with pytest.raises(NoController, match="no local controller"):
        machine.deploy(ADD)
    assert machine.backend.functions() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("secrets", [{"source": "key", "target": "key"}]),
        ("configs", [{"source": "key", "target": "/key"}]),
        ("networks", [{"name": "other"}]),
        ("constraints", ["node.role==manager"]),
        ("limit_cpu", 0.5),
        ("limit_memory", "64m"),
        ("reserve_memory", "64m"),
        ("read_only", True),
    ],
)
def test_what_needs_an_engine_is_refused_by_name(machine: Any, field: str, value: object) -> None:
    spec = FunctionSpec(name="add", image="sha256:" + "0" * 64, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=field) as refused:
        machine.backend.deploy(spec)
    assert refused.value.field == field
    assert refused.value.hint


def test_code_that_is_gone_is_told(up: Any) -> None:
    with pytest.raises(ImageMissing) as missing:
        up.backend.deploy(FunctionSpec(name="add", image="sha256:" + "0" * 64))
    assert missing.value.hint == "Deploy it again."


def test_neither_the_backend_nor_its_processes_need_docker(up: Any) -> None:
    code = "import sys, {}; sys.exit(any(name in sys.modules for name in ('docker', 'requests')))"
    for module in ("backend", "agent", "fleet"):
        command = [sys.executable, "-c", code.format(f"funker.backends.local.{module}")]
        assert os.spawnv(os.P_WAIT, sys.executable, command) == 0


def _running(machine: Any) -> bool:
    with machine.backend.controller() as controller:
        return bool(controller.query("status")["functions"]["add"]["busy"])


def test_a_burst_of_calls_is_answered(up: Any) -> None:
    up.deploy(ADD, replicas=4)
    started = time.monotonic()
    waits = [up.call_later(x=number, y=1) for number in range(20)]
    assert [wait() for wait in waits] == list(range(1, 21))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("example", ["add", "program"])
def test_the_examples_of_adding_run(up: Any, example: str) -> None:
    up.deploy_source(EXAMPLES / example, example)
    assert up.call(example, x=1, y=2) == 3


def test_the_examples_of_counting_run(up: Any) -> None:
    up.deploy_source(EXAMPLES / "wordcount", "wordcount", replicas=3)
    up.deploy_source(EXAMPLES / "fanout", "fanout", env={"PARTS": "3"})
    assert up.call("fanout", b"a b\na c\nd a\n")["counts"]["a"] == 3


def test_the_example_of_a_program_runs(up: Any) -> None:
    up.deploy_source(EXAMPLES / "exec-wc", "count")
    assert up.call("count", b"a b\na c\nd a\n") == {"lines": 3, "words": 6, "bytes": 12}


def test_the_command_of_a_dockerfile_is_run(up: Any) -> None:
    source = up.sources / "upper"
    source.mkdir()
    (source / "Dockerfile").write_text("FROM funker-python\nCOPY . .\nCMD tr a-z A-Z < words\n")
    (source / "words").write_text("to be\n")
    up.deploy_source(source, "upper")
    assert up.call("upper") == "TO BE\n"


def test_the_example_with_a_requirement_runs(up: Any) -> None:
    up.deploy_source(EXAMPLES / "thumbnail", "thumbnail")
    png = up.call("thumbnail", (EXAMPLES / "thumbnail" / "picture.jpg").read_bytes())
    assert png[:8] == b"\x89PNG\r\n\x1a\n"


def test_any_program_of_the_user_calls_functions_without_settings(up: Any) -> None:
    up.deploy(ADD)
    done = subprocess.run(
        [sys.executable, "-c", "import funker; print(funker.call('add', x=1, y=2))"],
        env=up.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "3\n"
