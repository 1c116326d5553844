"""The router without Docker: calls and questions to an address that it is known by."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from funker.cli.failures import UsageError

if TYPE_CHECKING:
    from funker.rpc.ways import Ways


def address(told: str | None) -> str:
    """The address in `--router` or FUNKER_ROUTER; empty: the way is the backend's to find.

    Raises UsageError for what is none.
    """
    if not told or told == "direct":
        return ""
    return told if "://" in told else checked(told, "--router")


def checked(text: str, flag: str) -> str:
    """An address whose port, if it has one, is a port. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if colon and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{flag}: {text!r} has no port number", hint="Write HOST:PORT.")
    return text


@contextlib.contextmanager
def opened(address: str) -> Iterator[Ways]:
    """The router there, for calls and for questions.

    Raises `Unauthorized` for a key file that is none.
    """
    from funker.rpc.ways import Ways, open_ways

    way = open_ways({**os.environ, "FUNKER_ROUTER": address})
    assert isinstance(way, Ways)  # an address was given
    try:
        yield way
    finally:
        way.close()
