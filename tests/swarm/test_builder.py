"""Images as a real engine makes them, and what is in them when they run."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

import funker
from funker.images.builder import DEFAULT_BASE, BaseImageError, BuildError, Image, build

ROOT = Path(__file__).resolve().parents[2]
BASE = os.environ.get("FUNKER_BASE") or DEFAULT_BASE
#: Of its own, so that no other function's image is the same one and goes when it is removed.
HANDLER = "def handle(x, y):  # of the builder's tests\n    return x + y\n"

#: Of images that get no name.
LABEL = "funker.test.function"

#: Says what a replica would find, from inside. Unchecked-hash files have flags 1, after 4 bytes
#: of magic number.
INSPECTION = """
import json, os, pathlib, sys
import funker, funker.rpc, funker_runtime, zmq, handler

def flags(module):
    return int.from_bytes(pathlib.Path(module.__cached__).read_bytes()[4:8], "little")

def refused(path):
    try:
        pathlib.Path(path).write_text("x")
    except OSError:
        return True

roots = {pathlib.Path(module.__file__).parent for module in (funker, funker_runtime)}
files = {str(p.relative_to(r.parent)) for r in roots for p in r.rglob("*.py")}
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "home": os.environ["HOME"], "cwd": os.getcwd(),
    "user": __import__("pwd").getpwuid(os.getuid()).pw_name,
    "flags": [flags(m) for m in (funker, funker.rpc, funker_runtime, zmq, handler)],
    "compiled_stdlib": pathlib.Path(json.__cached__).exists(),
    "read_only": refused("/app/x") and not refused("/tmp/x"),
    "files": sorted(files),
}))
"""

Build = Callable[..., Image]
Names = Callable[..., str]


@pytest.fixture
def lines() -> list[str]:
    """The lines of progress of the test's builds."""
    return []


@pytest.fixture
def build_here(engine: DockerClient, lines: list[str]) -> Build:
    def run(source: Path, **options: Any) -> Image:
        return build(source, docker=engine, progress=lines.append, **{"base": BASE, **options})

    return run


@pytest.fixture
def function(
    engine: DockerClient, tmp_path: Path, name: str
) -> Iterator[Callable[[Mapping[str, str]], Path]]:
    """Write files into a directory that is named as nothing else on the engine.

    What a failed build leaves is removed if it has the name in LABEL.
    """

    def write(files: Mapping[str, str]) -> Path:
        directory = tmp_path / name
        for file, content in files.items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(content)
        return directory

    yield write
    for left in engine.images.list(filters={"label": f"{LABEL}={name}", "dangling": True}):
        engine.api.remove_image(str(left.id), force=True)


@pytest.fixture
def other_base(engine: DockerClient, names: Names) -> Iterator[str]:
    """The id of a base image like BASE, with a patch. All that is built on it goes with it."""
    name = names("base")
    text = f"FROM {BASE}\nLABEL funker.test.patch={name}\n"
    image, _ = engine.images.build(fileobj=io.BytesIO(text.encode()), tag=f"test/{name}:1", rm=True)
    assert image.id is not None
    yield image.id
    for derived in engine.images.list(filters={"label": f"funker.base={image.id}"}):
        engine.api.remove_image(str(derived.id), force=True)


def run(engine: DockerClient, image: Image, *command: str, **options: Any) -> str:
    """The output of a command in a container of the image, with the container's usual limits."""
    output: bytes = engine.containers.run(
        image.id,
        list(command),
        entrypoint=[],
        remove=True,
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        **options,
    )
    return output.decode()


def layers(engine: DockerClient, image: Image) -> list[str]:
    found: list[str] = engine.images.get(image.id).attrs["RootFS"]["Layers"]
    return found


