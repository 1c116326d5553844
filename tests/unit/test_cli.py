"""The command line without an engine: words in, bytes, lines and exit codes out."""

from __future__ import annotations

import json
import os
import threading

import pytest

from funker.backends.base import DeployFailed, EngineUnavailable, LogLine, UnknownContext
from funker.cli import (
    deploy,
    failures,
    functions,
    load,
    logs,
    main,
    output,
    payload,
    signature,
)
from funker.cli.failures import UsageError
from funker.images.source import read_source
from funker.rpc import errors
from funker.spec.values import SpecError

# --- funker call: words and bodies ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["x=1", "y=2"], {"x": 1, "y": 2}),
        (["x=-1.5", "y=1e3"], {"x": -1.5, "y": 1000.0}),
        (["name=Ada"], {"name": "Ada"}),
        (['name="Ada"'], {"name": "Ada"}),
        (['tags=["a", 1, null]'], {"tags": ["a", 1, None]}),
        (["on=true", "off=false", "none=null"], {"on": True, "off": False, "none": None}),
        (["empty="], {"empty": ""}),
        (["sum=a=b"], {"sum": "a=b"}),
        (["word=True"], {"word": "True"}),
        (["number=NaN", "other=Infinity"], {"number": "NaN", "other": "Infinity"}),
        (["zip=01234"], {"zip": "01234"}),
        (["stadt=Zürich"], {"stadt": "Zürich"}),
        (['at="@nobody"'], {"at": "@nobody"}),
    ],
)
def test_a_word_is_json_where_it_parses_and_text_where_not(words, value):
    sent = payload.from_words(words)
    assert json.loads(sent.body) == value
    assert sent.content_type == "application/json"


@pytest.mark.parametrize("word", ["3", "=3", "-"])
def test_a_word_that_is_no_pair_says_how_to_write_one(word):
    with pytest.raises(UsageError, match="is not NAME=VALUE") as caught:
        payload.from_words([word])
    assert "-d" in caught.value.hint


def test_an_argument_given_twice_is_refused():
    with pytest.raises(UsageError, match="'x' was given twice"):
        payload.from_words(["x=1", "x=2"])


def test_a_value_can_come_from_a_file(tmp_path):
    (tmp_path / "notes.txt").write_text("two\nlines\n")
    (tmp_path / "tags.json").write_text('["a"]')
    sent = payload.from_words([f"text=@{tmp_path}/notes.txt", f"tags=@{tmp_path}/tags.json"])
    assert json.loads(sent.body) == {"text": "two\nlines\n", "tags": ["a"]}


def test_a_value_from_a_missing_file_says_how_to_write_an_at_sign():
    with pytest.raises(UsageError, match="can't read 'alice'") as caught:
        payload.from_words(["user=@alice"])
    assert caught.value.hint == """For the text itself: user='"@alice"'"""


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        ("[1, 2]", "application/json"),
        ("3", "application/json"),
        ('{"x": 1}', "application/json"),
        ("hello", "text/plain; charset=utf-8"),
        ("NaN", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
    ],
)
def test_a_body_is_json_where_it_parses_and_text_where_not(data, content_type):
    assert payload.from_data(data) == (data.encode(), content_type)


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("photo.jpg", b"\xff\xd8\xff", "image/jpeg"),
        ("list.json", b"[1]", "application/json"),
        ("number.txt", b"42", "text/plain"),
        ("plain", b"words", "text/plain; charset=utf-8"),
        ("plain-json", b"[1]", "application/json"),
        ("blob", b"\xff\x00", "application/octet-stream"),
        ("words.txt.gz", b"\x1f\x8b", "application/octet-stream"),
    ],
)
def test_a_file_is_typed_by_its_suffix_and_then_by_its_content(
    tmp_path, name, content, content_type
):
    (tmp_path / name).write_bytes(content)
    assert payload.from_data(f"@{tmp_path / name}") == (content, content_type)


