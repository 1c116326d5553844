"""What of a source is run: found by its files, or said."""

from __future__ import annotations

from pathlib import Path

import pytest

from funker.images import entry
from funker.images.entry import Entry, SourceError
from funker.images.recipe import (
    own_image_problem,
    own_language,
    plan_function,
    plan_renewed,
    plan_runtime,
)
from funker.images.source import read_source


def find(files: str, **told: str) -> Entry:
    """The entry of a directory with these files; those that end in * are executable."""
    listed = {name.removesuffix("*"): name.endswith("*") for name in files.split()}
    wishes = {"handler": None, "runtime": None, "command": None, **told}
    return entry.find_entry(Path("add"), listed, **wishes)


@pytest.mark.parametrize(
    ("files", "told", "runtime", "file", "command"),
    [
        ("handler.py a.txt", {}, "python", "handler.py", ()),
        ("handler/__init__.py", {}, "python", "handler/__init__.py", ()),
        ("handler.js", {}, "node", "handler.js", ()),
        ("handler.mjs handler.js", {}, "node", "handler.mjs", ()),
        ("handler.py handler.js", {}, "python", "handler.py", ()),
        ("handler.py handler.js", {"runtime": "node"}, "node", "handler.js", ()),
        ("src/app.mjs", {"handler": "src/app:handle"}, "node", "src/app.mjs", ()),
        ("src/app.py", {"handler": "src.app:handle"}, "python", "src/app.py", ()),
        ("handler*", {}, "exec", None, ("./handler",)),
        ("handler* handler.py", {}, "python", "handler.py", ()),
        ("handler* handler.py", {"runtime": "exec"}, "exec", None, ("./handler",)),
        ("run.sh", {"command": "./run.sh 'a b'"}, "exec", None, ("./run.sh", "a b")),
        ("handler.py", {"command": ' ["sh", "-c", "a | b"]'}, "exec", None, ("sh", "-c", "a | b")),
        ("Dockerfile", {}, "python", None, ()),
        ("Dockerfile", {"runtime": "exec"}, "exec", None, ()),
        ("Dockerfile handler.py", {}, "python", "handler.py", ()),
        ("Dockerfile", {"runtime": "node"}, "node", None, ()),
    ],
)
def test_what_is_run_is_found(files, told, runtime, file, command):
    found = find(files, **told)
    assert (found.runtime, found.file, found.command) == (runtime, file, command)


@pytest.mark.parametrize(
    ("files", "told", "problem", "hint"),
    [
        ("a.txt", {"runtime": "exec"}, "which program", "--command"),
        ("handler.py", {"runtime": "node"}, "has no handler.mjs", "exports"),
        ("handler.js", {"runtime": "python"}, "has no handler.py", "Write one"),
        ("handler", {}, "has no handler.py", "chmod"),
        ("handlr.mjs", {}, "has no handler.py", "handlr:handle"),
        ("handler.py", {"runtime": "ruby"}, "no runtime 'ruby'", "python, exec, node"),
        ("handler.py", {"runtime": "node", "command": "ls"}, "exclude each other", ""),
        ("handler.py", {"command": "'oh"}, "--command: ", "JSON"),
        ("handler.py", {"command": ""}, "is no command", "JSON"),
        ("handler.py", {"command": "[1]"}, "is no command", "JSON"),
        ("handler.py", {"command": "[]"}, "is no command", "JSON"),
        ("handler*", {"handler": "handler:handle2"}, "has no handler.py", ""),
    ],
)
def test_what_cannot_be_run_is_told(files, told, problem, hint):
    with pytest.raises(SourceError) as caught:
        find(files, **told)
    assert problem in caught.value.message
    assert hint in caught.value.hint


def test_an_executable_file_is_a_function(tmp_path):
    script = tmp_path / "count.sh"
    script.write_text("#!/bin/sh\nwc")
    with pytest.raises(SourceError, match="nor executable"):
        read_source(script)
    script.chmod(0o755)
    source = read_source(script)
    assert (source.name, source.runtime, source.command) == ("count", "exec", ("./count.sh",))
    assert [(file.path, file.executable) for file in source.files] == [("count.sh", True)]
    assert read_source(script, command="sh count.sh -x").command == ("sh", "count.sh", "-x")


# Images

RUNTIME = plan_runtime(base_id="sha256:aa", platform="linux/amd64", runtime={"a.py": b""})


def test_a_program_is_its_image_s_command_and_nothing_of_it_is_python(tmp_path):
    (tmp_path / "run").write_text("#!/bin/sh\nwc")
    source = read_source(tmp_path, name="count", command="./run -w")
    plan = plan_function(source, RUNTIME)
    assert plan.recipe.splitlines()[-2:] == ['CMD ["./run", "-w"]', "USER 10001:10001"]
    assert "compileall" not in plan.recipe
    assert plan.labels["funker.language"] == "exec"
    other = plan_function(read_source(tmp_path, name="count", command="./run -l"), RUNTIME)
    assert other.tag != plan.tag


