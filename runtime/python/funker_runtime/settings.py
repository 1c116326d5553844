"""What a replica is told by its environment, and what it finds out about itself.

FUNKER_FUNCTION   its name; else the name that the network's DNS has for its address
FUNKER_ALIASES    more names that callers may use, separated by commas
FUNKER_HANDLER    module:callable (handler:handle)
FUNKER_COMMAND    a program instead, as a JSON array or a line; the replica's arguments are one, too
FUNKER_CONTENT_TYPE  of a program's answers (guessed)
FUNKER_TIMEOUT    for the handler: seconds, or with a unit: 500ms, 30s, 5m, 1h (60s)
FUNKER_MAX_BODY   bytes of a call's or an answer's body (16777216)
FUNKER_LISTEN     ZeroMQ endpoint (tcp://*:5570 in a container, else tcp://127.0.0.1:5570)
FUNKER_ROUTER     host:port of the router, or `direct`: none (funker-router, given its key)
FUNKER_KEY_FILE   the router's key for replicas (/run/secrets/funker-client-key; see rpc/keys.py)
FUNKER_REPLICA    its own name in answers and logs (the task's or the host's)
FUNKER_ISOLATION  container: one call, then the replica ends; process: a fresh process for each
FUNKER_SLOTS      with `process`: calls at once (as many as there are CPUs for it)
FUNKER_ULIMITS    limits of each call's process: as=BYTES,cpu=SECONDS,fsize=BYTES,nofile=N,nproc=N
FUNKER_LOG        json or plain: what the log's lines are (json; plain on a terminal)
FUNKER_LOG_LIMIT  bytes that a call may log (1048576)
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from funker.rpc.errors import FunkerError
from funker.rpc.keys import client_keys, router_address
from funker.rpc.messages import MAX_BODY, REPLICA_PORT
from funker_runtime import kernel
from funker_runtime.events import Identity
from funker_runtime.loader import DEFAULT_HANDLER

DEFAULT_TIMEOUT_S = 60.0
#: Calls at once in one replica, at most.
MAX_SLOTS = 1024
#: Bytes that a call may log, unless it is told otherwise.
LOG_LIMIT = 1024 * 1024

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class SettingError(Exception):
    """Raised when a variable can't be understood. Names it and says what it takes."""


class Settings(NamedTuple):
    handler: str = DEFAULT_HANDLER
    timeout: float = DEFAULT_TIMEOUT_S
    max_body: int = MAX_BODY
    listen: str = f"tcp://127.0.0.1:{REPLICA_PORT}"
    router: str = ""
    log: str = "json"
    log_limit: int = LOG_LIMIT
    isolation: str = "container"
    slots: int = 1
    ulimits: Mapping[str, int] = {}


def settings(environ: Mapping[str, str]) -> Settings:
    """The settings in an environment. Raises `SettingError`."""
    isolation = _isolation(environ)
    return Settings(
        handler=environ.get("FUNKER_HANDLER") or DEFAULT_HANDLER,
        timeout=_seconds("FUNKER_TIMEOUT", environ.get("FUNKER_TIMEOUT") or "60s"),
        max_body=_bytes("FUNKER_MAX_BODY", environ.get("FUNKER_MAX_BODY") or str(MAX_BODY)),
        listen=endpoint(environ),
        router=_router(environ),
        log=_log(environ),
        log_limit=_bytes("FUNKER_LOG_LIMIT", environ.get("FUNKER_LOG_LIMIT") or str(LOG_LIMIT)),
        isolation=isolation,
        slots=_slots(environ) if isolation == "process" else 1,
        ulimits=_ulimits(environ),
    )


def _isolation(environ: Mapping[str, str]) -> str:
    isolation = environ.get("FUNKER_ISOLATION") or "container"
    if isolation not in ("container", "process"):
        raise SettingError(f"FUNKER_ISOLATION: expected container or process, got {isolation!r}")
    if isolation == "process" and not kernel.LINUX:
        raise SettingError("FUNKER_ISOLATION: `process` needs Linux; use `container`")
    return isolation