def test_a_given_content_type_wins_over_suffix_and_content(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[1]")
    assert payload.from_data(f"@{tmp_path}/a.json", content_type="text/plain") == (
        b"[1]",
        "text/plain",
    )


def test_bytes_of_the_command_line_that_are_no_utf8_arrive_as_they_were():
    assert payload.from_data(os.fsdecode(b"\xff\xfe")).body == b"\xff\xfe"


@pytest.mark.parametrize("header", ["image/png", " image/png", "Content-Type: image/png"])
def test_a_content_type_is_a_bare_type_or_a_header_line(header):
    assert payload.header_type(header) == "image/png"


@pytest.mark.parametrize("header", ["X-Token: a", "png"])
def test_another_header_is_refused(header):
    with pytest.raises(UsageError):
        payload.header_type(header)


@pytest.mark.parametrize(
    ("body", "content_type", "shown"),
    [
        (b'{"a":[1]}', "application/json", '{\n  "a": [\n    1\n  ]\n}\n'),
        (b"3", "application/json", "3\n"),
        ('"ü"'.encode(), "application/json", '"ü"\n'),
        (b"plain", "text/plain", "plain\n"),
        (b"line\n", "text/plain", "line\n"),
        (b"\x89PNG\xff", "image/png", None),
        (b"a\x00b", "application/octet-stream", None),
        (b"", "text/plain", "\n"),
    ],
)
def test_a_terminal_gets_pretty_json_and_no_bytes(body, content_type, shown):
    assert payload.for_terminal(body, content_type) == shown


@pytest.mark.parametrize(
    ("body", "content_type", "piped"),
    [
        (b'{"a":[1]}', "application/json", b'{"a":[1]}\n'),
        (b"plain", "text/plain", b"plain"),
        (b"\x89PNG\xff", "image/png", b"\x89PNG\xff"),
    ],
)
def test_a_pipe_gets_the_bytes_as_they_are(body, content_type, piped):
    assert payload.for_pipe(body, content_type) == piped


def test_an_answer_of_bytes_has_no_json_form():
    with pytest.raises(UsageError, match="4 bytes of image/png"):
        payload.as_value(b"\x89PNG", "image/png")


# --- funker call --repeat ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1.0), (50, 5.0), (90, 9.0), (99, 10.0), (100, 10.0)]
)
def test_percentiles_are_values_that_were_measured(percent, value):
    assert load.percentile([float(n) for n in range(1, 11)], percent) == value


def test_nothing_answered_has_no_percentiles():
    summary = load.summarise([load.Sample(0.1, "queue_full")], elapsed=1)
    assert summary.ok == 0
    assert summary.p50_ms is None
    assert summary.errors == {"queue_full": 1}
    assert summary.calls_per_s == 0


def test_figures_are_of_answered_calls_only():
    samples = [load.Sample(0.010, ""), load.Sample(0.030, ""), load.Sample(9.0, "replica_lost")]
    summary = load.summarise(samples, elapsed=0.5)
    assert summary._asdict() == {
        "ok": 2,
        "errors": {"replica_lost": 1},
        "calls_per_s": 4.0,
        "p50_ms": 10.0,
        "p90_ms": 30.0,
        "p99_ms": 30.0,
        "max_ms": 30.0,
    }


def test_so_many_calls_run_at_once_and_no_more():
    together = threading.Barrier(3)
    samples: list[load.Sample] = []
    load.run(lambda _: together.wait(10), repeat=6, concurrency=3, finished=samples.append)
    assert len(samples) == 6
    assert not any(sample.code for sample in samples)


def test_failed_calls_are_counted_by_their_code():
    def refuse(cancel):
        raise errors.QueueFull("full")

    samples: list[load.Sample] = []
    load.run(refuse, repeat=3, concurrency=2, finished=samples.append)
    assert [sample.code for sample in samples] == ["queue_full"] * 3


def test_what_is_no_outcome_of_a_call_ends_the_run():
    def break_down(cancel):
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable):
        load.run(break_down, repeat=5, concurrency=2, finished=lambda _: None)


