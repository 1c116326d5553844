"""One replica's process: how it is started, heard, stopped, and what is left when it has ended.

Each has a scratch directory (its TMPDIR and HOME), a session of its own, and holds a file locked,
as do its worker and all that they fork: whoever can lock that file knows that all of it is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funker.backends.local.journal import Journal, Lines, Stream
from funker.backends.local.state import StateDirectory

#: Bytes of one read: what a pipe holds.
_CHUNK = 65536


class Process:
    """A replica that runs. Raises `OSError` if it can't be started."""

    def __init__(
        self,
        state: StateDirectory,
        *,
        function: str,
        slot: int,
        id: str,
        grace: float,
        command: list[str],
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.function = function
        self.slot = slot
        self.id = id
        self.name = f"{function}.{slot}.{id}"
        self.grace = grace
        self.kill_at = float("inf")
        self.worker = 0
        self.silent = False
        self._words = b""
        self._place = Place(state, self.name)
        alive = self._place.make()
        ours, theirs = socket.socketpair()
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            self.popen = subprocess.Popen(
                command,
                cwd=directory,
                env={
                    "HOME": str(self._place.scratch),
                    "TMPDIR": str(self._place.scratch),
                    **environment,
                    "FUNKER_REPLICA": self.name,
                    "FUNKER_LISTEN": self._place.endpoint,
                    "FUNKER_LIFELINE": str(theirs.fileno()),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), alive),
                start_new_session=True,  # a Ctrl-C at a terminal isn't for it
            )
        except OSError:
            ours.close()
            self._place.clear()
            raise
        finally:
            theirs.close()
            os.close(alive)
        self.link = ours
        self.link.setblocking(False)
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.pid = self.popen.pid
        self._place.note(self.pid, self.worker, grace)
        self.streams: dict[int, Stream] = {
            self.popen.stdout.fileno(): "stdout",
            self.popen.stderr.fileno(): "stderr",
        }
        self._lines = {fd: Lines() for fd in self.streams}
        for fd in self.streams:
            os.set_blocking(fd, False)

    def hear(self) -> list[dict[str, Any]]:
        """What it has said over its lifeline. Sets `silent` when there is no more to come."""
        said = []
        try:
            while data := self.link.recv(_CHUNK):
                self._words += data
            self.silent = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.silent = True
        *lines, self._words = self._words.split(b"\n")
        for line in lines:
            word: dict[str, Any] = json.loads(line)
            if "worker" in word:
                self.worker = int(word["worker"])
                self._place.note(self.pid, self.worker, self.grace)
            said.append(word)
        return said

    def pump(self, fd: int, journal: Journal) -> bool:
        """Moves what is in one pipe to the log; False at its end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        lines = self._lines[fd].feed(data)
        journal.write(self.function, self.name, self.streams[fd], lines)
        return bool(data)

    def terminate(self) -> None:
        """Asks it to finish what it does and to leave."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.terminate()

    def kill(self) -> None:
        """Ends it and all that it started, as far as that is still in its groups."""
        kill_group(self.pid)
        kill_group(self.worker)

    def ended(self) -> str | None:
        """None while it runs, else how it ended: empty for an end in order."""
        status = self.popen.poll()
        if status is None:
            return None
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"exited with status {status}" if status else ""

    def bury(self, journal: Journal) -> Place:
        """It has ended: kills what it left, saves the last of its output, returns its place."""
        # The front kills its worker's group itself, unless it was killed.
        kill_group(self.worker)
        for fd in self.streams:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(fd, _CHUNK):
                    lines = self._lines[fd].feed(data)
                    journal.write(self.function, self.name, self.streams[fd], lines)
            rest = self._lines[fd].feed(b"")
            journal.write(self.function, self.name, self.streams[fd], rest)
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()
        self.link.close()
        return self._place


class Place:
    """What a replica has on disk: scratch space, its lock, its socket."""

    def __init__(self, state: StateDirectory, name: str) -> None:
        self.name = name
        self.scratch = state.run / name
        self.alive = state.run / f"{name}.lock"
        self._socket = state.sockets / f"replica-{name.rpartition('.')[2]}"

    @property
    def endpoint(self) -> str:
        return f"ipc://{self._socket}"

    def make(self) -> int:
        """Makes the scratch directory; a descriptor of the file to hold locked. Raises OSError."""
        alive = os.open(self.alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.scratch.mkdir(mode=0o700)
        except OSError:
            os.close(alive)
            self.clear()
            raise
        return alive

    def note(self, pid: int, worker: int, grace: float) -> None:
        """Write down whom to end, should this agent be gone. Not atomic: it is one small write."""
        with contextlib.suppress(OSError):  # a full disk: then it can't be ended, but leaves
            self.alive.write_text(json.dumps({"pid": pid, "worker": worker, "grace": grace}))

    def noted(self) -> dict[str, Any]:
        try:
            noted: dict[str, Any] = json.loads(self.alive.read_text())
        except (OSError, ValueError):
            return {}
        return noted

    def empty(self) -> bool:
        """Whether all its processes are gone."""
        try:
            with self.alive.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def clear(self) -> None:
        """Removes it all."""
        remove_tree(self.scratch)
        for path in (self._socket, self.alive):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def remove_tree(directory: Path) -> None:
    """Removes a directory that may have unwritable ones in it. What can't be removed stays."""

    def again(function: Any, name: str, _: Any) -> None:
        path = Path(name)
        with contextlib.suppress(OSError):
            for one in (path.parent, path):
                if one.is_dir() and not one.is_symlink():  # never what a link leads to
                    one.chmod(0o700)
            function(name) if function is os.rmdir or not path.is_dir() else remove_tree(path)

    shutil.rmtree(directory, onerror=again)


def kill_group(leader: int) -> None:
    """SIGKILL to the process group of this number; 0: none is known."""
    if leader > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
