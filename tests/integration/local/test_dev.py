"""`funker dev`: whatever is saved serves at once, unless it is broken."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest


def _handler(answer: object) -> str:
    return f"def handle():\n    print('called')\n    return {answer!r}\n"


@pytest.fixture
def source(command: Any) -> Path:
    place: Path = command.write(_handler(1), "word")
    (place / ".dockerignore").write_text("notes.txt\n")
    return place


def test_an_edit_serves_and_a_broken_one_leaves_the_last_good_version(command, source):
    process = command.start("dev", source)
    handler = source / "handler.py"
    assert command.call("word").stdout == "1\n"

    handler.write_text(_handler(2))
    command.told("word is up again")
    assert command.call("word").stdout == "2\n"

    handler.write_text("def handle(:\n")
    command.told(f"error: {handler}:1:12: invalid syntax", "its last good version serves")
    assert command.call("word").stdout == "2\n"

    handler.write_text("import nothing_of_this_name\n" + _handler(3))
    command.told("No module named 'nothing_of_this_name'")
    command.told("its last good version serves", times=2)
    assert command.call("word").stdout == "2\n"

    handler.write_text(_handler(4))
    command.told("word is up again", times=2)
    assert command.call("word").stdout == "4\n"

    command.told("of word: ok on word.1", times=5)
    process.send_signal(signal.SIGINT)
    assert command.ended(process) == 130
    assert command.stdout == "word.1    | called\n" * 5
    assert not [line for line in command.stderr.splitlines() if line.startswith("warning")]


def test_what_is_ignored_changes_nothing(command, source):
    process = command.start("dev", source)

    (source / "notes.txt").write_text("x")
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "handler.pyc").write_text("x")
    (source / "handler.py").touch()
    (source / "data.txt").write_text("counts")

    command.told("word is up again")  # changes of one moment are one
    process.send_signal(signal.SIGTERM)
    assert command.ended(process) == 130
    assert command.stderr.count("word is up again") == 1


def test_a_source_that_is_broken_from_the_start_serves_once_it_is_mended(command):
    source = command.write("def handle(:\n", "word")
    process = command.spawn("dev", source)
    command.told("nothing serves yet; waiting for a change")

    (source / "handler.py").write_text(_handler(1))

    command.told("Call it", "in Python")
    assert command.call("word").stdout == "1\n"
    process.send_signal(signal.SIGINT)
    assert command.ended(process) == 130


def test_one_file_is_watched_though_editors_replace_it(command):
    file = command.write(_handler(1), file="one.py") / "one.py"
    process = command.start("dev", file)

    draft = file.with_name("one.py.tmp")
    draft.write_text(_handler(2))
    draft.replace(file)

    command.told("one is up again")
    assert command.call("one").stdout == "2\n"
    process.send_signal(signal.SIGINT)
    assert command.ended(process) == 130


def test_it_joins_the_controller_in_the_background_and_leaves_it_as_it_was(command, source):
    assert command.run("up", "--backend", "local").returncode == 0
    try:
        process = command.start("dev", source)
        answer = command.run("call", "word")
        taken = command.run("dev", source)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        listed = command.run("ls", "-o", "name")
    finally:
        assert command.run("down", "-y", "--backend", "local").returncode == 0

    assert (answer.stdout, code) == ("1\n", 130), answer.stderr
    assert taken.returncode == 2
    assert taken.stderr.startswith("error: there is a function word already\n")
    assert (listed.returncode, listed.stdout) == (0, "")


def test_a_repository_elsewhere_cannot_be_watched(command):
    done = command.run("dev", "github.com/someone/something")

    assert done.returncode == 2
    assert "nobody edits it here" in done.stderr
