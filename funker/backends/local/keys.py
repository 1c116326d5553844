"""The keys of a local controller: files of the same form as the swarm's secrets."""

from __future__ import annotations

from funker.backends.local.state import StateDirectory
from funker.rpc.keys import make_keys


def ensure(state: StateDirectory) -> None:
    """Makes both files unless they are there: after a crash, replicas still hold the old ones.

    The caller holds the lock.
    """
    if not (state.client_key.exists() and state.router_key.exists()):
        router, client = make_keys(address=state.router_endpoint)
        state.write(state.router_key, router)
        state.write(state.client_key, client)