def _slots(environ: Mapping[str, str]) -> int:
    text = environ.get("FUNKER_SLOTS") or str(_cpus())
    if not (re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= MAX_SLOTS):
        raise SettingError(f"FUNKER_SLOTS: expected a number from 1 to {MAX_SLOTS}, got {text!r}")
    return int(text)


def _cpus() -> int:
    """The CPUs that this process may use, by its affinity and its control group's quota."""
    cpus = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = file.read().split()
        cpus = min(cpus, math.ceil(int(quota) / int(period)))  # "max" is no number
    return max(1, cpus)


def _ulimits(environ: Mapping[str, str]) -> Mapping[str, int]:
    if not (text := environ.get("FUNKER_ULIMITS")):
        return {}
    from funker_runtime import limits  # most functions have none

    try:
        return limits.parse(text)
    except ValueError as error:
        raise SettingError(f"FUNKER_ULIMITS: {error}") from None


def _log(environ: Mapping[str, str]) -> str:
    form = environ.get("FUNKER_LOG") or ("plain" if os.isatty(1) else "json")
    if form not in ("json", "plain"):
        raise SettingError(f"FUNKER_LOG: expected json or plain, got {form!r}")
    return form


def _router(environ: Mapping[str, str]) -> str:
    try:
        if address := router_address(environ):
            client_keys(environ)  # here, where a file that is no key can still be told to callers
    except FunkerError as error:
        raise SettingError(f"{error.message}: {error.hint}" if error.hint else str(error)) from None
    return address


def endpoint(environ: Mapping[str, str]) -> str:
    """Where the replica listens. Never fails: also a replica with bad settings has to say so."""
    host = "*" if _in_container() else "127.0.0.1"
    return environ.get("FUNKER_LISTEN") or f"tcp://{host}:{REPLICA_PORT}"


def identity(environ: Mapping[str, str], default: str) -> Identity:
    """Who this replica is. Asks the network's DNS where FUNKER_FUNCTION isn't set.

    A service in a stack file isn't told its own name, and a caller must not be answered by a
    function that has inherited an address: so the name that DNS has for this address is it.
    """
    function, replica = environ.get("FUNKER_FUNCTION", ""), environ.get("FUNKER_REPLICA", "")
    if not function:
        from funker_runtime import dns  # most replicas are told

        known = dns.own_name()
        function, _, rest = known.partition(".")
        # Swarm names a task's address service.slot.task.network, a container's name.network.
        replica = replica or (".".join(known.split(".")[:3]) if rest.count(".") > 1 else "")
    function = function or default
    aliases = [alias.strip() for alias in environ.get("FUNKER_ALIASES", "").split(",")]
    return Identity(
        function=function,
        names=tuple(dict.fromkeys([function, *_short_names(function), *filter(None, aliases)])),
        replica=replica or socket.gethostname(),
        session=os.urandom(16).hex(),
        node=environ.get("FUNKER_NODE", ""),
        version=environ.get("FUNKER_VERSION", ""),
    )


def _short_names(function: str) -> list[str]:
    """In stack `shop`, service `add` is named `shop_add` and has the network alias `add`."""
    return [function[at + 1 :] for at, c in enumerate(function) if c == "_" and function[at + 1 :]]


def _in_container() -> bool:
    return os.path.exists("/.dockerenv")  # noqa: PTH110 - pathlib costs 5 ms of the start


def _seconds(name: str, text: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s|m|h|)\s*", text)
    try:
        seconds = float(match[1]) * _UNITS[match[2]] if match else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SettingError(f"{name}: expected a time such as 500ms, 30s or 5m, got {text!r}")
    return seconds


def _bytes(name: str, text: str) -> int:
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*", text)  # no more than a socket option holds
    if match is None or int(match[1]) == 0:
        raise SettingError(f"{name}: expected a number of bytes such as 16777216, got {text!r}")
    return int(match[1])
