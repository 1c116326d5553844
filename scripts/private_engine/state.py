"""What the lab knows about itself: a JSON file, written before each thing is made.

A lab has a slot, a small number from which every name and address derives, so that labs in
different directories never collide: bridge `funkerK`, subnet 10.77.K.0/24, namespace `funkerK-nN`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from private_engine.errors import LabError

DEFAULT_DIRECTORY = Path("/var/lib/funker-lab")
#: Machine-wide, whatever directory a lab has: which packages a lab installed here.
PACKAGES_RECORD = DEFAULT_DIRECTORY / "installed-packages"
#: Likewise: the base image is the same for all labs.
CACHE = DEFAULT_DIRECTORY / "cache"
LOCK = Path("/run/lock/funker-lab.lock")
REGISTRY_PORT = 5000
BASE_IMAGE = "funker-lab/base:latest"
#: Unix socket paths end at 107 bytes; containerd's lie 60 deep under the lab's directory.
MAX_DIRECTORY_LENGTH = 45


@dataclass(frozen=True)
class Process:
    """A process by number and start time (clock ticks since boot), so that a reused number
    is never taken for it."""

    pid: int
    started: int


@dataclass
class Lab:
    """One lab: its directory, its slot and the processes that it started."""

    directory: Path
    slot: int | None = None
    engines: dict[int, Process | None] = field(default_factory=dict)
    registry: Process | None = None
    #: Started by a script that needed it, not by `lab up`: the last such script takes it down.
    temporary: bool = False

    @classmethod
    def load(cls) -> Lab:
        """The lab of FUNKER_LAB_DIR (default /var/lib/funker-lab), whether it is up or not."""
        directory = Path(os.environ.get("FUNKER_LAB_DIR") or DEFAULT_DIRECTORY).absolute()
        if len(str(directory)) > MAX_DIRECTORY_LENGTH:
            raise LabError(
                f"the lab's directory {directory} has too long a path for sockets in it",
                hint=f"set FUNKER_LAB_DIR to one of at most {MAX_DIRECTORY_LENGTH} characters",
            )
        lab = cls(directory)
        try:
            saved = json.loads(lab.file.read_text())
        except FileNotFoundError:
            return lab
        lab.slot = saved["slot"]
        lab.engines = {int(n): Process(**p) if p else None for n, p in saved["engines"].items()}
        lab.registry = Process(**saved["registry"]) if saved["registry"] else None
        lab.temporary = saved.get("temporary", False)
        return lab

    def save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        state = {
            "slot": self.slot,
            "engines": {n: asdict(p) if p else None for n, p in self.engines.items()},
            "registry": asdict(self.registry) if self.registry else None,
            "temporary": self.temporary,
        }
        # Written aside and renamed: a crash in between must not leave half a record.
        aside = self.file.with_suffix(".new")
        aside.write_text(json.dumps(state, indent=2) + "\n")
        aside.rename(self.file)

    @property
    def file(self) -> Path:
        return self.directory / "lab.json"

    @property
    def users(self) -> Path:
        """The lock that every script holds, shared, while it uses the lab."""
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()
        return LOCK.with_name(f"{LOCK.stem}-{digest[:8]}.lock")

    @property
    def bridge(self) -> str:
        return f"funker{self._slot}"

    @property
    def subnet(self) -> str:
        return f"10.77.{self._slot}.0/24"

    @property
    def gateway(self) -> str:
        return f"10.77.{self._slot}.254"

    @property
    def registry_address(self) -> str:
        return f"{self.gateway}:{REGISTRY_PORT}"

    def node(self, number: int) -> Node:
        return Node(self, number)

    @property
    def nodes(self) -> list[Node]:
        return [self.node(number) for number in sorted(self.engines)]

    @property
    def _slot(self) -> int:
        if self.slot is None:
            raise LabError("the lab isn't up", hint="run scripts/lab up")
        return self.slot


@dataclass(frozen=True)
class Node:
    """One engine's names, addresses and places."""

    lab: Lab
    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def directory(self) -> Path:
        return self.lab.directory / self.name

    @property
    def socket(self) -> Path:
        return self.directory / "docker.sock"

    @property
    def host(self) -> str:
        """What DOCKER_HOST takes."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        return self.directory / "dockerd.log"

    @property
    def namespace(self) -> str:
        return f"{self.lab.bridge}-n{self.number}"

    @property
    def cgroup(self) -> str:
        """The parent of every container's cgroup; the same words as the namespace."""
        return self.namespace

    @property
    def link(self) -> str:
        """The end of the node's cable that is plugged into the bridge."""
        return f"{self.lab.bridge}n{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.{self.lab.slot}.{self.number}"

    @property
    def engine(self) -> Process | None:
        return self.lab.engines.get(self.number)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One `up` or `down` at a time on a machine: slots and ip_forward are shared by all labs."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