def test_an_image_holds_a_compiled_function_and_runs_it_unprivileged_and_read_only(
    engine: DockerClient, function: Any, build_here: Build
) -> None:
    image = build_here(function({"handler.py": HANDLER}))

    seen = json.loads(run(engine, image, "python3", "-c", INSPECTION))

    files = seen.pop("files")
    assert seen == {
        "uid": 10001,
        "gid": 10001,
        "user": "funker",
        "home": "/tmp",
        "cwd": "/app",
        "flags": [1] * 5,
        "compiled_stdlib": True,
        "read_only": True,
    }
    replica = ("funker/__init__.py", "funker/rpc/", "funker_runtime/")
    assert [file for file in files if not file.startswith(replica)] == []


def test_an_image_tells_how_it_came_to_be(
    engine: DockerClient, function: Any, build_here: Build, name: str
) -> None:
    image = build_here(function({"app.py": HANDLER}), handler="app:handle", tag=f"test/{name}:1")

    attributes = engine.images.get(f"test/{name}:1").attrs
    config = attributes["Config"]
    labels = config["Labels"]

    assert attributes["Id"] == image.id
    assert image.platform == labels["funker.platform"]
    assert image.platform == f"{attributes['Os']}/{attributes['Architecture']}"
    assert labels["funker.base"] == engine.images.get(BASE).id
    assert labels["funker.handler"] == image.handler == "app:handle"
    assert f"funker/{name}:{labels['funker.source'][:12]}" in attributes["RepoTags"]
    assert "FUNKER_HANDLER=app:handle" in config["Env"]
    assert config["Entrypoint"] == ["/usr/bin/tini", "--", "python3", "-m", "funker_runtime"]
    assert config["User"] == "10001:10001"
    assert not config.get("Volumes")
    assert not config.get("Cmd")


def test_an_unchanged_function_is_not_rebuilt_and_a_changed_one_installs_nothing_again(
    engine: DockerClient, function: Any, build_here: Build, lines: list[str]
) -> None:
    directory = function({"handler.py": HANDLER, "requirements.txt": "six==1.17.0\n"})
    first = build_here(directory)
    lines.clear()

    again = build_here(directory)

    assert (first.built, again.built) == (True, False)
    assert again.id == first.id
    assert lines == [f"{first.tag} is unchanged"]

    changed = build_here(function({"handler.py": HANDLER + "# more\n"}))

    assert changed.built
    assert changed.tag != first.tag
    shared = [
        one for one, other in zip(layers(engine, first), layers(engine, changed), strict=True)
        if one == other
    ]  # fmt: skip
    # The source and its compilation differ; the base, the runtime and the requirements don't.
    assert shared == layers(engine, first)[:-2]


def test_packages_and_requirements_are_there_when_the_handler_runs(
    engine: DockerClient, function: Any, build_here: Build
) -> None:
    image = build_here(
        function(
            {
                "handler.py": HANDLER,
                "packages.txt": "hello  # GNU's\n",
                "requirements.txt": "-r more/requirements.txt\n",
                "more/requirements.txt": "six==1.17.0\n",
            }
        )
    )

    code = "import six; print(six.__version__, open(six.__cached__, 'rb').read()[4])"
    assert run(engine, image, "python3", "-c", code) == "1.17.0 1\n"
    assert run(engine, image, "hello") == "Hello, world!\n"


def test_a_patched_base_rebuilds_the_function(
    engine: DockerClient, function: Any, build_here: Build, other_base: str
) -> None:
    directory = function({"handler.py": HANDLER})
    before = build_here(directory)

    after = build_here(directory, base=other_base)

    assert after.built
    assert after.tag != before.tag
    assert engine.images.get(after.id).labels["funker.base"] == other_base


def test_a_failed_step_shows_its_command_and_output_and_leaves_nothing(
    engine: DockerClient, function: Any, build_here: Build, name: str
) -> None:
    directory = function({"handler.py": HANDLER, "packages.txt": "nosuch-package\n"})
    containers = {container.id for container in engine.containers.list(all=True)}

    with pytest.raises(BuildError) as caught:
        build_here(directory)

    error = caught.value
    assert error.step == "2/6"
    assert "apt-get install" in error.command
    assert error.output.endswith("E: Unable to locate package nosuch-package")
    for part in (error.step, error.command, "exit code 100", error.output.splitlines()[-1]):
        assert part in error.message
    assert engine.images.list(name=f"funker/{name}") == []
    mine = [
        container for container in engine.containers.list(all=True, ignore_removed=True)
        if container.id not in containers and error.command[4:30] in str(container.attrs["Config"])
    ]  # fmt: skip
    assert mine == []


