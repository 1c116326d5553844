"""The wheel, installed where there is no clone: as a command, and as a caller's only dependency."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import DockerClient

from funker.images.builder import DEFAULT_BASE

ROOT = Path(__file__).resolve().parents[2]
BASE = os.environ.get("FUNKER_BASE") or DEFAULT_BASE
CONSTRAINTS = ROOT / "constraints.txt"
#: Seconds for one command: pip may have to download.
PATIENCE = 300

#: A caller's image: this and nothing else.
RECIPE = f"""
FROM {BASE}
ENV PIP_BREAK_SYSTEM_PACKAGES=1
COPY . /tmp/wheel
RUN python3 -m pip install -c /tmp/wheel/constraints.txt pyzmq \
 && python3 -m pip install --no-deps /tmp/wheel/*.whl
"""

ONLY_PYZMQ = """
import importlib.util, json, funker
print(json.dumps({
    "file": funker.__file__,
    "missing": [n for n in ("docker", "pydantic", "typer") if not importlib.util.find_spec(n)],
}))
"""

CALL = """
import json, sys, funker

name, address, arguments = map(json.loads, sys.argv[1:])
print(json.dumps(funker.function(name, address=address, deadline=30)(**arguments)))
"""

PROGRAM = """
import funker

def add(x, y):
    return x + y

funker.handle(add)
"""

Names = Callable[..., str]


@dataclass(frozen=True)
class Environment:
    """A virtualenv outside of the clone."""

    directory: Path

    def __call__(self, command: str, *arguments: str | Path) -> str:
        """What one of its commands prints; it has to succeed."""
        done = subprocess.run(
            [self.directory / "bin" / command, *arguments],
            cwd=self.directory,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @property
    def variables(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def pip_install(self, *arguments: str | Path) -> None:
        self("python", "-m", "pip", "install", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution as for a release."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", directory, ROOT],
        env={**os.environ, "PIP_CONSTRAINT": str(CONSTRAINTS)},
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    def make() -> Environment:
        directory = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", directory], timeout=PATIENCE, check=True)
        return Environment(directory)

    return make


@pytest.fixture(scope="module")
def installed(wheel: Path, new_environment: Callable[[], Environment]) -> Environment:
    """With all that the command line needs."""
    environment = new_environment()
    environment.pip_install("-c", CONSTRAINTS, wheel)
    return environment


@pytest.fixture(scope="module")
def bare(wheel: Path, new_environment: Callable[[], Environment]) -> Environment:
    """With pyzmq and the wheel alone."""
    environment = new_environment()
    environment.pip_install("-c", CONSTRAINTS, "pyzmq")
    environment.pip_install("--no-deps", wheel)
    return environment


@pytest.fixture(scope="module")
def hello(installed: Environment, module_names: Names) -> str:
    """A function that was made, built and deployed with what the wheel has installed."""
    name = module_names("hello")
    made = installed("funker", "new", name)
    assert made == f"{name}/handler.py\n"
    assert installed("funker", "build", name).startswith(f"funker/{name}:")
    assert installed("funker", "deploy", name) == f"{name}\n"
    return name


def test_the_wheel_makes_builds_deploys_and_calls_a_function(
    installed: Environment, hello: str
) -> None:
    where = installed("python", "-c", "import funker; print(funker.__file__)")
    assert where.startswith(str(installed.directory))

    assert installed("funker", "call", hello, "name=Ada") == "Hello, Ada!"


def test_the_wheel_has_what_the_controller_is_made_of(installed: Environment) -> None:
    try:
        assert "created the service funker_router\n" in installed("funker", "up")
    finally:
        assert "removed the service funker_router\n" in installed("funker", "down", "-y")


def test_a_container_with_pyzmq_and_the_wheel_alone_calls_by_service_name(
    wheel: Path, hello: str, engine: DockerClient, name: str
) -> None:
    files = {"Dockerfile": RECIPE.encode(), wheel.name: wheel.read_bytes()}
    files[CONSTRAINTS.name] = CONSTRAINTS.read_bytes()
    image, _ = engine.images.build(
        fileobj=context_of(files), custom_context=True, tag=f"test/{name}:1", rm=True
    )

    output = engine.containers.run(
        image,
        ["python3", "-c", CALL, *map(json.dumps, (hello, "", {"name": "Alan"}))],
        name=name,
        network="funker",
    )

    assert json.loads(output) == "Hello, Alan!"


def test_a_caller_needs_pyzmq_and_the_wheel_alone_and_so_does_a_program_that_serves(
    bare: Environment,
) -> None:
    found = json.loads(bare("python", "-c", ONLY_PYZMQ))
    assert found["file"].startswith(str(bare.directory))
    assert found["missing"] == ["docker", "pydantic", "typer"]

    address = f"127.0.0.1:{free_port()}"
    with serving(bare, PROGRAM, address) as process:
        answer = bare("python", "-c", CALL, *map(json.dumps, ("add", address, {"x": 1, "y": 2})))
        assert answer == "3\n"
        assert process.wait(PATIENCE) == 0


def context_of(files: dict[str, bytes]) -> io.BytesIO:
    """Files as the engine's builder takes them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


@contextmanager
def serving(
    environment: Environment, program: str, address: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that answers one call, on the loopback interface."""
    process = subprocess.Popen(
        [environment.directory / "bin" / "python", "-c", program],
        cwd=environment.directory,
        env={**environment.variables, "FUNKER_LISTEN": f"tcp://{address}"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    """A port that nobody has, from below those of outgoing connections.

    One of those, while nobody listens on it yet, might be connected to itself by its caller.
    """
    while True:
        port = random.randrange(20000, 32000)
        with closing(socket.socket()) as sock:
            if sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return port
