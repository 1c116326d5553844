"""A worker's bonds, and the end of all that it leaves, by processes that enter them.

Each program is a Python of its own: there is no way back out. It ends with the words that the test
wants to see.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from funker_runtime import scratch

ROOT = Path(__file__).resolve().parents[2]

#: What a keeper does with its worker. `call` is what a call does, and `after` looks for traces.
KEEPER = """
import atexit, os, signal, socket, sys, time
from funker_runtime import cleanup, confine, kernel

confinement = confine.prepare({limits})
kernel.adopt_orphans()

def run(call):
    directory = confinement.take()
    reader, writer = os.pipe()
    if (worker := os.fork()) == 0:
        os.setsid()
        confinement.enter()
        try:
            os.write(writer, repr(call()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    began = time.monotonic()
    left = cleanup.clean(confinement, worker, directory, {}, began + 20)
    os.waitpid(worker, 0)
    said = os.read(reader, 65536).decode()
    os.close(reader)
    return said, left, time.monotonic() - began

atexit.register(lambda: confinement.close(time.monotonic() + 5))

def children():
    with open("/proc/thread-self/children") as file:
        return file.read().split()
"""

Program = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs a keeper's program; what it prints."""

    def run(code: str, limits: str = "{}") -> str:
        path = os.pathsep.join([str(ROOT), str(ROOT / "runtime" / "python")])
        done = subprocess.run(
            [sys.executable, "-c", KEEPER.replace("{limits}", limits) + textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.iterdir()), "a directory is left"
        return done.stdout

    return run


@pytest.mark.skipif(not Path("/proc/thread-self/children").exists(), reason="needs Linux")
class TestOnLinux:
    def test_what_is_said_of_this_machine_is_true(self, program: Program) -> None:
        out = program(
            """
            print(confinement.residue)
            said, left, _ = run(lambda: open("../trace", "w"))
            print(said, left)
            """
        )
        residue, _, tried = out.partition("\n")
        assert residue == "enforced" or residue.startswith(("partial: ", "off: "))
        assert ("PermissionError" in tried) is not residue.startswith("off")

    def test_its_own_directory_is_all_that_it_writes_to(self, program: Program) -> None:
        out = program(
            """
            def call():
                import tempfile
                for device in confine.DEVICES[:2]:
                    with open(device, "wb") as file:
                        file.write(b"x")
                os.mkdir("a")
                with open("a/file", "w") as file:
                    file.write("x")
                os.rename("a/file", "file")
                os.truncate("file", 0)
                with tempfile.NamedTemporaryFile() as file:
                    inside = os.path.dirname(file.name)
                return inside == os.getcwd() == os.environ["HOME"] == os.environ["TMPDIR"]

            print(run(call)[:2])
            """
        )
        assert out.strip() == "('True', '')"

    @pytest.mark.parametrize(
        "leaves",
        {
            "a child": "if os.fork() == 0: time.sleep(60)",
            "a daemon": """
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        signal.signal(signal.SIGTERM, signal.SIG_IGN)
                        time.sleep(60)
                    os._exit(0)
                os.wait()
                """,
            "a chain": """
                for _ in range(200):
                    if os.fork():
                        time.sleep(60) if _ else os._exit(0)
                    os.setsid()
                time.sleep(60)
                """,
            "stopped": "if os.fork() == 0: os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)",
            "one that starts others": """
                if os.fork() == 0:
                    os.setsid()
                    for _ in range(2000):
                        if os.fork() == 0:
                            os.setsid()
                            time.sleep(0.001)
                            if os.fork():
                                os._exit(0)
                """,
        }.items(),
        ids=lambda item: item[0],
    )
    def test_no_process_outlives_its_call(self, program: Program, leaves: tuple[str, str]) -> None:
        code = textwrap.indent(textwrap.dedent(leaves[1]).strip(), "    ")
        out = program(
            f"""
{textwrap.indent("def call():" + chr(10) + code, " " * 12)}

            said, left, took = run(call)
            print(left, children())
            """
        )
        assert out.strip() == "[]"

    def test_whoever_is_to_stay_stays_with_what_it_has_started(self, program: Program) -> None:
        out = program(
            """
            own = confinement.take()
            if (kept := os.fork()) == 0:
                os.fork()
                time.sleep(60)
            other = confinement.take()
            if (worker := os.fork()) == 0:
                os.chmod(own, 0)
                os._exit(0)
            os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
            soon = time.monotonic() + 5
            print(cleanup.clean(confinement, worker, other, {kept: own}, soon))
            os.waitpid(worker, 0)
            print(children() == [str(kept)], os.kill(kept, 0), oct(os.stat(own).st_mode))
            print(cleanup.end((), soon), children())
            """
        )
        assert out.split("\n") == ["", "True None 0o40700", "0 []", ""]

    def test_a_directory_is_used_again_only_if_nothing_was_done_to_it(
        self, program: Program
    ) -> None:
        out = program(
            """
            def where():
                return os.getcwd()

            def touch():
                open("file", "w").close()
                os.unlink("file")
                return os.getcwd()

            def change():
                os.chmod(".", 0o711)
                return os.getcwd()

            time.sleep(0.05)  # the kernel's clock for files goes in steps
            said = [run(call)[0] for call in (where, where, touch, where, change, where)]
            print([said.index(one) for one in said])
            """
        )
        assert out.strip() == "[0, 0, 0, 3, 3, 5]"

    def test_limits_bind_a_worker_and_not_its_keeper(self, program: Program) -> None:
        out = program(
            """
            import resource
            def call():
                try:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 65))
                except ValueError:
                    return resource.getrlimit(resource.RLIMIT_NOFILE)
            print(run(call)[0], resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64)
            """,
            limits='{"nofile": 64}',
        )
        assert out.strip() == "(64, 64) True"


def test_without_linux_nothing_binds_and_it_is_said(program: Program) -> None:
    out = program(
        """
        kernel.LINUX = False
        unbound = confine.prepare({})
        print(unbound.residue)
        """
    )
    assert out == f"off: {sys.platform} has no Landlock\n"


def plain(top: Path) -> None:
    (top / "file").write_text("x")
    (top / "directory").mkdir()
    (top / "directory" / "file").touch()


def without_modes(top: Path) -> None:
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").touch(mode=0)
    (top / "a" / "b").chmod(0)
    (top / "a").chmod(0)
    top.chmod(0)


def with_odd_names(top: Path) -> None:
    for name in (b"\xff\xfe", b"a\nb", b"-rf", b" ", b"x" * 255):
        (top / os.fsdecode(name) / os.fsdecode(name)).mkdir(parents=True)


def with_what_is_no_file(top: Path) -> None:
    os.mkfifo(top / "fifo")
    (top / "link").symlink_to("/etc")
    (top / "loop").symlink_to("loop")
    (top / "itself").symlink_to(".")


def deep(top: Path) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def wide(top: Path) -> None:
    for number in range(3000):
        (top / str(number)).touch()


@pytest.mark.parametrize(
    "fill", [plain, without_modes, with_odd_names, with_what_is_no_file, deep, wide]
)
def test_a_directory_is_removed_whatever_is_in_it(
    tmp_path: Path, fill: Callable[[Path], None]
) -> None:
    beside = tmp_path / "beside"
    beside.touch()
    directory = Path(scratch.make(str(tmp_path)))
    assert directory.stat().st_mode & 0o777 == 0o700
    (directory / "out").symlink_to(tmp_path)
    fill(directory)
    assert scratch.remove(str(directory), time.monotonic() + 30)
    assert list(tmp_path.iterdir()) == [beside]


def test_removing_stops_when_its_time_is_over(tmp_path: Path) -> None:
    directory = Path(scratch.make(str(tmp_path)))
    wide(directory)
    assert not scratch.remove(str(directory), time.monotonic() - 1)
    assert list(directory.iterdir())
    assert scratch.remove(str(directory), time.monotonic() + 30)


def test_a_directory_that_is_gone_is_removed(tmp_path: Path) -> None:
    assert scratch.remove(str(tmp_path / "none"), time.monotonic() + 1)


def test_temporary_files_go_where_the_environment_says(tmp_path: Path) -> None:
    assert scratch.base({"TMPDIR": str(tmp_path)}) == str(tmp_path)
    assert scratch.base({"TMPDIR": str(tmp_path / "none")}) == "/tmp"
    assert scratch.base({}) == "/tmp"
