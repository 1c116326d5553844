"""Where the local controller's things are. Light: every command asks whether there is one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

#: Bytes of a socket's path. The limit is 107 on Linux and 103 on macOS; the router and the
#: replicas have names of at most `_LONGEST` under the directory.
MAX_SOCKET_PATH = 103
_LONGEST = len("/replica-0123456789ab")


def root(environ: Mapping[str, str]) -> str:
    """The state directory: FUNKER_STATE_DIR, else the user's own by the XDG's rules."""
    if told := environ.get("FUNKER_STATE_DIR"):
        return os.path.abspath(told)  # noqa: PTH100 - pathlib is half of this module's cost
    home = environ.get("XDG_STATE_HOME") or ""
    if not home.startswith("/"):  # relative ones are to be ignored, says the XDG
        home = f"{environ.get('HOME') or os.path.expanduser('~')}/.local/state"  # noqa: PTH111
    return f"{home}/funker"


def sockets(root: str) -> str:
    """In the state directory, or, if such paths are too long for sockets, a private place in /tmp.

    Never a TCP port: every user of the machine could connect to a replica's.
    """
    own = f"{root}/sockets"
    if len(os.fsencode(own)) + _LONGEST <= MAX_SOCKET_PATH:
        return own
    which = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    return f"/tmp/funker-{os.getuid()}-{which}"  # noqa: S108 - the agent insists that it is its own


def agent_socket(root: str) -> str:
    """Where the agent answers."""
    return f"{sockets(root)}/agent"
