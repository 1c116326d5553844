"""The tar file that a build starts from. Its bytes depend on names and contents alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from typing import IO

from funker.images.source import SourceFile

#: Stamped on every file, so that layers don't differ by time. 1980 and not 1970, which zip files
#: can't hold.
MODIFIED = 315532800


def write_context(
    target: IO[bytes], extra: Mapping[str, bytes], files: Iterable[tuple[str, SourceFile]]
) -> None:
    """Write contents given as bytes, then files of a source, under the names given with them."""
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in sorted(extra.items()):
            info = _entry(name, tarfile.REGTYPE, executable=False)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, file in files:
            if file.content is not None:
                info = _entry(name, tarfile.REGTYPE, executable=file.executable)
                info.size = len(file.content)
                tar.addfile(info, io.BytesIO(file.content))
            elif file.kind == "file":
                info = _entry(name, tarfile.REGTYPE, executable=file.executable)
                with file.location.open("rb") as content:
                    info.size = file.location.stat().st_size
                    tar.addfile(info, content)
            elif file.kind == "link":
                info = _entry(name, tarfile.SYMTYPE, executable=True)
                info.linkname = file.digest
                tar.addfile(info)
            else:
                tar.addfile(_entry(name, tarfile.DIRTYPE, executable=True))


def _entry(name: str, type: bytes, *, executable: bool) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = type
    info.mode = 0o755 if executable else 0o644
    info.mtime = MODIFIED
    return info
