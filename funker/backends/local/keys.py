"""The keys of a local controller: files of the same form as the swarm's secrets."""

from __future__ import annotations

import zmq

from funker.backends.local.state import StateDirectory


def ensure(state: StateDirectory) -> None:
    """Makes both files unless they are there: after a crash, replicas still hold the old ones.

    The caller holds the lock.
    """
    if state.client_key.exists() and state.router_key.exists():
        return
    router_public, router_secret = (key.decode() for key in zmq.curve_keypair())
    client_public, client_secret = (key.decode() for key in zmq.curve_keypair())
    lines = {
        "ROUTER_PUBLIC": router_public,
        "ROUTER_SECRET": router_secret,
        "CLIENT_PUBLIC": client_public,
    }
    state.write(state.router_key, _text(lines))
    lines = {
        "ROUTER_ADDRESS": state.router_endpoint,
        "ROUTER_PUBLIC": router_public,
        "CLIENT_PUBLIC": client_public,
        "CLIENT_SECRET": client_secret,
    }
    state.write(state.client_key, _text(lines))


def _text(lines: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in lines.items())