@pytest.mark.parametrize(
    ("files", "told", "cmd", "problem", "language"),
    [
        (("Dockerfile",), {}, ["./run"], None, "exec"),
        (("Dockerfile",), {}, None, None, "python"),
        (("Dockerfile",), {"runtime": "exec"}, None, "says no program", None),
        (("Dockerfile",), {"command": "./run"}, None, None, "exec"),
        (("Dockerfile", "handler.py"), {}, ["./run"], "would be run, not handler.py", None),
        (("Dockerfile", "handler.py"), {"runtime": "exec"}, ["./run"], None, "exec"),
        (("Dockerfile", "handler.py"), {}, None, None, "python"),
    ],
)
def test_the_command_of_a_user_s_dockerfile_is_a_program(
    tmp_path, files, told, cmd, problem, language
):
    for file in files:
        (tmp_path / file).touch()
    source = read_source(tmp_path, name="f", **told)
    entrypoint = ["/usr/bin/tini", "--", "python3", "-m", "funker_runtime"]
    config = {"Labels": dict(RUNTIME.labels), "Entrypoint": entrypoint, "Cmd": cmd}
    found = own_image_problem(config, RUNTIME, source)
    assert (found is None) if problem is None else (found is not None and problem in found[0])
    if language:
        assert own_language(config, source) == {"funker.language": language}


NODE = plan_runtime(
    base_id="sha256:aa", platform="linux/amd64", runtime={"main.js": b""}, language="node"
)


def test_a_function_in_javascript_is_built_on_a_layer_of_its_own(tmp_path):
    (tmp_path / "handler.mjs").write_text("export const handle = () => 1")
    (tmp_path / "package.json").write_text('{"dependencies": {"a": "1"}}')
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "a.js").touch()
    source = read_source(tmp_path, name="f")
    plan = plan_function(source, NODE)
    lines = plan.recipe.splitlines()
    assert lines[:2] == [f"FROM {NODE.tag}", "COPY app/package.json /app/"]
    assert "npm install" in lines[2]
    assert lines[3:] == [
        "COPY app/ /app/",
        "RUN node --check /app/handler.mjs",
        "USER 10001:10001",
    ]
    assert [file.path for file in source.files] == ["handler.mjs", "package.json"]
    assert (NODE.alias, RUNTIME.alias) == ("funker-node", "funker-python")
    assert plan.labels["funker.language"] == "node"
    (tmp_path / "package-lock.json").touch()
    locked = plan_function(read_source(tmp_path, name="f"), NODE).recipe
    assert "COPY app/package.json app/package-lock.json /app/\n" in locked
    assert "npm ci" in locked


def test_a_package_json_that_asks_for_nothing_installs_nothing(tmp_path):
    (tmp_path / "handler.js").touch()
    for text in ('{"type": "module"}', "[]", '{"dependencies": {}}'):
        (tmp_path / "package.json").write_text(text)
        assert read_source(tmp_path, name="f").npm == ()
    (tmp_path / "package.json").write_text("{")
    with pytest.raises(SourceError, match=r"package\.json: "):
        read_source(tmp_path, name="f")


def test_a_javascript_file_alone_is_a_function(tmp_path):
    (tmp_path / "greet.mjs").touch()
    source = read_source(tmp_path / "greet.mjs", handler="greet:hello")
    assert (source.name, source.runtime) == ("greet", "node")
    assert (source.handler, source.handler_file) == ("handler:hello", "handler.mjs")


def test_a_user_s_dockerfile_with_javascript_has_no_command(tmp_path):
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "handler.js").touch()
    source = read_source(tmp_path, name="f")
    entrypoint = ["/usr/bin/tini", "--", "node", "/opt/funker-node/main.js"]
    config = {"Labels": dict(NODE.labels), "Entrypoint": entrypoint, "Cmd": None}
    assert own_image_problem(config, NODE, source) is None
    assert own_language(config, source) == {"funker.language": "node"}
    problem = own_image_problem({**config, "Cmd": ["x"]}, NODE, source)
    assert problem is not None
    assert "would have no effect" in problem[0]


def test_a_renewed_image_gets_the_files_of_its_language():
    for language, place in (("python", "/opt/funker/"), ("node", "/opt/funker-node/")):
        plan = plan_renewed("f", image_id="sha256:aa", user="1", version="v2", language=language)
        assert f"COPY runtime/ {place}\n" in plan.recipe