def test_a_broken_file_that_the_handler_may_never_import_is_no_reason_to_fail(
    function: Any, build_here: Build
) -> None:
    image = build_here(function({"handler.py": HANDLER, "template.py": "{{ name }} = ("}))

    assert image.built


def test_a_dockerfile_of_ones_own_becomes_a_function_too(
    engine: DockerClient, function: Any, build_here: Build
) -> None:
    dockerfile = (
        "ARG FUNKER_BASE\n"
        "FROM ${FUNKER_BASE}\n"
        "RUN id -u > /built-by\n"
        "COPY code/ /app/\n"
        "HEALTHCHECK CMD true\n"
    )
    directory = function(
        {"Dockerfile": dockerfile, ".dockerignore": "*.md\n", "code/handler.py": HANDLER}
    )

    image = build_here(directory)

    seen = json.loads(run(engine, image, "python3", "-c", INSPECTION))
    assert (seen["uid"], seen["home"], seen["flags"]) == (10001, "/tmp", [1] * 5)
    assert run(engine, image, "cat", "/built-by") == "0\n"
    config = engine.images.get(image.id).attrs["Config"]
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert config["Labels"]["funker.handler"] == "handler:handle"
    assert not build_here(directory).built


@pytest.mark.parametrize(
    ("dockerfile", "problem", "hint"),
    [
        (f"FROM {BASE}\nCMD python3\n", "does not hold the runtime", "FROM ${FUNKER_BASE}"),
        ("FROM funker-python\nENTRYPOINT python3 a.py\n", "hides the runtime's", "/usr/bin/tini"),
        ("FROM funker-python\nRUN echo why; exit 3\n", "exit code 3\n  RUN echo why", ""),
        ("FROM funker-python\nRUN --mount=type=cache,target=/x true\n", "BuildKit", "docker build"),
        ("FROM funker-python\nNONSENSE\n", "unknown instruction: NONSENSE", ""),
    ],
)
def test_a_dockerfile_that_makes_no_function_is_told_why(
    function: Any, build_here: Build, name: str, dockerfile: str, problem: str, hint: str
) -> None:
    with pytest.raises(BuildError) as caught:
        build_here(
            function({"Dockerfile": dockerfile.replace("\n", f"\nLABEL {LABEL}={name}\n", 1)})
        )

    assert problem in caught.value.message
    assert hint in caught.value.hint


def test_a_base_that_cannot_be_had_is_told_with_the_remedy(
    function: Any, build_here: Build
) -> None:
    with pytest.raises(BaseImageError, match=r"can't be pulled: .*refused") as caught:
        build_here(function({"handler.py": HANDLER}), base="127.0.0.1:9/nothing:1")

    assert "docker pull 127.0.0.1:9/nothing:1" in caught.value.hint


def test_the_image_of_this_project_is_its_command(engine: DockerClient, names: Names) -> None:
    tag = f"test/{names('command')}:1"
    engine.images.build(path=str(ROOT), buildargs={"BASE": BASE}, tag=tag, rm=True, forcerm=True)
    for left in engine.images.list(filters={"dangling": True}):
        if "pip wheel" in left.history()[0]["CreatedBy"]:
            engine.api.remove_image(str(left.id), force=True)

    said: bytes = engine.containers.run(tag, ["--version"], remove=True, read_only=True)
    who: bytes = engine.containers.run(tag, ["-u"], entrypoint=["id"], remove=True)

    assert funker.__version__ in said.decode()
    assert who == b"10001\n"
