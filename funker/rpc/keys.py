"""Whom calls go to, and with which CURVE keys.

Two key pairs: the router's own, and one for its callers and replicas. `funker up` makes them and
keeps them as swarm secrets, which are files of `NAME=value` lines (keys in Z85):

    funker-router-key    ROUTER_PUBLIC, ROUTER_SECRET, CLIENT_PUBLIC
    funker-client-key    ROUTER_PUBLIC, CLIENT_PUBLIC, CLIENT_SECRET, perhaps ROUTER_ADDRESS

Who is a caller or replica finds its file, the first of these:

    FUNKER_KEY_FILE                    if it is set
    /run/secrets/funker-client-key     where swarm puts the secret
    client-key                         in the local controller's directory: FUNKER_STATE_DIR,
                                       else $XDG_STATE_HOME/funker, else ~/.local/state/funker
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from funker.rpc.errors import FunkerError, Unauthorized

if TYPE_CHECKING:
    from zmq import Socket

#: The router's alias on the network `funker`, its port, and the one that the reconciler uses.
ROUTER_NAME, ROUTER_PORT, CONTROL_PORT = "funker-router", 5571, 5572
#: Characters of a key in Z85.
KEY_LENGTH = 40
#: Where swarm puts the secret of callers and replicas.
CLIENT_FILE = "/run/secrets/funker-client-key"
#: Its name in the local controller's directory.
LOCAL_FILE = "client-key"

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_CLIENT = ("ROUTER_PUBLIC", "CLIENT_PUBLIC", "CLIENT_SECRET")
_TAKES = "expected HOST:PORT or an endpoint such as ipc:///run/funker/router"


class Keys(NamedTuple):
    """What one side knows: the router's public key, and its own pair."""

    router: bytes
    public: bytes
    secret: bytes


class KeyFile(NamedTuple):
    """A client's key file, and when it was written (ns): another time, another file."""

    path: str
    written: int


def find_client_file(environ: Mapping[str, str]) -> KeyFile | None:
    """The key file of a caller or replica; None if there is none. Two calls of stat at most."""
    if told := environ.get("FUNKER_KEY_FILE"):
        return _there(told)
    return _there(CLIENT_FILE) or ((path := _local_file(environ)) and _there(path)) or None


def _local_file(environ: Mapping[str, str]) -> str:
    if told := environ.get("FUNKER_STATE_DIR"):
        return f"{told}/{LOCAL_FILE}"
    if (told := environ.get("XDG_STATE_HOME", "")).startswith("/"):  # others are to be ignored
        return f"{told}/funker/{LOCAL_FILE}"
    home = environ.get("HOME")
    return f"{home}/.local/state/funker/{LOCAL_FILE}" if home else ""


def _there(path: str) -> KeyFile | None:
    try:
        return KeyFile(path, os.stat(path).st_mtime_ns)  # noqa: PTH116 - pathlib costs 5 ms
    except OSError:  # in a directory that isn't ours: as good as none
        return None


def router_address(environ: Mapping[str, str]) -> str:
    """Where the router is: "host:port", or a ZeroMQ endpoint; empty where calls are to be direct.

    FUNKER_ROUTER says it (`direct`: there is none), else the key file. If neither does, whoever
    was given a key looks for the router by its name, and whoever wasn't would not be answered
    there. Raises `FunkerError` for what is no address, `Unauthorized` for a file that is no key.
    """
    told = environ.get("FUNKER_ROUTER", "")
    if told == "direct":
        return ""
    if told:
        return _address(told, "FUNKER_ROUTER")
    if (file := find_client_file(environ)) is None:
        return ""
    told = read(file.path, *_CLIENT).get("ROUTER_ADDRESS", ROUTER_NAME)
    return _address(told, f"{file.path}: ROUTER_ADDRESS")


def _address(told: str, where: str) -> str:
    if "://" in told:
        return told
    host, colon, port = told.rpartition(":")
    if not colon:
        return f"{told}:{ROUTER_PORT}"
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise FunkerError(f"{where}: {_TAKES}, got {told[:60]!r}")
    return told


def router_wait(environ: Mapping[str, str], default: float) -> float:
    """Seconds that FUNKER_ROUTER_WAIT gives a router to appear. Raises `FunkerError`."""
    told = environ.get("FUNKER_ROUTER_WAIT") or default
    try:
        seconds = float(told)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise FunkerError(f"FUNKER_ROUTER_WAIT: expected a number of seconds, got {told!r}")
    return seconds


def client_keys(environ: Mapping[str, str]) -> Keys | None:
    """The keys of a caller or replica; None: it has no file.

    Raises `Unauthorized` for a file that is no such key.
    """
    if (file := find_client_file(environ)) is None:
        return None
    fields = read(file.path, *_CLIENT)
    return Keys(*(fields[name].encode() for name in _CLIENT))


def read(path: str, *names: str) -> dict[str, str]:
    """The fields of a key file, `names` among them, which are keys.

    Raises `Unauthorized` if it can't be read or one of them is missing or no key.
    """
    hint = "`funker up` makes the key files; FUNKER_KEY_FILE names another one"
    try:
        with open(path, encoding="ascii") as file:
            fields = parse(file.read())
    except PermissionError as error:
        hint = "mount the secret with mode 0444, or run as a user who may read it"
        raise Unauthorized(f"{path} can't be read: {error.strerror}", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthorized(f"{path} is no key file: {error}", hint=hint) from None
    wrong = [name for name in names if not _is_key(fields.get(name, ""))]
    if wrong:
        lacks = f"it lacks {' and '.join(wrong)} of {KEY_LENGTH} characters Z85"
        raise Unauthorized(f"{path} is no key file: {lacks}", hint=hint)
    return fields


def parse(text: str) -> dict[str, str]:
    """The `NAME=value` lines of a key file; others are passed over."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _is_key(text: str) -> bool:
    """Whether ZeroMQ takes it: groups of five digits to the base 85, each of 32 bits."""
    if len(text) != KEY_LENGTH or not set(text) <= set(_Z85):
        return False
    groups = [text[at : at + 5] for at in range(0, KEY_LENGTH, 5)]
    return all(
        sum(_Z85.index(digit) * 85**place for place, digit in enumerate(reversed(group))) < 2**32
        for group in groups
    )


def make_keys(*, address: str = "") -> tuple[str, str]:
    """New keys: the texts of the router's key file and of its clients'.

    With `address`, clients find the router there unless FUNKER_ROUTER says otherwise.
    """
    import zmq

    router, router_secret = zmq.curve_keypair()
    client, client_secret = zmq.curve_keypair()
    own = {"ROUTER_PUBLIC": router, "ROUTER_SECRET": router_secret, "CLIENT_PUBLIC": client}
    given = {"ROUTER_PUBLIC": router, "CLIENT_PUBLIC": client, "CLIENT_SECRET": client_secret}
    end = f"ROUTER_ADDRESS={address}\n" if address else ""
    return _text(own), _text(given) + end


def _text(keys: Mapping[str, bytes]) -> str:
    return "".join(f"{name}={key.decode()}\n" for name, key in keys.items())


def secure(sock: Socket[bytes], keys: Keys | None) -> None:
    """Have a connecting socket encrypt, prove who it is, and insist on the router's key."""
    if keys is not None:
        import zmq  # not at the top: replicas read their settings before they import it

        sock.setsockopt(zmq.CURVE_SERVERKEY, keys.router)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
