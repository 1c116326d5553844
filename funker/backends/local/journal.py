"""What functions wrote, a file for each, with time, stream and replica before every line.

    2026-01-31T12:00:00.123456Z stdout add.1.0123456789ab the text

Bounded: a file that has grown to `MAX_SIZE` becomes NAME.log.1, in the place of the one before.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from funker.backends.base import LogLine
from funker.backends.loglines import unwrapped

#: Bytes of one file; there are at most two for each function.
MAX_SIZE = 4 * 1024 * 1024
#: Bytes of one line. What is longer is broken up.
MAX_LINE = 16 * 1024
#: Seconds between looks for new lines. No event for a file that grows is portable.
POLL_S = 0.1

Stream = Literal["stdout", "stderr"]


class Lines:
    """Cuts what comes from a pipe into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes; without any, what is left counts as one."""
        if not data:
            rest, self._rest = self._rest, b""
            return [rest] if rest else []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [line[at : at + MAX_LINE] for line in lines for at in range(0, len(line), MAX_LINE)]


class Journal:
    """The agent's end: it alone writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, IO[bytes]] = {}

    def write(self, function: str, replica: str, stream: Stream, lines: list[bytes]) -> None:
        """Adds lines. A log that can't be written (a full disk) must not fail a call."""
        if not lines:
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = f"{now} {stream} {replica} ".encode()
        with contextlib.suppress(OSError):
            file = self._open(function)
            file.write(b"".join(head + line + b"\n" for line in lines))
            if file.tell() > MAX_SIZE:
                self._close(function)
                path = path_of(self._directory, function)
                path.replace(_rolled(path))

    def begin(self, function: str) -> None:
        """Makes the function's log, so that who follows it has it open before its first line."""
        with contextlib.suppress(OSError):
            self._open(function)

    def forget(self, function: str) -> None:
        """Removes the function's log."""
        self._close(function)
        path = path_of(self._directory, function)
        for old in (path, _rolled(path)):
            with contextlib.suppress(OSError):
                old.unlink(missing_ok=True)

    def close(self) -> None:
        for function in list(self._files):
            self._close(function)

    def _open(self, function: str) -> IO[bytes]:
        if function not in self._files:
            # Unbuffered: who follows sees a line when it is written, whole.
            self._files[function] = path_of(self._directory, function).open("ab", buffering=0)
        return self._files[function]

    def _close(self, function: str) -> None:
        file = self._files.pop(function, None)
        if file is not None:
            file.close()


def _rolled(path: Path) -> Path:
    """The older one."""
    return path.with_name(f"{path.name}.1")


def path_of(directory: Path, function: str) -> Path:
    return directory / f"{function}.log"


def read(
    path: Path,
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
) -> Iterator[LogLine]:
    """The lines of a log; with `follow` also those to come, until the log is removed.

    None is missed from here on, even if the log is removed before the first line is asked for.
    """
    file = _opened(path)
    return _lines(path, file, follow=follow, tail=tail, since=since, timestamps=timestamps)


def _lines(
    path: Path,
    file: IO[bytes] | None,
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
) -> Iterator[LogLine]:
    try:
        kept = _older(path) + (file.readlines() if file else [])
        lines = [line for line in kept if since is None or _time(line) >= since]
        for line in lines[len(lines) - tail if tail is not None and tail < len(lines) else 0 :]:
            yield from _line(line, timestamps=timestamps)
        while follow:
            line = file.readline() if file else b""
            if line.endswith(b"\n"):
                yield from _line(line, timestamps=timestamps)
                continue
            if file and line:  # the rest is just being written
                file.seek(-len(line), os.SEEK_CUR)
            following = _opened(path)
            if file and not following and not _rolled(path).exists():
                return  # the function is gone, and its log with it
            if following and (not file or not _same(following, file)):
                if file:
                    file.close()
                file = following
                continue
            if following:
                following.close()
            time.sleep(POLL_S)
    finally:
        if file:
            file.close()


def _opened(path: Path) -> IO[bytes] | None:
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    return None


def _older(path: Path) -> list[bytes]:
    with contextlib.suppress(FileNotFoundError):
        return _rolled(path).read_bytes().splitlines(keepends=True)
    return []


def _same(one: IO[bytes], other: IO[bytes]) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())


def _time(line: bytes) -> float:
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(line.partition(b" ")[0].decode()).timestamp()
    return 0.0


def _line(line: bytes, *, timestamps: bool) -> Iterator[LogLine]:
    parts = line.decode(errors="replace").rstrip("\n").split(" ", 3)
    if len(parts) == 4:  # else it is half a line of a disk that was full
        at, stream, replica, text = parts
        name, _, task = replica.rpartition(".")
        yield unwrapped(
            LogLine(
                text=text,
                stream="stderr" if stream == "stderr" else "stdout",
                replica=name,
                task=task,
                time=at if timestamps else "",
            )
        )
