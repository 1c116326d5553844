"""Where fetched repositories are kept: one shelf in the user's cache for each repository and ref.

    $XDG_CACHE_HOME/funker/sources/HASH/
        lock           held by the command that fetches; another waits for it
        current.json   which commit is the newest here, replaced as a whole
        COMMIT/        its files, without `.git`
        COMMIT.lock    held (shared) by each command that reads them

A copy never changes once it is there. A newer one lies beside it, and the older goes when nobody
reads it any more, so that an update doesn't pull the files from under a build.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

#: A commit's whole name. SHA-1, or SHA-256 in newer repositories.
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

_FETCHING = "fetching-"


class Copy(NamedTuple):
    """What is on a shelf."""

    commit: str
    kind: str  # of what the address names: "branch", "tag" or "commit", which never changes
    fetched: float  # when it was the remote's newest; seconds since 1970


class Shelf:
    """The place of one repository at one ref. Any method may raise `OSError`.

    All but `path` is for whoever holds the lock.
    """

    def __init__(self, url: str, ref: str) -> None:
        url = url.removesuffix("/").removesuffix(".git")
        key = hashlib.sha256(json.dumps([url, ref]).encode()).hexdigest()
        self.directory = _cache() / "funker" / "sources" / key[:24]

    def path(self, copy: Copy) -> Path:
        """Where the files of a copy are."""
        return self.directory / copy.commit

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the shelf. `waiting` is called if another command does."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            if not _lock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def reading(self, copy: Copy) -> Iterator[None]:
        """Keep a copy's files in place. To be begun under the lock; it may end later."""
        with self._lock_file(copy.commit).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def current(self) -> Copy | None:
        """The newest copy; None if there is none that can be used."""
        try:
            noted = json.loads((self.directory / "current.json").read_bytes())
            copy = Copy(str(noted["commit"]), str(noted["kind"]), float(noted["fetched"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return copy if COMMIT.fullmatch(copy.commit) and self.path(copy).is_dir() else None

    def note(self, copy: Copy, *, repository: str, ref: str) -> None:
        """Make a copy the newest. What it is of is written for people who look."""
        text = json.dumps({"repository": repository, "ref": ref, **copy._asdict()})
        new = self.directory / "current.json.new"
        new.write_text(text)
        new.replace(self.directory / "current.json")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory to fetch into, removed afterwards."""
        with tempfile.TemporaryDirectory(prefix=_FETCHING, dir=self.directory) as scratch:
            yield Path(scratch)

    def put(self, files: Path, copy: Copy) -> None:
        """Move files to their place, unless they are there."""
        if not self.path(copy).exists():
            files.rename(self.path(copy))

    def clear(self, *, keep: Copy) -> None:
        """Remove older copies that nobody reads, and what a killed command left half fetched."""
        for entry in self.directory.iterdir():
            if entry.name.startswith(_FETCHING):
                shutil.rmtree(entry)
            elif COMMIT.fullmatch(entry.name) and entry.name != keep.commit:
                with self._lock_file(entry.name).open("w") as lock:
                    if _lock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                        shutil.rmtree(entry)
                        self._lock_file(entry.name).unlink()

    def _lock_file(self, commit: str) -> Path:
        return self.directory / f"{commit}.lock"


def _cache() -> Path:
    chosen = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    return True
