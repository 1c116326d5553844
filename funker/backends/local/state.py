"""The directory that is the local backend's database: desired state, keys, sockets, scratch space.

    lock                held by the agent as long as it lives; says who it is
    functions/NAME.json what a function shall be; `functions/.lock` is held while one is changed
    code/HASH           immutable snapshots of functions' files, each with a HASH.json about it
    client-key, router-key   see `funker.rpc.keys`; there while a controller is, or has crashed
    controller.json     the agent's process and addresses, for people
    run/                a scratch directory for each replica, and a file that it holds locked
    sockets/            of router, agent and replicas (elsewhere if the path is too long)
    logs/               what functions wrote, and the controller

Only its owner can enter it. Files are replaced whole, so that no reader ever sees half of one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from funker.backends.base import BackendError
from funker.backends.local import places
from funker.spec import CallPolicy, ScalePolicy, SpecError, isolating


class StateUnusable(BackendError):
    """Raised when the state directory can't be read or written, or isn't the user's own."""


class AgentRunning(BackendError):
    """Raised when another agent holds the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One function as it shall be. `spec` has the fields of a `FunctionSpec` as JSON values."""

    name: str
    spec: dict[str, Any]
    #: Unix times in seconds.
    created: float
    updated: float
    #: It has a policy, which is suspended: somebody has said a number of replicas.
    pinned: bool = False

    @property
    def scale(self) -> ScalePolicy | None:
        """How the autoscaler may choose the number of replicas."""
        policy = self.spec.get("scale")  # files of older versions say nothing
        return None if policy is None else ScalePolicy(**policy)

    @property
    def calls(self) -> CallPolicy:
        return CallPolicy(**self.spec.get("calls", {}))

    @property
    def isolation(self) -> str:
        return str(self.spec.get("isolation", "container"))

    @property
    def replicas(self) -> int:
        return int(self.spec["replicas"])

    @property
    def autoscaled(self) -> bool:
        """Whether the autoscaler chooses the number of replicas now."""
        return self.scale is not None and not self.pinned

    def continues(self, earlier: Record) -> bool:
        """Whether nobody has changed the function since, but for the autoscaler."""
        if self.autoscaled and earlier.autoscaled:
            earlier = earlier.scaled(self.replicas)
        return self.spec == earlier.spec

    def scaled(self, replicas: int) -> Record:
        return dataclasses.replace(self, spec={**self.spec, "replicas": replicas})

    @property
    def grace(self) -> float:
        """Seconds that a replica may take to leave."""
        return float(self.spec["stop_grace"])

    @property
    def snapshot(self) -> str:
        """The hash of its code."""
        return str(self.spec["image"]).rpartition("sha256:")[2]

    @property
    def revision(self) -> str:
        """Names what its replicas depend on: others are to be replaced."""
        about = [self.spec[key] for key in ("image", "timeout", "env", "handler", "max_body")]
        about.append(isolating(self.spec))
        text = json.dumps(about, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class StateDirectory:
    """Paths and files under one root. Reading and writing raise `StateUnusable`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.functions = root / "functions"
        self.code = root / "code"
        self.run = root / "run"
        self.logs = root / "logs"
        self.runtime = root / "runtime"
        self.lock = root / "lock"
        self.controller = root / "controller.json"
        self.client_key = root / "client-key"
        self.router_key = root / "router-key"
        self.agent_log = self.logs / "controller.log"
        self.sockets = Path(places.sockets(str(root)))

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> StateDirectory:
        """The one that the environment names, or the user's own."""
        return cls(Path(places.root(environ)))

    @property
    def agent_socket(self) -> str:
        return places.agent_socket(str(self.root))

    @property
    def router_endpoint(self) -> str:
        """Where callers and replicas find the router. The same after a restart."""
        return f"ipc://{self.sockets}/router"

    @property
    def control_endpoint(self) -> str:
        """Where the reconciler finds it."""
        return f"ipc://{self.sockets}/control"

    def create(self) -> None:
        """Makes what is missing of it, but for what only a controller needs."""
        with self.errors():
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.root.stat().st_uid != os.getuid():
                raise StateUnusable(
                    f"{self.root} belongs to another user",
                    hint="Choose another with FUNKER_STATE_DIR.",
                )
            self.root.chmod(0o700)
            for directory in (self.functions, self.code, self.logs, self.runtime):
                directory.mkdir(exist_ok=True, mode=0o700)

    def make_room(self) -> None:
        """Makes the directories for sockets and scratch space. The caller holds the lock."""
        with self.errors():
            self.run.mkdir(exist_ok=True, mode=0o700)
            _make_private(self.sockets)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Files' errors become `StateUnusable`."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.root
            raise StateUnusable(
                f"the state directory can't be used: {place}: {error.strerror or error}",
                hint="Make it writable, free space, or choose another with FUNKER_STATE_DIR.",
            ) from error

    # Functions

    def records(self) -> dict[str, Record]:
        """All functions, sorted by name. A file that holds none is passed over."""
        found = {}
        with self.errors():
            paths = sorted(self.functions.glob("*.json"), key=lambda path: path.stem)
        for path in paths:
            record = self.record(path.stem)
            if record is not None:
                found[record.name] = record
        return found

    def record(self, name: str) -> Record | None:
        """One function, or None where there is none of this name."""
        try:
            text = (self.functions / f"{name}.json").read_text("utf-8")
            fields = json.loads(text)
            record = Record(
                name=name,
                spec=fields["spec"],
                created=float(fields["created"]),
                updated=float(fields["updated"]),
                pinned=bool(fields.get("pinned")) and fields["spec"].get("scale") is not None,
            )
            # Whatever a hand has changed, nobody must trip over it later.
            _ = record.replicas, record.grace, record.revision, record.snapshot
            _ = record.scale, record.calls
        except FileNotFoundError:
            return None
        except OSError as error:
            with self.errors():
                raise error
        except (ValueError, KeyError, TypeError, AttributeError, SpecError):
            return None
        return record

    def put(self, record: Record) -> None:
        fields = {
            "spec": record.spec,
            "created": record.created,
            "updated": record.updated,
            "pinned": record.pinned,
        }
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        self.write(self.functions / f"{record.name}.json", text)

    def drop(self, name: str) -> None:
        with self.errors():
            (self.functions / f"{name}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes a function meanwhile: read, change, write."""
        with self.errors():
            file = (self.functions / ".lock").open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # The agent

    def hold(self) -> IO[str]:
        """Become the one agent: the lock is held until the file is closed, or the process dies.

        Raises `AgentRunning`.
        """
        with self.errors():
            file = self.lock.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise AgentRunning(
                f"a local controller is up already: {holder} holds {self.lock}",
                hint="`funker down --backend local` ends it.",
            ) from None
        with self.errors():
            file.truncate(0)
            file.write(f"process {os.getpid()}\n")
            file.flush()
        return file

    def write(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        """Replaces a file by one that is complete, on disk, and readable as `mode` says."""
        with self.errors():
            fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(fd, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fchmod(fd, mode)
                    os.fsync(fd)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise


def _make_private(directory: Path) -> None:
    """Make a directory, or insist that it is ours alone: in /tmp others may be there first."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    about = directory.lstat()
    if about.st_uid != os.getuid() or directory.is_symlink() or about.st_mode & 0o077:
        raise StateUnusable(
            f"{directory} isn't private to this user",
            hint="Remove it, or choose a shorter FUNKER_STATE_DIR.",
        )