def test_an_interrupted_run_cancels_what_is_open():
    ended = []

    def wait(cancel):
        cancel.wait(10)
        ended.append(True)
        raise errors.Cancelled("by us")

    def interrupt(sample):
        raise KeyboardInterrupt

    turns = iter([None])

    def first(cancel):
        return next(turns, wait) and wait(cancel)

    with pytest.raises(KeyboardInterrupt):
        load.run(first, repeat=9, concurrency=3, finished=interrupt)
    assert len(ended) in (2, 3)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FunctionError("x"), 1),
        (errors.FunctionCrashed("x"), 1),
        (errors.InitFailed("x"), 1),
        (errors.Cancelled("x"), 1),
        (DeployFailed("x"), 1),
        (UsageError("x"), 2),
        (SpecError("timeout", "x"), 2),
        (errors.PayloadTooLarge("x"), 2),
        (errors.AmbiguousFunction("x"), 2),
        (errors.Unauthorized("x"), 4),
        (errors.FunctionTimeout("x"), 124),
        (errors.DeadlineExceeded("x"), 124),
        (errors.ReplicaLost("x"), 125),
        (errors.QueueFull("x"), 125),
        (errors.ProtocolError("x"), 125),
        (errors.RouterUnavailable("x"), 125),
        (EngineUnavailable("x"), 125),
        (UnknownContext("x"), 125),
        (errors.FunctionNotFound("x"), 127),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    assert failures.exit_code(error) == code


def test_a_failed_call_shows_code_message_replica_traceback_output_and_hint():
    error = errors.FunctionError(
        "ValueError: too big",
        hint="Send less.",
        replica="add.1",
        traceback="Traceback (most recent call last):\n  ...\nValueError: too big\n",
        output_tail="starting\n",
    )
    assert list(failures.describe(error)) == [
        ("error", "function_error: ValueError: too big"),
        ("detail", "replica: add.1"),
        ("detail", "Traceback (most recent call last):"),
        ("detail", "  ..."),
        ("detail", "ValueError: too big"),
        ("detail", "last output:"),
        ("detail", "starting"),
        ("hint", "Send less."),
    ]


def test_the_first_line_of_an_error_stands_alone():
    lines = list(failures.describe(SpecError("env", "first\nsecond", hint="one\n  two")))
    assert lines == [("error", "env: first"), ("detail", "second"), ("hint", "one two")]


# --- formats -------------------------------------------------------------------------------------


def test_a_table_has_aligned_columns_and_no_trailing_spaces():
    assert output.as_table(["NAME", "REPLICAS"], [["add", "1/1"], ["wordcount", "2/2"]]) == (
        "NAME        REPLICAS\nadd         1/1\nwordcount   2/2\n"
    )


def test_yaml_shows_what_json_shows():
    assert output.as_yaml({"a": [1, None], "b": "x"}) == "a:\n- 1\n- \nb: x\n"
    assert output.as_yaml("text") == "text\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (200, "3m20s"), (18000, "5h"), (187_300, "2d4h")],
)
def test_an_age_has_two_units_at_most(seconds, shown):
    assert output.age(seconds) == shown


def test_a_log_line_looks_like_docker_s():
    line = LogLine(text="hello", stream="stdout", replica="add.1", node="node1", time="T")
    assert logs.one_line(line, timestamps=True) == "T add.1@node1    | hello"
    assert logs.one_line(line, timestamps=False) == "add.1@node1    | hello"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 1000.0), ("1h", -2000.0), ("1500", 1500.0), ("1970-01-01T00:20:00+00:00", 1200.0)],
)
def test_since_is_a_duration_a_number_or_a_date(text, seconds):
    assert logs.moment(text, now=1600.0) == seconds


@pytest.mark.parametrize("text", ["yesterday", "10 minutes", ""])
def test_since_anything_else_is_refused(text):
    with pytest.raises(UsageError, match="is no time"):
        logs.moment(text, now=0)


# --- how to call ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "command", "python"),
    [
        ("def handle(x, y): ...", "f x=... y=...", 'funker.call("f", x=..., y=...)'),
        ("def handle(x, *, y, z=1): ...", "f x=... y=...", 'funker.call("f", x=..., y=...)'),
        ("async def handle(name='a'): ...", "f", 'funker.call("f")'),
        ("def handle(body: bytes): ...", "f -d @FILE", 'funker.function("f")(b"...")'),
        ("def handle(value, /): ...", "f -d @FILE", 'funker.function("f")(b"...")'),
        ("from x import handle", "f x=1 y=2", 'funker.call("f", x=1, y=2)'),
    ],
)
def test_an_example_call_is_read_from_the_handler(tmp_path, source, command, python):
    (tmp_path / "handler.py").write_text(source)
    shown = signature.example("f", read_source(tmp_path, name="f"))
    assert shown == (f"funker call {command}", python)


