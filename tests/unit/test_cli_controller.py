"""Commands that show and change live state: ls, inspect, calls, logs --call, scale, rebuild."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from typing import Any

import pytest

from funker.backends.base import BackendError, ControlPlane, LogLine, Prepared
from funker.cli import calls, live, output, scale
from funker.cli.failures import UsageError
from funker.cli.live import Live
from funker.rpc.errors import FunctionNotFound, RouterUnavailable
from funker.spec import runtime

#: What `ls` tells people beside the table.
BACKEND = "backend: memory (this process)\n"
ID = "0123456789abcdef0123456789abcdef"
OTHER = "0123456789ab00000000000000000000"


def record(**fields: Any) -> dict[str, Any]:
    about = {"id": ID, "function": "add", "outcome": "ok", "replica": "add.1.task", "at": 0.0}
    times = {"queue_ms": 0, "start_ms": 3, "run_ms": 1500, "attempt": 1}
    return {**about, **times, "message": "", "output": "", **fields}


class Told:
    """A controller that says what it is told to."""

    def __init__(self, status: Any = None, records: Any = ()) -> None:
        self.status = status
        self.records = list(records)

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        if isinstance(self.status, Exception):
            raise self.status
        match what:
            case "status":
                return self.status
            case "calls":
                return [r for r in self.records if function in ("", r["function"])][: limit or None]
            case _:
                return next((r for r in self.records if r["id"] == id), None)


@pytest.fixture
def tell(memory, monkeypatch):
    """Has the controller say this of its functions, or of calls."""

    def tell(functions: Any = None, *, records: Any = (), **about: Any) -> None:
        status = functions
        if not isinstance(functions, Exception):
            status = {"epoch": "e", "uptime_s": 99.0, "functions": functions or {}} | about
        told = Told(status, records)
        monkeypatch.setattr(memory, "controller", lambda: contextlib.nullcontext(told))

    return tell


@pytest.fixture
def up(memory):
    """The backend in memory with its controller."""
    memory.up(ControlPlane())
    return memory


# --- ls ------------------------------------------------------------------------------------------


def test_ls_shows_live_state_where_a_controller_is_up(typed, up):
    typed("call", "add", "x=1", "y=2")
    typed("call", "add", "x=1")
    code, out, err = typed("ls")
    assert (code, err) == (0, BACKEND)
    header, add, echo = (line.split() for line in out.splitlines())
    live = "WARM BUSY STARTING QUEUED RATE CALLS ERRORS"
    assert header == f"NAME REPLICAS {live} STATUS IMAGE AGE".split()
    assert add[:10] == ["add", "1/1", "1", "0", "0", "0", "0", "2", "1", "ok"]
    assert echo[:10] == ["echo", "1/1", "1", "0", "0", "0", "0", "0", "0", "ok"]
    (added, _) = json.loads(typed("ls", "--json")[1])
    assert (added["free"], added["calls"], added["errors"]) == (1, 2, 1)
    assert (added["routed"], added["failing"], added["outdated"]) == (True, None, False)


def test_ls_without_a_controller_says_nothing_of_it(typed, memory):
    code, out, err = typed("ls")
    assert (code, err) == (0, BACKEND)
    assert "WARM" not in out
    (added, _) = json.loads(typed("ls", "--json")[1])
    assert (added["calls"], added["routed"], added["running"]) == (None, None, 1)


def test_ls_marks_what_needs_attention_and_warns_once(typed, tell):
    tell(
        {
            "add": {
                "queued": 7,
                "failing": "ModuleNotFoundError: No module named 'a_module_with_a_long_name'\nmore",
                "replicas": [],
            },
            "echo": {
                "routed": False,
                "problem": "its grace is short",
                "replicas": [],
            },
        }
    )
    code, out, err = typed("ls")
    assert code == 0
    _, add, echo = out.splitlines()
    assert "7" in add.split()
    assert "failing: ModuleNotFoundError: No module named 'a…   " in add
    assert "direct" in echo.split()
    assert err.splitlines() == [
        BACKEND.strip(),
        "warning: echo: its grace is short",
        (
            "warning: echo: it doesn't join the controller, so calls go to it directly; "
            "`funker inspect echo` says more"
        ),
    ]


def test_ls_tells_how_a_function_scales(typed, memory, tell):
    typed("deploy", "--image", "add:1", "add")
    typed("scale", "add=3")
    told = "the engine starts no more than 3.5 replicas a second: see `--isolation process`"
    scaling = {"min": 1, "max": 20, "wanted": 3, "reason": "load 2.1", "saturated": told}
    state = {"free": 1, "busy": 2, "starting": 4, "arrivals": 2.51, "scaling": scaling}
    tell({"add": state | {"service_s": 0.5, "recycle_s": 0.3}, "echo": {}})
    _, out, err = typed("ls")
    header, add, _ = (line.split() for line in out.splitlines())
    assert dict(zip(header[:7], add, strict=False)) == {
        "NAME": "add",
        "REPLICAS": "3/3",
        "WARM": "1",
        "BUSY": "2",
        "STARTING": "4",
        "QUEUED": "-",
        "RATE": "2.5/s",
    }
    assert "saturated, pinned" in out
    assert f"warning: add: saturated: {told}" in err
    (shown, echo) = json.loads(typed("ls", "--json")[1])
    assert (shown["arrivals"], shown["service_s"], shown["recycle_s"]) == (2.51, 0.5, 0.3)
    assert (shown["scaling"], shown["scale"]["max"], shown["pinned"]) == (scaling, 20, True)
    assert (echo["arrivals"], echo["scale"], echo["pinned"]) == (None, None, False)

    _, out, err = typed("inspect", "add")
    (item,) = json.loads(out)
    assert (item["scale"]["idle"], item["pinned"], item["isolation"]) == (300.0, True, "container")
    assert item["live"]["scaling"]["reason"] == "load 2.1"
    assert f"saturated: {told}" in err


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0, "0"), (0.03, "0.03/s"), (2.51, "2.5/s"), (9.99, "10/s"), (123.4, "123/s")],
)
def test_a_rate_has_two_digits(value, shown):
    assert output.rate(value) == shown


def test_ls_tells_which_functions_have_an_outdated_runtime(typed, tell, monkeypatch):
    monkeypatch.setattr(runtime, "current_version", lambda *_: "new")
    replica = {"replica": "r", "version": "old", "protocol": 1}
    current = replica | {"version": "new"}
    tell({"add": {"replicas": [current, replica]}, "echo": {"replicas": [current]}})
    code, out, err = typed("ls")
    assert code == 0
    assert ["outdated" in line for line in out.splitlines()[1:]] == [True, False]
    warning = "warning: outdated runtime: add; renew with `funker rebuild --outdated`\n"
    assert err == BACKEND + warning
    assert [item["outdated"] for item in json.loads(typed("ls", "--json")[1])] == [True, False]


def test_a_controller_that_doesn_t_answer_is_a_warning(typed, tell):
    tell(RouterUnavailable("no router answers"))
    code, out, err = typed("ls")
    warning = "warning: the controller doesn't answer: no router answers\n"
    assert (code, err) == (0, BACKEND + warning)
    assert out.splitlines()[0].split() == ["NAME", "REPLICAS", "STATUS", "IMAGE", "AGE"]


@pytest.mark.parametrize(
    "words", [["ls", "-q"], ["ls", "-o", "name"], ["inspect", "add", "-oname"]]
)
def test_names_are_had_without_the_controller(typed, memory, monkeypatch, words):
    monkeypatch.setattr(memory, "controller", lambda: pytest.fail("it was asked"))
    assert typed(*words)[1].splitlines()[0] == "add"


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"snapshot_age_s": 2.0}, ""),
        ({"snapshot_age_s": 61.4}, "the reconciler has been silent for 61s"),
        ({"snapshot_age_s": None}, "the reconciler has told the router nothing yet"),
        ({"snapshot_age_s": None, "uptime_s": 1.0}, ""),
        ({}, ""),
    ],
)
def test_a_silent_reconciler_is_a_warning(typed, tell, about, words):
    tell({}, **about)
    _, _, err = typed("ls")
    assert words in err
    assert ("warning" in err) == bool(words)


@pytest.mark.parametrize(
    ("status", "outdated", "words"),
    [
        (None, False, "ok"),
        (None, True, "outdated"),
        ({"failing": "x"}, True, "failing: x, outdated"),
        (
            {"wanted": 1, "running": 0, "problem": "no node", "replicas": []},
            False,
            "failing: no node",
        ),
        ({"wanted": 1, "running": 1, "problem": "grace", "replicas": []}, False, "ok"),
        ({"wanted": 0, "running": 0, "problem": "grace", "replicas": []}, False, "ok"),
        ({"routed": False, "replicas": []}, False, "direct"),
        ({"routed": False, "replicas": [{"replica": "r"}]}, False, "ok"),
    ],
)
def test_the_column_status_has_a_word_for_each_mark(status, outdated, words):
    assert Live(status, outdated).words() == words


@pytest.mark.parametrize(
    ("replicas", "outdated"),
    [
        ([], None),
        ([{"version": "", "protocol": 1}], None),
        ([{"version": "new", "protocol": 1}], False),
        ([{"version": "new", "protocol": 2}], False),
        ([{"version": "", "protocol": 1}, {"version": "old", "protocol": 1}], True),
        ([{"version": "new", "protocol": 0}], True),
    ],
)
def test_replicas_tell_whether_their_runtime_is_outdated(monkeypatch, replicas, outdated):
    monkeypatch.setattr(runtime, "current_version", lambda *_: "new")
    assert live.told_outdated(replicas) is outdated


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_has_what_the_router_knows(typed, up):
    typed("call", "add", "x=1", "y=2")
    code, out, err = typed("inspect", "add")
    assert (code, err) == (0, "")
    (item,) = json.loads(out)
    assert item["settings"]["replicas"] == 1
    assert (item["live"]["calls"], item["live"]["queued"]) == (1, 0)
    (replica,) = item["live"]["replicas"]
    assert (replica["state"], replica["calls"], replica["protocol"]) == ("free", [], 1)
    up.down()
    assert json.loads(typed("inspect", "add")[1])[0]["live"] is None


def test_inspect_warns_of_what_is_wrong(typed, tell, monkeypatch):
    monkeypatch.setattr(runtime, "current_version", lambda *_: "new")
    replica = {"replica": "r", "version": "old", "protocol": 1}
    tell({"add": {"failing": "no module x\nmore", "problem": "short", "replicas": [replica]}})
    code, out, err = typed("inspect", "add")
    assert code == 0
    assert err.splitlines() == [
        "warning: add: it can't serve calls: no module x",
        "warning: add: short",
        "warning: add: its runtime is outdated: `funker rebuild add` renews it",
    ]
    (item,) = json.loads(out)
    assert item["outdated"] is True
    assert len(item["warnings"]) == 3


# --- calls ---------------------------------------------------------------------------------------


def test_calls_lists_the_newest_first(typed, up):
    typed("call", "add", "x=1", "y=2")
    typed("call", "echo", "-d", "x")
    typed("call", "add", "x=1")
    code, out, err = typed("calls")
    assert (code, err) == (0, "")
    header, *rows = (line.split() for line in out.splitlines())
    assert header == ["ID", "FUNCTION", "OUTCOME", "QUEUED", "START", "RUN", "REPLICA", "AGE"]
    assert [row[1:3] for row in rows] == [
        ["add", "function_error"],
        ["echo", "ok"],
        ["add", "ok"],
    ]
    assert [len(row[0]) for row in rows] == [12, 12, 12]
    assert len(typed("calls", "-n", "2")[1].splitlines()) == 3
    assert [row.split()[1] for row in typed("calls", "echo")[1].splitlines()[1:]] == ["echo"]
    listed = json.loads(typed("calls", "add", "--json")[1])
    assert [(len(each["id"]), each["outcome"]) for each in listed] == [
        (32, "function_error"),
        (32, "ok"),
    ]
    assert typed("calls", "add", "-o", "name")[1].split() == [each["id"] for each in listed]
    assert typed("calls", "-o", "yaml")[1].startswith("- id: ")


def test_calls_shows_times_as_people_read_them(typed, tell):
    records = [record(queue_ms=61_000), {"id": OTHER, "function": "add", "outcome": "queued"}]
    tell(records=records)
    _, one, other = typed("calls", "add")[1].splitlines()
    assert one.split()[:7] == ["0123456789ab", "add", "ok", "1m1s", "3ms", "1.5s", "add.1.task"]
    assert other.split() == ["0123456789ab", "add", "queued", "-", "-", "-", "-", "-"]


def test_calls_of_nobody_are_a_header(typed, up):
    assert typed("calls")[1].split()[0] == "ID"
    assert typed("calls", "--json")[:2] == (0, "[]\n")


def test_calls_needs_a_controller_and_a_function_that_exists(typed, memory):
    code, out, err = typed("calls")
    assert (code, out) == (125, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert hint == "hint: `funker up` brings one up."
    memory.up(ControlPlane())
    for words in (["calls", "ad"], ["logs", "ad", "--call", "a"]):
        code, out, err = typed(*words)
        assert (code, out) == (127, "")
        assert err.splitlines()[1] == "hint: Did you mean add?"


# --- logs --call ---------------------------------------------------------------------------------


def test_the_output_of_a_call_outlives_its_replica(typed, tell):
    tell(records=[record(output="one\ntwo\nthree")])
    code, out, err = typed("logs", "add", "--call", ID)
    assert (code, out) == (0, "one\ntwo\nthree\n")
    assert err.startswith(f"call {ID} of add: ok on add.1.task, ")
    assert err.endswith(" ago (queued 0ms, start 3ms, run 1.5s)\n")
    assert typed("logs", "add", "--call", ID, "--tail", "1")[1] == "three\n"
    assert typed("logs", "add", "--call", ID, "--tail", "0")[1] == ""


@pytest.fixture
def log(memory, monkeypatch):
    """What the function's log has."""
    written: list[LogLine] = []
    monkeypatch.setattr(memory, "logs", lambda _, **__: iter(written))
    return written


