"""What a replica's log says: the text that a call printed, out of the line that its front wrote.

A front writes `{"time":…,"function":…,"call":…,"stream":…,"text":…}`; a replica of an older
version, a front that was told FUNKER_LOG=plain, and whatever else runs in a container write lines
of their own.
"""

from __future__ import annotations

import json
from dataclasses import replace

from funker.backends.base import LogLine

_BEGINNING = '{"time":'
_KEYS = {"time", "function", "call", "stream", "text"}


def unwrapped(line: LogLine) -> LogLine:
    """The line with what was printed, and by which call; one of another form as it is."""
    if not line.text.startswith(_BEGINNING):
        return line
    try:
        told = json.loads(line.text)
    except ValueError:
        return line
    if not isinstance(told, dict) or set(told) != _KEYS or not isinstance(told["text"], str):
        return line
    return replace(line, text=told["text"], call=str(told["call"] or ""))