# --- the program ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hoisted"),
    [
        (["call", "f", "--debug"], ["--debug", "call", "f"]),
        (["call", "f", "--context", "prod", "x=1"], ["--context", "prod", "call", "f", "x=1"]),
        (["ls", "--context=prod"], ["--context=prod", "ls"]),
        (["call", "f", "--", "--debug"], ["call", "f", "--", "--debug"]),
        (["ls", "--context"], ["--context"]),
    ],
)
def test_global_options_may_stand_after_the_command(words, hoisted):
    assert main.hoisted(words) == hoisted


def test_nothing_typed_shows_the_help(typed):
    code, out, err = typed()
    assert code == 0
    assert "Usage: funker" in out
    assert err == ""


def test_the_version_is_one_line(typed):
    assert typed("--version") == (0, "funker 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["depoly"], "no such command: depoly", "Did you mean `funker deploy`?"),
        (["lst"], "no such command: lst", "Did you mean `funker ls`?"),
        (["zzz"], "no such command: zzz", "See `funker --help`."),
        (["--contxt", "a", "ls"], "funker: no such option: --contxt", "Did you mean --context?"),
        (["ls", "--quite"], "funker ls: no such option: --quite", "Did you mean --quiet?"),
        (
            ["deploy", ".", "--replica", "2"],
            "funker deploy: no such option: --replica",
            "Did you mean --replicas?",
        ),
        (
            ["call", "add", "--x=1"],
            "funker call: no such option: --x",
            "To pass it to the function: x=VALUE",
        ),
        (
            ["call"],
            "funker call: missing argument 'NAME'",
            "Usage: funker call [OPTIONS] NAME [X=VALUE]...",
        ),
        (["deploy"], "what to deploy is missing", "Usage: funker deploy SRC [NAME]"),
        (
            ["deploy", "ghcr.io/me/add:1"],
            "no such directory: ghcr.io/me/add:1",
            "To deploy an image that exists: funker deploy --image ghcr.io/me/add:1 NAME",
        ),
        (
            ["deploy", ".", "--image", "a", "b"],
            "'.' and --image exclude each other",
            "With --image only the function's name is given.",
        ),
        (["call", "add", "x=1", "-d", "2"], "'x=1' and -d exclude each other", ""),
        (["call", "add", "1", "2"], "the argument '1' is not NAME=VALUE", ""),
        (["call", "add", "--timeout", "soon"], 'timeout: "soon" is no duration', ""),
        (["call", "add", "--json", "-o", "yaml"], "--json and -o yaml exclude each other", ""),
        (["logs", "add", "--tail", "many"], "--tail: 'many' is no count", ""),
        (["inspect", "add", "-o", "table"], "a table can't hold it", "Use -o json or -o yaml."),
        (["scale"], "funker scale: missing argument 'NAME=N'", ""),
        (["scale", "add"], "'add' says no number of replicas", ""),
        (["scale", "add", "many"], "add: 'many' is no number of replicas", ""),
        (["scale", "add=-1"], "add: '-1' is no number of replicas", ""),
        (["scale", "add=1", "add=2"], "add was given twice", ""),
        (["rebuild"], "which functions is not clear", "Give names, or --all, or --outdated."),
        (["rebuild", "add", "--all"], "which functions is not clear", ""),
        (
            ["calls", "-n", "many"],
            "funker calls: invalid value for '-n' / '--last': Input should be a valid integer",
            "",
        ),
        (
            ["logs", "add", "--call", "a", "-f"],
            "--call and --follow exclude each other",
            "What a call printed is kept whole.",
        ),
        (
            ["call", "add", "--router", "host:port"],
            "--router: 'host:port' has no port number",
            "Write HOST:PORT.",
        ),
        (["calls", "--router", "host:0"], "--router: 'host:0' has no port number", ""),
        (["ls", "--context"], "option '--context' requires an argument", ""),
    ],
)
def test_what_can_t_be_meant_is_one_line_a_hint_and_exit_code_2(typed, words, error, hint):
    code, out, err = typed(*words)
    assert code == 2
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"error: {error}"
    assert len(lines) <= 2
    if hint:
        assert lines[1] == f"hint: {hint}"