def printed(text: str, *, call: str = ID, stream: Any = "stdout") -> LogLine:
    return LogLine(text=text, stream=stream, replica="add.1", node="n", time="T", call=call)


def test_what_a_call_printed_is_read_from_the_log_as_long_as_it_is_there(typed, tell, log):
    tell(records=[record(output="the end")])
    log += [printed("one"), printed("other", call=OTHER), printed("two", stream="stderr")]
    code, out, err = typed("logs", "add", "--call", ID)
    assert (code, out) == (0, "one\ntwo\n")
    assert err.startswith(f"call {ID} of add: ok")
    assert typed("logs", "add", "--call", ID, "-n", "1")[1] == "two\n"
    assert [
        json.loads(line) for line in typed("logs", "add", "--call", ID, "--json")[1].split("\n")[:1]
    ] == [
        {
            "time": "T",
            "replica": "add.1",
            "node": "n",
            "call": ID,
            "stream": "stdout",
            "text": "one",
        }
    ]


def test_the_log_knows_calls_that_no_controller_remembers(typed, memory, tell, log):
    log += [printed("one"), printed("other", call=OTHER), printed("loading", call="")]
    assert typed("logs", "add", "--call", ID) == (0, "one\n", "")  # no controller is up
    code, out, err = typed("logs", "add", "--call", "0123")
    assert (code, out) == (2, "")
    assert "0123 fits 2 calls" in err
    tell(records=[])
    assert typed("logs", "add", "--call", OTHER[:14]) == (0, "other\n", "")
    code, out, err = typed("logs", "add", "--call", "abc")
    assert (code, out) == (2, "")
    assert "no call abc of add is remembered" in err


