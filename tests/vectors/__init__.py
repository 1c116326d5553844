"""The test vectors of the wire protocol, read as the README beside them says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("messages.json").read_text(encoding="utf-8")
)


def frame(written: Any) -> bytes:
    """A frame's bytes, from how a vector writes it."""
    match written:
        case str():
            return written.encode()
        case {"base64": text}:
            return base64.b64decode(text)
        case {"repeat": text, "times": times}:
            return str(text).encode() * int(times)
        case list():
            return b"".join(map(frame, written))
    raise AssertionError(f"no frame: {written!r}")
