"""CURVE keys: who may speak to the router, and how to know it is the router.

Two key pairs: the router's own, and one for its callers and replicas. `funker up` makes them and
keeps them as swarm secrets, which are files of `NAME=value` lines (Z85):

    funker-router-key    ROUTER_PUBLIC, ROUTER_SECRET, CLIENT_PUBLIC
    funker-client-key    ROUTER_PUBLIC, CLIENT_PUBLIC, CLIENT_SECRET
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from funker.rpc.errors import Unauthorized

if TYPE_CHECKING:
    from zmq import Socket

#: The router's alias on the network `funker`, and its port.
ROUTER_NAME, ROUTER_PORT = "funker-router", 5571
#: Characters of a key in Z85.
KEY_LENGTH = 40
#: Where swarm puts the secret of callers and replicas.
CLIENT_FILE = "/run/secrets/funker-client-key"


class Keys(NamedTuple):
    """What one side knows: the router's public key, and its own pair."""

    router: bytes
    public: bytes
    secret: bytes


def router_address(environ: Mapping[str, str]) -> str:
    """Where the router is, as "host:port"; empty where calls are to be direct.

    FUNKER_ROUTER says it (`direct`: there is none). Without it, whoever was given the key looks
    for the router by its name, and whoever wasn't would not be answered there.
    """
    told = environ.get("FUNKER_ROUTER", "")
    if told == "direct":
        return ""
    if not told:
        return f"{ROUTER_NAME}:{ROUTER_PORT}" if os.path.exists(_path(environ)) else ""  # noqa: PTH110
    return told if ":" in told else f"{told}:{ROUTER_PORT}"


def client_keys(environ: Mapping[str, str]) -> Keys | None:
    """The keys of a caller or replica, from FUNKER_KEY_FILE or the secret; None: no file.

    Raises `Unauthorized` for a file that is no such key.
    """
    path = _path(environ)
    try:
        with open(path, encoding="ascii") as file:
            fields = dict(line.strip().split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthorized(f"{path} is no key file: {error}") from None
    names = ("ROUTER_PUBLIC", "CLIENT_PUBLIC", "CLIENT_SECRET")
    wrong = [name for name in names if len(fields.get(name, "")) != KEY_LENGTH]
    if wrong:
        lacks = f"it lacks {' and '.join(wrong)} of {KEY_LENGTH} characters"
        raise Unauthorized(f"{path} is no key file: {lacks}")
    return Keys(*(fields[name].encode() for name in names))


def make_keys() -> tuple[str, str]:
    """New keys: the contents of the secrets `funker-router-key` and `funker-client-key`."""
    import zmq

    router_public, router_secret = (key.decode() for key in zmq.curve_keypair())
    client_public, client_secret = (key.decode() for key in zmq.curve_keypair())
    router = {
        "ROUTER_PUBLIC": router_public,
        "ROUTER_SECRET": router_secret,
        "CLIENT_PUBLIC": client_public,
    }
    client = {
        "ROUTER_PUBLIC": router_public,
        "CLIENT_PUBLIC": client_public,
        "CLIENT_SECRET": client_secret,
    }
    return _key_file(router), _key_file(client)


def _key_file(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in fields.items())


def _path(environ: Mapping[str, str]) -> str:
    return environ.get("FUNKER_KEY_FILE") or CLIENT_FILE


def secure(sock: Socket[bytes], keys: Keys | None) -> None:
    """Have a connecting socket encrypt, prove who it is, and insist on the router's key."""
    if keys is not None:
        import zmq  # not at the top: replicas read their settings before they import it

        sock.setsockopt(zmq.CURVE_SERVERKEY, keys.router)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
