"""What an image is made of and called: hashes and recipes, from values alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.utils.build import match_tag
from hypothesis import given
from hypothesis import strategies as st

from funker.images import recipe
from funker.images.python import ENTRYPOINT, PYZMQ
from funker.images.recipe import (
    Plan,
    own_image_problem,
    plan_function,
    plan_runtime,
)
from funker.images.source import Source, SourceFile, read_source
from funker.spec.runtime import runtime_version
from funker.spec.values import check_name

HANDLER = "def handle(x, y):\n    return x + y\n"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def runtime(base_id: str = "sha256:aa", platform: str = "linux/amd64", **files: bytes) -> Plan:
    contents = files or {"funker/__init__.py": b""}
    return plan_runtime(base_id=base_id, platform=platform, runtime=contents)


# Hashes

names = st.text("abc./", min_size=1, max_size=6)
entries = st.builds(
    SourceFile,
    path=names,
    kind=st.sampled_from(["file", "directory", "link"]),
    executable=st.booleans(),
    digest=st.text("0123", max_size=3),
    location=st.just(Path("somewhere")),
)
entry_lists = st.lists(entries, max_size=4, unique_by=lambda file: file.path)


def source_of(files: list[SourceFile]) -> Source:
    return Source(
        location=Path("add"),
        name="add",
        handler="handler:handle",
        handler_file="handler.py",
        files=tuple(files),
        packages=(),
        requirements=False,
        requirements_need_files=False,
        own_dockerfile=False,
    )


@given(entry_lists, st.randoms())
def test_the_order_in_which_files_are_found_does_not_matter(files: Any, random: Any) -> None:
    shuffled = random.sample(files, len(files))

    assert plan_function(source_of(files), runtime()) == plan_function(
        source_of(shuffled), runtime()
    )


@given(entry_lists, entry_lists)
def test_different_files_are_different_images(one: Any, other: Any) -> None:
    same = {file.path: file for file in one} == {file.path: file for file in other}

    tags = [plan_function(source_of(files), runtime()).tag for files in (one, other)]

    assert (tags[0] == tags[1]) is same


def tag_of(directory: Path, **options: str) -> str:
    return plan_function(read_source(directory, name="add", **options), runtime()).tag


def test_only_content_and_the_executable_bit_make_a_source_another_one(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER, "run.sh": ""})
    before = tag_of(tmp_path)

    os.utime(tmp_path / "handler.py", (1, 1))
    (tmp_path / "handler.py").chmod(0o600)
    write(tmp_path, {"__pycache__/handler.pyc": "", ".dockerignore": "# nothing\n"})
    assert tag_of(tmp_path) == before

    (tmp_path / "run.sh").chmod(0o755)
    executable = tag_of(tmp_path)
    assert executable != before

    write(tmp_path, {"handler.py": HANDLER + "\n"})
    assert tag_of(tmp_path) not in {before, executable}


def test_another_handler_is_another_image(tmp_path: Path) -> None:
    write(tmp_path, {"handler.py": HANDLER})

    assert tag_of(tmp_path) != tag_of(tmp_path, handler="handler:other")


def test_a_patched_base_another_platform_and_another_runtime_rebuild_the_function() -> None:
    runtimes = [
        runtime(),
        runtime(base_id="sha256:bb"),
        runtime(platform="linux/arm64"),
        plan_runtime(base_id="sha256:aa", platform="linux/amd64", runtime={"funker/a.py": b""}),
    ]

    assert len({plan.tag for plan in runtimes}) == len(runtimes)
    assert len({plan_function(source_of([]), plan).tag for plan in runtimes}) == len(runtimes)


@pytest.mark.parametrize(
    ("environment", "newer"),
    [
        (["PATH=/bin", "PYTHON_VERSION=3.12.7"], True),
        (["PYTHON_VERSION=3.11.9"], False),
        (["PYTHON_VERSION=3.9.1"], False),
        (["PYTHON_VERSION=4.0.0a1"], True),
        ([], False),
    ],
)
def test_syntax_is_not_judged_by_an_older_python(environment: list[str], newer: bool) -> None:
    assert recipe.has_newer_python(environment, ours=(3, 11)) is newer


def test_the_pinned_library_is_the_one_that_the_project_is_tested_with() -> None:
    constraints = Path(__file__).parents[2] / "constraints.txt"

    assert f"pyzmq=={PYZMQ}" in constraints.read_text().split()


@given(st.from_regex(r"[a-z0-9](?:[-_]{0,3}[a-z0-9]){0,15}", fullmatch=True))
def test_every_name_of_a_function_has_an_image(name: str) -> None:
    assert match_tag(f"{recipe.repository(check_name(name))}:{'0' * 12}")


# Recipes


def test_requirements_are_installed_before_the_source_is_copied(tmp_path: Path) -> None:
    files = {"handler.py": HANDLER, "requirements.txt": "six", "packages.txt": "curl jq"}
    text = plan_function(read_source(write(tmp_path, files), name="add"), runtime()).recipe

    steps = [text.index(step) for step in ("curl jq", "-r requirements.txt", "COPY app/ /app/")]
    assert steps == sorted(steps)
    assert text.splitlines()[-1] == "USER 10001:10001"


def test_requirements_that_need_other_files_are_installed_after_them(tmp_path: Path) -> None:
    files = {"handler.py": HANDLER, "requirements.txt": "-r base.txt", "base.txt": "six"}
    text = plan_function(read_source(write(tmp_path, files), name="add"), runtime()).recipe

    assert text.index("COPY app/ /app/") < text.index("-r requirements.txt")


# Versions of the runtime


def test_the_runtime_s_version_is_that_of_its_files_on_any_base() -> None:
    one, other = runtime("sha256:aa", "linux/amd64"), runtime("sha256:bb", "linux/arm64")
    version = runtime_version({"funker/__init__.py": b""})

    assert one.labels["funker.runtime-version"] == version
    assert one.labels["funker.runtime-version"] == other.labels["funker.runtime-version"]
    assert f"ENV FUNKER_VERSION={version}\n" in one.recipe
    assert runtime_version({"funker/__init__.py": b"#"}) != version
    assert runtime_version({"funker/rpc/__init__.py": b""}) != version


def test_a_renewed_image_changes_the_runtime_and_gives_the_user_back() -> None:
    plan = recipe.plan_renewed("shop_add", image_id="sha256:aa", user="33:33", version="v2")
    lines = plan.recipe.splitlines()

    assert lines[:2] == ["FROM sha256:aa", "USER root"]
    assert lines[-2:] == ["ENV FUNKER_VERSION=v2", "USER 33:33"]
    assert plan.tag == f"funker/shop_add:{recipe.renewed_digits('sha256:aa', 'v2')}"
    assert plan.labels == {
        "funker.runtime-version": "v2",
        "funker.renewed-from": "sha256:aa",
    }
    other = recipe.plan_renewed("shop_add", image_id="sha256:aa", user="33:33", version="v3")
    assert other.tag != plan.tag


def test_a_renewed_image_of_root_stays_root_s() -> None:
    plan = recipe.plan_renewed("add", image_id="sha256:aa", user="", version="v2")

    assert plan.recipe.endswith("USER root\n")


def test_labels_tell_how_an_image_came_to_be() -> None:
    plan = plan_function(source_of([]), runtime())

    assert set(plan.labels) == {
        "funker.runtime",
        "funker.runtime-version",
        "funker.base",
        "funker.platform",
        "funker.source",
        "funker.handler",
        "funker.language",
    }
    assert plan.tag == f"funker/add:{plan.labels['funker.source'][:12]}"
    assert 'funker.handler="handler:handle"' in plan.labelled(plan.recipe).splitlines()[-1]


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("", "10001:10001"),
        ("root", "10001:10001"),
        ("0:0", "10001:10001"),
        ("33", "33"),
        ("www-data:www-data", "www-data:www-data"),
    ],
)
def test_a_dockerfile_of_its_own_never_ends_as_root(user: str, owner: str) -> None:
    assert f"USER {owner}\n" in recipe.finish_recipe(user=user)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"Entrypoint": ["/usr/bin/tini", "--", "python3", "add.py"], "Cmd": ["-v"]}, None),
        ({"Labels": None}, "does not hold the runtime"),
        ({"Labels": {"funker.runtime": "old"}}, "does not hold this version"),
        ({"Entrypoint": ["python3", "add.py"]}, 'ENTRYPOINT ["python3", "add.py"] hides'),
        ({"Entrypoint": None}, "ENTRYPOINT [] hides"),
        ({"Cmd": ["python3", "add.py"]}, 'CMD ["python3", "add.py"] would be run, not handler.py'),
    ],
)
def test_an_image_that_cannot_serve_is_told_from_one_that_can(
    changes: dict[str, Any], problem: str | None
) -> None:
    plan = runtime()
    config = {"Labels": dict(plan.labels), "Entrypoint": list(ENTRYPOINT), "Cmd": None} | changes

    found = own_image_problem(config, plan, source_of([]))

    assert found is None if problem is None else found is not None and problem in found[0]
