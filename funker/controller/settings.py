"""What the router's environment says.

FUNKER_LISTEN           where callers and replicas come, a ZeroMQ endpoint (tcp://*:5571)
FUNKER_CONTROL          where the reconciler comes (tcp://*:5572)
FUNKER_ROUTER_KEY_FILE  the router's keys (the swarm secret funker-router-key)
FUNKER_INSECURE=1       no keys, and everybody is heard: for tests alone
FUNKER_MAX_BODY         bytes of a body that passes (268435456); each function has its own limit,
                        which its callers and replicas keep
FUNKER_QUEUE_LIMIT      calls that wait for one function (16384)
FUNKER_QUEUE_BYTES      bytes of all calls that wait (268435456)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from funker.controller.doorman import KEY_FILE, RouterKeys, router_keys
from funker.controller.tables import Limits
from funker.rpc.errors import FunkerError
from funker.rpc.keys import CONTROL_PORT, ROUTER_PORT

#: Bytes: as much as may wait in all.
MAX_BODY = Limits().queued_bytes


class Settings(NamedTuple):
    """All that a router is started with. `keys` is None where everybody is heard."""

    listen: str
    control: str
    keys: RouterKeys | None = None
    max_body: int = MAX_BODY
    limits: Limits = Limits()


def settings(environ: Mapping[str, str]) -> Settings:
    """Read them. Raises `FunkerError`."""
    keys = None
    if environ.get("FUNKER_INSECURE") != "1":
        keys = router_keys(environ.get("FUNKER_ROUTER_KEY_FILE") or KEY_FILE)
    defaults = Limits()
    return Settings(
        listen=environ.get("FUNKER_LISTEN") or f"tcp://*:{ROUTER_PORT}",
        control=environ.get("FUNKER_CONTROL") or f"tcp://*:{CONTROL_PORT}",
        keys=keys,
        max_body=_number(environ, "FUNKER_MAX_BODY", MAX_BODY),
        limits=defaults._replace(
            queue=_number(environ, "FUNKER_QUEUE_LIMIT", defaults.queue),
            queued_bytes=_number(environ, "FUNKER_QUEUE_BYTES", defaults.queued_bytes),
        ),
    )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise FunkerError(f"{name}: expected a number above 0, got {value!r}")
    return int(value)
