"""What is read from a directory or a file, what is left out, and what is refused."""

from __future__ import annotations

import io
import socket
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from funker.images.context import write_context
from funker.images.entry import SourceError
from funker.images.source import (
    SourceFile,
    check_syntax,
    parse_packages,
    read_source,
    select_files,
)
from funker.spec.values import SpecError

HANDLER = "def handle(x, y):\n    return x + y\n"


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def paths(files: tuple[SourceFile, ...]) -> list[str]:
    return [file.path for file in files]


# Sources


def test_a_directory_with_a_handler_is_a_function_named_after_it(tmp_path: Path) -> None:
    source = read_source(write(tmp_path / "add", {"handler.py": HANDLER}))

    assert source.name == "add"
    assert source.handler == "handler:handle"
    assert source.handler_file == "handler.py"
    assert not source.own_dockerfile
    assert not source.requirements


def test_a_relative_path_is_named_after_the_directory_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "add", {"handler.py": HANDLER}))

    assert read_source(".").name == "add"


def test_a_single_file_is_a_function_whatever_it_is_called(tmp_path: Path) -> None:
    write(tmp_path, {"my-json.py": HANDLER})

    source = read_source(tmp_path / "my-json.py", handler="my-json:handle")

    assert source.name == "my-json"
    assert source.handler == "handler:handle"
    assert paths(source.files) == ["handler.py"]


def test_the_handler_of_a_single_file_is_in_that_file(tmp_path: Path) -> None:
    write(tmp_path, {"add.py": HANDLER})

    with pytest.raises(SourceError, match="another module") as caught:
        read_source(tmp_path / "add.py", handler="other:handle")

    assert "add:handle" in caught.value.hint


SCRIPT = f"""\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "six==1.17.0",
#   'tomli; python_version < "3.12"',
# ]
# ///
{HANDLER}"""


def test_a_single_file_names_its_requirements_in_a_comment_block(tmp_path: Path) -> None:
    write(tmp_path, {"add.py": SCRIPT.replace("\n", "\r\n")})

    source = read_source(tmp_path / "add.py")

    assert source.requirements
    assert paths(source.files) == ["handler.py", "requirements.txt"]
    assert source.files[1].read() == b'six==1.17.0\ntomli; python_version < "3.12"\n'
    assert source.files[0].read() == SCRIPT.replace("\n", "\r\n").encode()


def test_requirements_from_a_comment_block_go_into_the_image(tmp_path: Path) -> None:
    write(tmp_path, {"add.py": SCRIPT})
    source = read_source(tmp_path / "add.py")

    with io.BytesIO() as context:
        write_context(context, {}, [(f"app/{file.path}", file) for file in source.files])
        context.seek(0)
        with tarfile.open(fileobj=context) as tar:
            requirements = tar.extractfile("app/requirements.txt")
            assert requirements is not None
            assert requirements.read().startswith(b"six==1.17.0\n")


def test_a_directory_has_a_requirements_file_and_no_comment_block(tmp_path: Path) -> None:
    source = read_source(write(tmp_path, {"handler.py": SCRIPT}), name="add")

    assert not source.requirements
    assert paths(source.files) == ["handler.py"]


@pytest.mark.parametrize("encoded", ["latin-1", "utf-8-sig"])
def test_a_single_file_may_have_any_encoding(tmp_path: Path, encoded: str) -> None:
    write(tmp_path, {"add.py": ("# coding: \xe4\n" + SCRIPT).encode(encoded)})

    assert read_source(tmp_path / "add.py").requirements


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("# dependencies = [\n", "is no TOML"),
        ('# dependencies = "six"\n', "list of strings"),
        ("# dependencies = [1]\n", "list of strings"),
        ('# dependencies = ["--index-url=http://x"]\n', "is no requirement"),
        ('# dependencies = ["six\\n-r /etc/passwd"]\n', "is no requirement"),
        ("# x = 1\n# ///\n\n# /// script\n# x = 1\n", "two blocks"),
    ],
)
def test_a_comment_block_that_cannot_be_read_is_refused(
    tmp_path: Path, block: str, problem: str
) -> None:
    write(tmp_path, {"add.py": f"# /// script\n{block}# ///\n{HANDLER}"})

    with pytest.raises(SourceError, match=rf"add\.py: .*{problem}") as caught:
        read_source(tmp_path / "add.py")

    assert "# /// script" in caught.value.hint