def test_a_failed_call_tells_its_error(typed, up):
    code, _, err = typed("call", "add", "x=1", "y=[]", "-v")
    assert code == 1
    first, *_ = err.splitlines()
    assert first.endswith(" of add")
    id = first.split()[1]
    code, out, err = typed("logs", "add", "--call", id)
    assert (code, out) == (0, "")
    head, message = err.splitlines()
    assert head.startswith(f"call {id} of add: function_error on add.1, 0s ago (queued 0ms")
    assert message.startswith("  TypeError: ")


def test_a_call_that_is_open_is_told_as_such(typed, memory):
    started, release = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        release.wait(10)

    memory.provide("wait", wait)
    memory.deploy(memory_spec("wait"))
    memory.up(ControlPlane())
    caller = threading.Thread(target=memory.call, args=("wait",))
    caller.start()
    try:
        assert started.wait(10)
        (id,) = memory.ledger.running("wait")
        assert typed("logs", "wait", "--call", id) == (
            0,
            "",
            f"call {id} of wait: running on wait.1\n",
        )
    finally:
        release.set()
        caller.join()


def memory_spec(name: str) -> Any:
    from funker.spec import FunctionSpec

    return FunctionSpec(name=name, image="sha256:" + "0" * 64)


def test_the_beginning_of_an_id_will_do_where_it_is_one_call_s(typed, tell):
    tell(records=[record(), record(id=OTHER), record(id="f" * 32, function="echo")])
    assert typed("logs", "add", "--call", "0123456789abc")[2].startswith(f"call {ID} of add: ok")
    assert typed("logs", "add", "--call", "0123456789ABC")[0] == 0
    code, out, err = typed("logs", "add", "--call", "0123")
    assert (code, out) == (2, "")
    assert "0123 fits 2 calls: 0123456789ab, 0123456789ab" in err


