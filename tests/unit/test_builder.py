"""What goes to the engine and what it says, as far as that needs no engine."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from hypothesis import given
from hypothesis import strategies as st

import funker
from funker.images.builder import BuildError, build
from funker.images.buildlog import TAIL_LINES, BuildLog
from funker.images.context import write_context
from funker.images.source import SourceFile, select_files
from funker.spec.runtime import runtime_files

WriteFunction = Callable[..., Path]

# The shared layer


def test_the_shared_layer_holds_only_what_a_replica_needs() -> None:
    files = runtime_files()

    assert "funker/__init__.py" in files
    assert "funker/rpc/messages.py" in files
    assert "funker_runtime/__init__.py" in files
    allowed = ("funker/__init__.py", "funker/rpc/", "funker_runtime/")
    assert [path for path in files if not path.startswith(allowed)] == []


def test_a_change_to_the_command_line_rebuilds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runtime_files()
    package = tmp_path / "funker"
    shutil.copytree(Path(funker.__file__).parent, package)
    monkeypatch.setattr(funker, "__file__", str(package / "__init__.py"))
    for path in package.rglob("*.py"):
        inside = path.relative_to(package).as_posix()
        if not inside.startswith("rpc/") and inside != "__init__.py":
            path.write_text("# another version\n")

    assert runtime_files() == before

    (package / "rpc" / "messages.py").write_text("# another version\n")
    assert runtime_files() != before


# Contexts


def archive(files: tuple[SourceFile, ...]) -> bytes:
    target = io.BytesIO()
    write_context(target, {"Dockerfile": b"FROM x"}, [(f"app/{file.path}", file) for file in files])
    return target.getvalue()


def test_a_context_is_the_same_bytes_wherever_and_whenever_it_is_written(
    write_function: WriteFunction,
) -> None:
    contexts = []
    for place, mode in (("a", 0o600), ("b", 0o664)):
        root = write_function("", name=place, files={"lib/x.py": "", "run": "#!"})
        (root / "handler.py").chmod(mode)
        (root / "run").chmod(0o700)
        (root / "link").symlink_to("handler.py")
        os.utime(root / "run", (mode, mode))
        contexts.append(archive(select_files(root)))

    assert contexts[0] == contexts[1]
    with tarfile.open(fileobj=io.BytesIO(contexts[0])) as tar:
        modes = {member.name: member.mode for member in tar if member.isfile()}
        assert tar.getmember("app/link").linkname == "handler.py"
    assert modes["app/handler.py"] == 0o644  # readable by the function's user
    assert modes["app/run"] == 0o755


# Engines that can't be reached


def test_an_engine_that_does_not_answer_is_told_with_the_remedy(
    write_function: WriteFunction,
) -> None:
    directory = write_function("def handle(): ...", name="add")
    # Nothing listens on the port for discarding. (Of a missing socket's file the library leaks
    # the socket.)
    nowhere = DockerClient(base_url="tcp://127.0.0.1:9", version="1.41")

    with closing(nowhere), pytest.raises(BuildError, match="can't build add: ") as caught:
        build(directory, docker=nowhere, progress=lambda _: None)

    assert "DOCKER_HOST" in caught.value.hint


# Build logs


def feed(log: BuildLog, *messages: dict[str, Any]) -> list[str]:
    return [line for message in messages for line in log.feed(message)]


def test_a_failed_step_is_shown_with_its_command_and_the_end_of_its_output() -> None:
    log = BuildLog()
    progress = feed(
        log,
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": " ---> 4821c8aefa7f\n"},
        {"stream": "Step 2/2 : RUN pip install nosuch\n"},
        {"stream": " ---> Running in 0123456789ab\n"},
        {"stream": "\x1b[91mERROR: No match"},
        {"stream": "ing distribution\n\x1b[0m"},
        {"stream": "half\rwhole\r\nlast words"},
        {
            "errorDetail": {"code": 1},
            "error": "The command '/bin/sh -c pip install nosuch' returned a non-zero code: 1",
        },
    )

    assert progress == ["  step 1/2: FROM x", "  step 2/2: RUN pip install nosuch"]
    assert log.failure() == (
        "step 2/2 of the build failed: exit code 1\n"
        "  RUN pip install nosuch\n"
        "  | ERROR: No matching distribution\n"
        "  | whole\n"
        "  | last words"
    )
    assert (log.step, log.command) == ("2/2", "RUN pip install nosuch")


def test_a_failure_that_is_no_exit_code_is_told_in_the_words_of_the_engine() -> None:
    log = BuildLog()
    feed(log, {"stream": "Step 3/3 : COPY a b\n"}, {"error": "COPY failed: no such file\n"})

    assert log.failure().startswith("step 3/3 of the build failed: COPY failed: no such file")


def test_what_needs_buildkit_is_told_with_a_way_out() -> None:
    log = BuildLog()
    feed(log, {"error": "the --mount option requires BuildKit. Refer to the docs"})

    assert "docker build" in log.hint()


@given(st.lists(st.sampled_from(["Step 1/2 : RUN a\n", "out\n", "x" * 50, "\n", "Step 2/2 : b\n"])))
def test_text_means_the_same_in_any_pieces(texts: list[str]) -> None:
    whole, pieces = BuildLog(), BuildLog()
    text = "".join(texts)

    assert feed(whole, {"stream": text}) == feed(pieces, *({"stream": piece} for piece in text))
    assert whole.failure() == pieces.failure()


def test_only_the_end_of_a_long_output_is_kept() -> None:
    log = BuildLog()
    feed(log, {"stream": "".join(f"line {n}\n" for n in range(1000))})

    assert log.tail().splitlines()[0] == f"line {1000 - TAIL_LINES}"
