"""A replica as a bare process, with nobody who would start another."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conformance.runtimes import ACTS, Runtime
from tests.conformance.wire import PATIENCE
from tests.processes import TOKEN, bearers, is_gone


class Replica:
    """Starts at once. `listen` is where it listens, unless `environment` says otherwise."""

    function = "act"

    def __init__(
        self, runtime: Runtime, environment: Mapping[str, str], pass_fds: tuple[int, ...] = ()
    ) -> None:
        self.runtime = runtime
        # Short: the path of a Unix socket has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="fc-"))
        for acts in runtime.acts:
            shutil.copytree(ACTS / acts, self.directory / "app", dirs_exist_ok=True)
        self._news = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._news.bind(("127.0.0.1", 0))
        self._told: list[str] = []
        self._token = secrets.token_hex(8)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FUNKER_")}
        env = {
            **kept,
            **runtime.environment,
            "FUNKER_FUNCTION": self.function,
            "FUNKER_REPLICA": "act.1",
            "FUNKER_ISOLATION": runtime.isolation,
            "FUNKER_LISTEN": f"ipc://{self.directory}/front",
            "FUNKER_STATE_DIR": "/nonexistent",  # whoever runs the tests may have a router
            "FUNKER_ROUTER": "direct",
            "TMPDIR": str(self.directory),
            "TELL": str(self._news.getsockname()[1]),
            TOKEN: self._token,
            **environment,
        }
        self.listen = env["FUNKER_LISTEN"]
        with (
            (self.directory / "stdout").open("wb") as out,
            (self.directory / "stderr").open("wb") as err,
        ):
            self.process = subprocess.Popen(
                runtime.command,
                cwd=self.directory / "app",
                env={name: value for name, value in env.items() if value},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def status(self, within: float = PATIENCE) -> int:
        """Its exit status, once it has ended by itself."""
        return self.process.wait(within)

    def runs(self) -> bool:
        return self.process.poll() is None

    def ran(self) -> list[str]:
        """What the handler was told to do, in order."""
        self._listen(0)
        return [text.removeprefix("ran ") for text in self._told if text.startswith("ran ")]

    def told(self, word: str) -> str:
        """What follows the word in what the handler tells."""
        give_up = time.monotonic() + PATIENCE
        while not (found := [text for text in self._told if text.split()[0] == word]):
            left = give_up - time.monotonic()
            assert left > 0, f"the handler never told {word!r}"
            self._listen(left)
        return found[0].removeprefix(word).strip()

    def _listen(self, seconds: float) -> None:
        while select.select([self._news], [], [], seconds)[0]:
            self._told.append(self._news.recv(1024).decode())
            seconds = 0

    def output(self) -> str:
        """All that it has written, stdout first."""
        return "".join(
            (self.directory / name).read_text(errors="replace") for name in ("stdout", "stderr")
        )

    def stop(self) -> None:
        """End it and all that it started. Raises AssertionError if it had left something."""
        if self.runs():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        left = [pid for pid in bearers(self._token) if not is_gone(pid, 5)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        print(f"--- {self.runtime.id} wrote\n{self.output()[-4000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)
        self._news.close()
        assert not left, "the replica has left processes running"