@pytest.mark.parametrize(
    ("id", "error", "hint"),
    [
        ("xyz", "--call: 'xyz' is no id of a call", "`funker calls add` lists them."),
        ("a" * 33, f"--call: '{'a' * 33}' is no id of a call", "`funker calls add` lists them."),
        ("abc", "no call abc of add is remembered", "`funker calls add` lists those that are."),
        (
            "f" * 32,
            f"the call {'f' * 32} is one of echo, not of add",
            f"`funker logs echo --call {'f' * 32}`",
        ),
    ],
)
def test_an_id_that_means_no_call_of_the_function_is_told(typed, tell, id, error, hint):
    tell(records=[record(), record(id="f" * 32, function="echo")])
    code, out, err = typed("logs", "add", "--call", id)
    assert (code, out) == (2, "")
    assert err == f"error: {error}\nhint: {hint}\n"


def test_verbose_tells_the_call_s_id_and_who_answered(typed, up):
    code, out, err = typed("call", "add", "x=1", "y=2", "-v")
    (made,) = json.loads(typed("calls", "--json")[1])
    assert (code, out) == (0, "3\n")
    assert err == f"call {made['id']} of add, answered by add.1\n"


@pytest.mark.parametrize(
    ("functions", "name", "full"),
    [
        ({"shop_add": {"names": ["shop_add", "add"]}}, "add", "shop_add"),
        ({"add": {}, "shop_add": {"names": ["add"]}}, "add", "add"),
        ({"add": {}}, "add", "add"),
    ],
)
def test_a_router_tells_which_function_a_name_means(functions, name, full):
    assert calls._full_name({"functions": functions}, name) == full