@pytest.mark.parametrize("block", ["# /// script\n# x\n", "# /// other\n# x = 1\n# ///\n", ""])
def test_what_is_no_block_of_ours_is_a_comment(tmp_path: Path, block: str) -> None:
    write(tmp_path, {"add.py": block + HANDLER})

    assert not read_source(tmp_path / "add.py").requirements


@pytest.mark.parametrize(
    ("handler", "file"),
    [
        ("app:main", "app.py"),
        ("jobs.resize:thumb", "jobs/resize.py"),
        ("jobs:Image.thumb", "jobs/__init__.py"),
    ],
)
def test_a_handler_may_live_in_any_module(tmp_path: Path, handler: str, file: str) -> None:
    source = read_source(write(tmp_path, {file: HANDLER}), name="add", handler=handler)

    assert source.handler_file == file


@pytest.mark.parametrize("handler", ["handle", "handler.py:handle:x", "a b:c", "a:", "../a:b"])
def test_a_handler_that_names_no_callable_is_refused(tmp_path: Path, handler: str) -> None:
    write(tmp_path, {"handler.py": HANDLER})

    with pytest.raises(SourceError, match="names no callable"):
        read_source(tmp_path, name="add", handler=handler)


def test_a_missing_directory_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "thumbnail", {"handler.py": HANDLER})

    with pytest.raises(SourceError, match="no such directory") as caught:
        read_source(tmp_path / "thumbnial")

    assert caught.value.hint == f"Did you mean {tmp_path / 'thumbnail'}?"


def test_a_file_that_is_no_python_is_no_source(tmp_path: Path) -> None:
    write(tmp_path, {"add.txt": ""})

    with pytest.raises(SourceError, match="neither a directory nor a Python file"):
        read_source(tmp_path / "add.txt")


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["Handler.py", "other.py"], "Did you mean Handler.py? Rename it, or name the handler"),
        (["handlers.py"], "Did you mean handlers.py? Rename it, or name the handler"),
        (["zip.py"], "If it is in zip.py, name it: zip:CALLABLE."),
        (["README.md"], "Write one with a `def handle(...)`, or a Dockerfile"),
        (["handler.py", ".dockerignore"], "Take the pattern away, or add the line `!handler.py`."),
    ],
)
def test_a_missing_handler_is_told_with_what_may_have_been_meant(
    tmp_path: Path, files: list[str], hint: str
) -> None:
    write(tmp_path, dict.fromkeys(files, "*.py\n" if ".dockerignore" in files else ""))

    with pytest.raises(SourceError, match=r"handler\.py") as caught:
        read_source(tmp_path, name="add")

    assert hint in caught.value.hint


def test_a_name_that_no_service_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="My Function") as caught:
        read_source(write(tmp_path / "My Function", {"handler.py": HANDLER}))

    assert "my-function" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("def handle(x):\n    return (x\n", r"handler\.py:2:12: '\(' was never closed"),
        ("def handle(x):\nreturn x\n", r"handler\.py:2:\d: expected an indented block"),
        ("x = '\xff'", r"handler\.py.*utf-8"),
        ("x = 1\0", r"handler\.py.*null bytes"),
    ],
)
def test_a_handler_that_does_not_compile_is_told_with_its_line(
    tmp_path: Path, code: str, place: str
) -> None:
    write(tmp_path, {"handler.py": code.encode("latin-1")})

    with pytest.raises(SourceError, match=place):
        check_syntax(read_source(tmp_path, name="add"))


