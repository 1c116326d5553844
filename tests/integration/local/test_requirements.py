"""Functions with requirements: environments that are made once, with no network here."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from funker.backends.local.environments import RequirementsFailed

HANDLER = """
import greeting, sys

def handle(name):
    return [greeting.of(name), sys.prefix]
"""

#: Builds a wheel with the standard library alone: pip needs no network for it.
BUILD = """
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "greeting-1.0.dist-info"
    name = "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.write("greeting.py")
        wheel.writestr(f"{info}/METADATA",
                       "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
                       "Tag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""

PROJECT = """
[project]
name = "greeting"
version = "1.0"

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def _source(machine: Any, word: str = "Hello") -> Path:
    place: Path = machine.write(HANDLER, requirements_txt="./greeting\n")
    package = place / "greeting"
    package.mkdir(exist_ok=True)
    (package / "pyproject.toml").write_text(PROJECT)
    (package / "backend.py").write_text(BUILD)
    (package / "greeting.py").write_text(f"def of(name): return '{word} ' + name\n")
    return place


def test_requirements_are_installed_once_for_their_content(up: Any) -> None:
    place = _source(up)
    up.deploy_source(place)
    greeting, prefix = up.call(name="you")
    assert greeting == "Hello you"
    assert Path(prefix).parent == up.sources / "cache" / "funker" / "envs"
    up.deploy_source(place, "other")
    assert up.call("other", name="all") == ["Hello all", prefix]


def test_a_requirement_that_has_changed_is_installed_anew(up: Any) -> None:
    up.deploy_source(_source(up))
    first = up.call(name="you")
    up.deploy_source(_source(up, "Goodbye"))
    second = up.call(name="you")
    assert second[0] == "Goodbye you"
    assert second[1] != first[1]


def test_two_deploys_at_once_install_once(up: Any) -> None:
    place = _source(up)
    errors: list[BaseException] = []

    def deploy(name: str) -> None:
        try:
            up.deploy_source(place, name)
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=deploy, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert up.call("one", name="a")[1] == up.call("two", name="a")[1]


def test_what_cant_be_installed_is_told_with_pips_words(machine: Any) -> None:
    place = machine.write(HANDLER, requirements_txt="./nowhere\n")
    with pytest.raises(RequirementsFailed, match="nowhere") as failed:
        machine.deploy_source(place)
    assert "nowhere" in failed.value.output
    machine.write(HANDLER, requirements_txt="")


def test_half_an_environment_is_made_again(up: Any) -> None:
    place = _source(up)
    up.deploy_source(place)
    prefix = Path(up.call(name="you")[1])
    (prefix / ".complete").unlink()
    (prefix / "bin" / "python3").unlink()
    up.deploy_source(place, "other")
    assert up.call("other", name="all")[0] == "Hello all"