def test_a_mistake_in_any_flag_of_deploy_is_found_before_anything_is_built(typed, tmp_path):
    (tmp_path / "handler.py").write_text("def handle(): ...")
    for flag, value in {
        "--limit-memory": "much",
        "--mount": "type=tmpfs",
        "--secret": "target=x",
        "--network": "alias=a",
        "--constraint": "node.role",
        "--label": "=x",
        "--env-file": "missing.env",
        "--timeout": "soon",
        "--replicas": "-1",
    }.items():
        code, _, err = typed("deploy", str(tmp_path), "f", flag, value, "--context", "none-such")
        assert (code, flag.removeprefix("--") in err) == (2, True), err


@pytest.mark.parametrize("target", ["", "deep/er"])
def test_new_makes_a_function_that_works_and_says_what_comes_next(
    typed, tmp_path, monkeypatch, target
):
    directory = tmp_path / target / "hello"
    code, out, err = typed("new", str(directory))
    assert code == 0
    assert out == f"{directory}/handler.py\n"
    assert [line.strip() for line in err.splitlines()] == [
        "Next:",
        f"funker deploy {directory}",
        "funker call hello name=Ada",
    ]
    names: dict[str, object] = {}
    exec((directory / "handler.py").read_text(), names)
    assert names["handle"](name="Ada") == "Hello, Ada!"
    assert signature.example("hello", read_source(directory)).command == "funker call hello"


def test_new_overwrites_nothing(typed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "handler.py").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for taken in ("mine", "file"):
        code, _, err = typed("new", str(tmp_path / taken))
        assert code == 2
        assert "exists" in err
    assert (tmp_path / "mine" / "handler.py").read_text() == "precious"


def test_new_refuses_a_name_that_can_t_be_a_service_s(typed, tmp_path):
    code, _, err = typed("new", str(tmp_path / "My Function"))
    assert code == 2
    assert "`my-function`" in err
    assert not (tmp_path / "My Function").exists()