def test_a_name_that_a_router_doesn_t_know_gets_a_suggestion():
    with pytest.raises(FunctionNotFound) as caught:
        calls._full_name({"functions": {"add": {}}}, "ad")
    assert caught.value.hint == "Did you mean add?"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0ms"),
        (999, "999ms"),
        (1500, "1.5s"),
        (59_949, "59.9s"),
        (200_000, "3m20s"),
    ],
)
def test_times_of_calls_are_short(value, shown):
    assert output.milliseconds(value) == shown


# --- scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["add=3"], [("add", 3)]),
        (["add=3", "echo=0"], [("add", 3), ("echo", 0)]),
        (["add", "3"], [("add", 3)]),
    ],
)
def test_scale_takes_pairs_or_one_name_and_its_number(words, wanted):
    assert scale.pairs(words) == wanted


@pytest.mark.parametrize("words", [["add", "3", "echo"], ["add=3", "echo"], ["=3"], ["add="]])
def test_scale_refuses_anything_else(words):
    with pytest.raises(UsageError):
        scale.pairs(words)


def test_scale_changes_all_or_nothing(typed, memory):
    code, out, err = typed("scale", "add=3", "echo=0")
    assert (code, out) == (0, "add\necho\n")
    assert "add scaled to 3 replicas\n" in err
    assert "echo scaled to 0 replicas\n" in err
    assert [function.wanted for function in memory.functions()] == [3, 0]
    code, out, err = typed("scale", "add=1", "eco=1")
    assert (code, out) == (127, "")
    assert err.splitlines()[1] == "hint: Did you mean echo?"
    assert memory.find("add").wanted == 3
    assert typed("scale", "add", "1")[0] == 0
    assert memory.find("add").wanted == 1


