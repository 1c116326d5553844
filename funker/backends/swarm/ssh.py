"""A local socket whose every connection is an `ssh HOST docker system dial-stdio`.

docker-py's own ssh connections can't be used: they need paramiko even to start the ssh command,
start a new one for each request, and read in blocks that a stream of small messages never fills.
Here each connection's socket *is* the standard input and output of an ssh process, so that
everything that works on an engine's socket works through ssh: keep-alive, attach, half-close.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from funker.backends.base import EngineUnavailable

#: Seconds for ssh to reach the host, as in the docker command.
_CONNECT_TIMEOUT = 30
#: Seconds for an ssh that has closed its connection to say why and end.
_LAST_WORDS = 2.0


def arguments(url: str) -> list[str]:
    """The ssh command for `ssh://[user@]host[:port][/path/of/docker.sock]`.

    Raises `EngineUnavailable` for a URL that isn't one.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or parts.password or port == -1 or parts.query:
        raise EngineUnavailable(
            f"{url} is no ssh address",
            hint="Write ssh://USER@HOST or ssh://USER@HOST:PORT; keys and passwords are ssh's.",
        )
    command = ["ssh", "-o", f"ConnectTimeout={_CONNECT_TIMEOUT}", "-T"]
    if parts.username:
        command += ["-l", parts.username]
    if port:
        command += ["-p", str(port)]
    remote = "docker system dial-stdio"
    if parts.path.strip("/"):
        remote = f"docker --host {shlex.quote('unix://' + parts.path)} system dial-stdio"
    return [*command, "--", parts.hostname, remote]


class Tunnel:
    """Listens until closed. `address` is what to give to a Docker client."""

    def __init__(self, url: str) -> None:
        """Raises `EngineUnavailable` where there is no ssh."""
        self._command = arguments(url)
        if shutil.which("ssh") is None:
            raise EngineUnavailable(
                f"no ssh command to reach {url} with", hint="Install an OpenSSH client."
            )
        # The directory is readable by this user only: the socket is a way into the engine.
        self._directory = tempfile.TemporaryDirectory(prefix="funker-ssh-")
        path = Path(self._directory.name) / "docker.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self.address = f"unix://{path}"
        self._threads: list[threading.Thread] = []
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._last_words = ""
        self._closed = False
        threading.Thread(target=self._accept, name="funker-ssh", daemon=True).start()

    def complaint(self) -> str:
        """What the last failed ssh wrote, or nothing. Waits briefly for one that is ending."""
        for thread in self._threads[-1:]:
            thread.join(_LAST_WORDS)
        return self._last_words

    def close(self) -> None:
        """Ends all connections and their ssh processes. May be called again."""
        if self._closed:
            return
        self._closed = True
        # Closing alone doesn't wake a thread that is in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for process in list(self._processes):
            process.terminate()
        for thread in self._threads:
            thread.join(_LAST_WORDS)
        self._directory.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._carry, args=(connection,), daemon=True)
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            thread.start()

    def _carry(self, connection: socket.socket) -> None:
        with connection:
            process = subprocess.Popen(
                self._command,
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=subprocess.PIPE,
                # Ctrl-C is for this program, which then ends its calls properly. Without a
                # terminal ssh can't ask for a password behind our back either.
                start_new_session=True,
            )
        self._processes.add(process)
        if self._closed:
            process.terminate()
        _, words = process.communicate()
        self._processes.discard(process)
        if process.returncode != 0 and not self._closed:
            self._last_words = words.decode(errors="replace").strip()
