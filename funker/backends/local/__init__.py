"""Functions as processes of this machine, with no engine: the backend `local`.

    agent        the process in the background: keeps the replicas, the router and the reconciler
    pool         which replicas of one function to start and stop (pure)
    replica      one replica's process, from its start to the last of its output
    state        the directory with the functions' desired state; `sweep` clears up in it
    backend      what the command line asks for; `fleet` is what the reconciler asks for

Desired state is written by whoever wants something, and read by the agent: the files are all that
outlives it. Replicas, router and reconciler notice when the agent dies, and leave.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from funker.backends.local import places


def running(environ: Mapping[str, str]) -> bool:
    """Whether a local controller of this user is up. Takes well under a millisecond."""
    path = places.agent_socket(places.root(environ))
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:  # no such file, or one that nobody listens on any more
            return False
    return True