# --- rebuild -------------------------------------------------------------------------------------


@pytest.fixture
def images(memory, monkeypatch):
    """Functions that run images, and what was renewed and pushed for them."""
    from dataclasses import replace

    references = {"add": "sha256:add", "echo": "reg:5000/team/echo:1@sha256:echo"}
    versions = {"sha256:add": "old", "reg:5000/team/echo:1@sha256:echo": "new"}
    stacks = {"add": "", "echo": ""}
    status = memory._status

    def with_image(name: str) -> Any:
        found = status(name)
        return replace(found, reference=references.get(name, ""), stack=stacks.get(name, ""))

    def renewed(function: Any, *, registry: Any = None, progress: Any) -> Prepared | None:
        progress(f"building {function.name}")
        version = versions[function.reference]
        if isinstance(version, Exception):
            raise version
        if version == "new":
            return None
        image = f"{registry}/{function.name}@sha256:pushed" if registry else "sha256:new"
        return Prepared(image=image, image_name=f"funker/{function.name}:1")

    monkeypatch.setattr(memory, "_status", with_image)
    monkeypatch.setattr(runtime, "current_version", lambda *_: "new")
    monkeypatch.setattr(memory, "image_version", versions.get)
    monkeypatch.setattr(memory, "renew", renewed)
    return versions, stacks


def test_rebuild_gives_a_function_a_renewed_image(typed, memory, images):
    code, out, err = typed("rebuild", "add", "echo")
    assert (code, out) == (0, "add\n")
    assert "add updated: funker/add:1\n" in err
    assert "echo has the current runtime\n" in err
    assert memory.inspect("add")["settings"]["image"] == "sha256:new"
    assert memory.inspect("add")["settings"]["image_name"] == "funker/add:1"


def test_rebuild_outdated_takes_those_that_ls_marks(typed, memory, images):
    _, listed, _ = typed("ls")
    assert ["outdated" in line for line in listed.splitlines()[1:]] == [True, False]
    code, out, err = typed("rebuild", "--outdated")
    assert (code, out) == (0, "add\n")
    assert "echo" not in err
    versions, _ = images
    versions["sha256:add"] = "new"
    assert typed("rebuild", "--outdated") == (0, "", "no function is outdated\n")


def test_rebuild_pushes_to_the_registry_that_is_named(typed, memory, images):
    assert typed("rebuild", "add", "--registry", "ghcr.io/me")[0] == 0
    assert memory.inspect("add")["settings"]["image"] == "ghcr.io/me/add@sha256:pushed"


def test_rebuild_of_a_stack_s_function_tells_the_line_for_its_file(typed, memory, images):
    _, stacks = images
    stacks["add"] = "shop"
    code, out, err = typed("rebuild", "add")
    assert (code, out) == (0, "")
    assert err.splitlines()[-4:] == [
        "warning: add belongs to the stack shop; in its stack file:",
        "    services:",
        "      add:",
        "        image: funker/add:1",
    ]
    assert memory.inspect("add")["settings"]["image"] != "sha256:new"


def test_rebuild_goes_on_with_the_others_when_one_fails(typed, memory, images):
    versions, _ = images
    versions["sha256:add"] = BackendError("the engine is tired", hint="Try again.")
    versions["reg:5000/team/echo:1@sha256:echo"] = "old"
    code, out, err = typed("rebuild", "--all")
    assert (code, out) == (125, "echo\n")
    assert "error: the engine is tired\nhint: Try again.\n" in err


def test_rebuild_of_what_runs_no_image_has_nothing_to_do(typed, memory):
    code, out, err = typed("rebuild", "add")
    assert (code, out) == (0, "")
    assert err.startswith("add runs no image: ")
    code, _, err = typed("rebuild", "ad")
    assert code == 127
    assert err.splitlines()[1] == "hint: Did you mean add?"


# --- colours -------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_warnings_are_coloured_on_a_terminal_that_wants_it(
    typed, tell, monkeypatch, no_colour, coloured
):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_colour)
    tell({}, snapshot_age_s=99.0)
    assert typed("ls")[0] == 0
    assert "reconciler has been silent" in screen.getvalue()
    assert ("\x1b[" in screen.getvalue()) is coloured