@pytest.mark.parametrize(
    "words", [["ls"], ["call", "add", "x=1"], ["inspect", "add"], ["logs", "add"], ["rm", "add"]]
)
def test_no_engine_is_one_line_with_a_remedy(funker, tmp_path, words):
    finished = funker(*words, env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert (finished.code, finished.stdout) == (125, "")
    error, hint = finished.stderr.splitlines()
    assert error.startswith("error: can't reach ")
    assert hint.startswith("hint: ")


def test_an_unknown_context_is_an_error_and_no_other_engine(typed, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for words in (["--context", "prod", "ls"], ["ls", "--context", "prod"]):
        code, out, err = typed(*words)
        assert (code, out) == (125, "")
        assert "prod" in err.splitlines()[0]
    monkeypatch.setenv("FUNKER_CONTEXT", "staging")
    assert "staging" in typed("ls")[2]
    assert "prod" in typed("ls", "--context", "prod")[2]


# --- commands on a backend in memory --------------------------------------------------------------


def test_ls_prints_a_table_json_yaml_or_names(typed, memory):
    code, out, err = typed("ls")
    assert (code, err) == (0, "backend: memory (this process)\n")
    header, first, second = out.splitlines()
    assert header.split() == ["NAME", "REPLICAS", "STATUS", "IMAGE", "AGE"]
    assert first.split()[:3] == ["add", "1/1", "ok"]
    assert second.split()[:2] == ["echo", "1/1"]
    assert typed("ls", "-q")[1] == typed("ls", "-o", "name")[1] == "add\necho\n"
    assert [item["name"] for item in json.loads(typed("ls", "--json")[1])] == ["add", "echo"]
    assert typed("ls", "-o", "yaml")[1].startswith("- name: add\n")


def test_the_environment_sets_what_no_flag_says(typed, memory, monkeypatch):
    monkeypatch.setenv("FUNKER_OUTPUT", "name")
    assert typed("ls")[1] == "add\necho\n"
    assert typed("ls", "--output", "json")[1].startswith("[")


def test_inspect_prints_a_list_and_nothing_if_one_is_missing(typed, memory):
    code, out, _ = typed("inspect", "add", "echo")
    assert code == 0
    assert [item["name"] for item in json.loads(out)] == ["add", "echo"]
    assert typed("inspect", "add", "-o", "name")[1] == "add\n"
    code, out, err = typed("inspect", "add", "eco")
    assert (code, out) == (127, "")
    assert err.splitlines()[1] == "hint: Did you mean echo?"


def test_advice_is_shown_once_with_the_lines_to_paste():
    item = {
        "warnings": ["grace is short", "no network"],
        "advice": [
            {"problem": "grace is short", "lines": "a:\n  b: 1", "serious": True},
            {"problem": "no key", "lines": "docker service update add", "serious": False},
        ],
    }
    assert functions.advice_lines(item) == [
        "no network",
        "grace is short; in its stack file:\n    a:\n      b: 1",
        "no key; run:\n    docker service update add",
    ]


def test_rm_removes_all_or_nothing_and_never_without_a_yes(typed, memory):
    assert typed("rm", "add")[0] == 2
    assert typed("rm", "add", "eco", "-y")[0] == 127
    assert [function.name for function in memory.functions()] == ["add", "echo"]
    code, out, _ = typed("rm", "add", "echo", "--yes")
    assert (code, out) == (0, "add\necho\n")
    assert memory.functions() == []


def test_a_call_goes_through_the_backend(typed, memory):
    assert typed("call", "add", "x=1", "y=2") == (0, "3\n", "")
    assert typed("call", "echo", "-d", "text", "-o", "json") == (0, '"text"\n', "")
    code, out, err = typed("call", "add", "x=1", "y=[]")
    assert (code, out) == (1, "")
    assert err.startswith("error: function_error: TypeError: ")
    code, out, _ = typed("call", "add", "x=1", "y=2", "--repeat", "20", "-c", "4", "--json")
    assert code == 0
    assert json.loads(out)["ok"] == 20
    code, _, err = typed("call", "ad", "x=1")
    assert code == 127
    assert err.splitlines()[1] == "hint: Did you mean add?"


def test_the_flags_of_deploy_are_docker_s(typed, memory, tmp_path):
    (tmp_path / "env").write_text("A=file\nB=file\n")
    memory.provide("job", lambda: None)
    image = f"registry:5000/job@sha256:{'ab' * 32}"
    code, out, err = typed(
        *("deploy", "--image", image, "job", "--replicas", "3", "--timeout", "1m30s"),
        *("-e", "B=flag", "--env-file", str(tmp_path / "env"), "-l", "team=blue"),
        *("--secret", "db", "--secret", "source=key,target=tls.key,mode=0400"),
        *("--config", "source=app,target=/etc/app.toml"),
        *("--mount", "type=tmpfs,target=/scratch", "--network", "name=shop,alias=jobs"),
        *("--constraint", "node.labels.disk==ssd", "--limit-cpu", "0.5"),
        *("--limit-memory", "64m", "--reserve-memory", "32m", "--read-only"),
        *("--handler", "app:run", "--max-body", "1m"),
    )
    assert (code, out) == (0, "job\n")
    assert "job created: 3 replicas" in err
    spec = memory.inspect("job")["settings"]
    assert spec["image"] == image
    assert spec["env"] == {"A": "file", "B": "flag"}
    assert (spec["replicas"], spec["timeout"]) == (3, 90.0)
    assert [secret["target"] for secret in spec["secrets"]] == ["db", "tls.key"]
    assert spec["configs"][0]["source"] == "app"
    assert spec["mounts"][0]["target"] == "/scratch"
    assert spec["networks"][0]["aliases"] == ["jobs"]
    assert spec["constraints"] == ["node.labels.disk==ssd"]
    assert (spec["limit_cpu"], spec["limit_memory"], spec["reserve_memory"]) == (
        0.5,
        64 * 1024**2,
        32 * 1024**2,
    )
    assert spec["labels"] == {"team": "blue"}
    assert (spec["read_only"], spec["handler"], spec["max_body"]) == (True, "app:run", 1024**2)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("add", "add"),
        ("ghcr.io/me/add:1.2", "add"),
        ("10.0.0.1:5000/add", "add"),
        (f"ghcr.io/me/add:1@sha256:{'0' * 64}", "add"),
    ],
)
def test_an_image_s_name_suggests_the_function_s(reference, name):
    assert deploy.basename(reference) == name