def test_a_syntax_error_in_a_single_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, {"add.py": "def"})

    with pytest.raises(SourceError, match=r"add\.py:1:4"):
        check_syntax(read_source(tmp_path / "add.py"))


def test_an_odd_escape_is_no_reason_to_refuse_a_handler(tmp_path: Path) -> None:
    check_syntax(read_source(write(tmp_path, {"handler.py": r'x = "\d"'}), name="add"))


def test_requirements_that_are_not_text_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER, "requirements.txt": b"\xff\xfe"})

    with pytest.raises(SourceError, match=r"requirements\.txt is not UTF-8"):
        read_source(tmp_path, name="add")


def test_requirements_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER})
    (tmp_path / "requirements.txt").symlink_to("nowhere")

    with pytest.raises(SourceError, match=r"can't read .*requirements\.txt: No such file"):
        read_source(tmp_path, name="add")


@pytest.mark.parametrize(
    ("requirements", "more"),
    [
        ("pillow==11\n# -r base.txt\n", False),
        ("six  # see ./docs\n", False),
        ("git+https://example.org/x.git@main\n", False),
        ("-r base.txt\n", True),
        ("six\n--constraint pins.txt\n", True),
        ("./wheels/mine-1.0-py3-none-any.whl\n", True),
        ("-e .\n", True),
        ("mine @ file:wheels/mine.whl\n", True),
    ],
)
def test_requirements_that_point_at_other_files_are_noticed(
    tmp_path: Path, requirements: str, more: bool
) -> None:
    write(tmp_path, {"handler.py": HANDLER, "requirements.txt": requirements})

    assert read_source(tmp_path, name="add").requirements_need_files is more


def test_packages_are_words_with_comments() -> None:
    text = "ffmpeg libpq5=15.6-0+deb12u1\n\n# fonts\nfonts-dejavu:all  # more\n"

    assert parse_packages(text, where="packages.txt") == (
        "ffmpeg",
        "libpq5=15.6-0+deb12u1",
        "fonts-dejavu:all",
    )


@pytest.mark.parametrize("word", ["curl;reboot", "$(id)", "--purge", "Curl", "a`b`"])
def test_what_is_no_package_is_refused_with_its_line(word: str) -> None:
    with pytest.raises(SourceError, match=r"packages\.txt:2: "):
        parse_packages(f"curl\n{word}\n", where="packages.txt")


# Which files belong to a source


def test_dockerignore_and_what_tools_leave_behind_stay_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".dockerignore": "# secrets\n*.key\n\ndata/**\n!data/keep.csv\n",
            "handler.py": HANDLER,
            "server.key": "",
            "data/big.bin": "",
            "data/keep.csv": "",
            "lib/__pycache__/a.cpython-311.pyc": "",
            "lib/a.py": "",
            ".git/HEAD": "",
            ".venv/bin/python": "",
        },
    )

    kept = paths(read_source(tmp_path, name="add").files)

    assert [path for path in kept if "." in path] == ["data/keep.csv", "handler.py", "lib/a.py"]


def test_what_is_left_out_by_default_can_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path, {".dockerignore": "!.git\n", "handler.py": HANDLER, ".git/HEAD": "ref"})

    assert ".git/HEAD" in paths(select_files(tmp_path))


def test_a_dockerfile_of_its_own_is_sent_with_dockerignore_for_the_engine(tmp_path: Path) -> None:
    write(tmp_path, {".dockerignore": "Dockerfile\n", "Dockerfile": "FROM x", "app.py": ""})

    source = read_source(tmp_path, name="add")

    assert source.own_dockerfile
    assert source.handler_file is None
    assert paths(source.files) == [".dockerignore", "Dockerfile", "app.py"]


def test_links_are_kept_and_sockets_are_not(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER})
    (tmp_path / "link").symlink_to("handler.py")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        files = select_files(tmp_path)

    assert [(file.path, file.kind, file.digest) for file in files if file.kind == "link"] == [
        ("link", "link", "handler.py")
    ]
    assert "socket" not in paths(files)
