"""What `import funker` offers, and what it costs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import funker
from funker.rpc import errors

ROOT = Path(__file__).resolve().parent.parent.parent

#: What may be slow to import, or isn't in a caller's image.
HEAVY = ["zmq", "asyncio", "concurrent.futures", "dataclasses", "inspect", "logging", "ctypes",
         "hmac", "pathlib", "subprocess"]  # fmt: skip
NOT_THERE = ["docker", "pydantic", "typer", "rich", "ruamel", "requests"]


def loaded_by(statement: str, names: list[str]) -> list[str]:
    """Which of these modules a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport sys; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env=environ,
        check=True,
        timeout=60,
    )
    found = done.stdout.split()
    return [name for name in names if name in found]


def names_declared_for_type_checkers() -> set[str]:
    """What the `if TYPE_CHECKING` block of funker/__init__.py imports."""
    (block,) = [
        node
        for node in ast.parse(Path(funker.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


def test_every_public_name_is_there_and_comes_from_where_type_checkers_see_it() -> None:
    assert names_declared_for_type_checkers() == set(funker.__all__)
    for name in funker.__all__:
        assert getattr(funker, name).__name__ == name
    assert sorted(funker.__all__) == funker.__all__
    assert {*funker.__all__, "__version__"} == set(dir(funker))


def test_every_error_of_the_protocol_is_public() -> None:
    classes = {cls.__name__ for cls in errors.CODES.values()} | {"CallError", "FunkerError"}
    assert classes <= set(funker.__all__)
    assert funker.FunctionTimeout is errors.FunctionTimeout


def test_a_name_that_isnt_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'funker' has no attribute 'cal'"):
        funker.cal  # type: ignore[attr-defined]  # noqa: B018


def test_public_names_equal_documented_names() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(document.read_text(encoding="utf-8") for document in documents)
    named = set(re.findall(r"\bfunker\.(\w+)", text)) | set(re.findall(r"`(\w+)`", text))
    assert sorted(set(funker.__all__) - named) == [], "public, but not documented"
    # Calls and classes; funker.yaml or a label such as funker.image is neither.
    used = set(re.findall(r"\bfunker\.(\w+)\(", text) + re.findall(r"\bfunker\.([A-Z]\w+)", text))
    assert sorted(used - set(funker.__all__)) == [], "documented, but not public"


def test_importing_funker_loads_nothing_that_costs() -> None:
    assert loaded_by("import funker", [*HEAVY, *NOT_THERE, "json"]) == []


def test_importing_the_client_costs_no_more_than_zmq_and_json() -> None:
    allowed = loaded_by("import zmq, json, socket, random", HEAVY)
    assert "zmq" in allowed
    assert loaded_by("import funker.rpc.client", [*HEAVY, *NOT_THERE]) == allowed


def test_making_a_handle_costs_no_more_than_importing_the_client() -> None:
    allowed = loaded_by("import zmq, json, socket, random", HEAVY)
    assert loaded_by("import funker; funker.function('add')", [*HEAVY, *NOT_THERE]) == allowed


def test_a_replicas_front_loads_nothing_that_costs() -> None:
    allowed = loaded_by("import zmq, json, socket, random", HEAVY)
    assert loaded_by("import funker_runtime.front", [*HEAVY, *NOT_THERE]) == allowed


def test_a_replicas_worker_is_forked_before_zmq_is_loaded() -> None:
    assert loaded_by("import funker_runtime", [*HEAVY, *NOT_THERE]) == []
