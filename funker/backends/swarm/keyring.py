"""The controller's keys as secrets of the swarm: made once, never read back by the API.

Two secrets belong together: what one says of the other's key has to be true. A label that both
bear tells whether they do. (Keys of single functions will be further secrets with the client's
name as the beginning of theirs.)
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import docker.errors

from funker.backends.base import MissingResource, Progress
from funker.backends.swarm.engine import Engine
from funker.rpc.keys import make_keys

ROUTER_SECRET, CLIENT_SECRET = "funker-router-key", "funker-client-key"
#: On both secrets: which pair they are. Secrets that users made themselves lack it.
PAIR_LABEL = "funker.keys"

#: Seconds for somebody else, who is making the keys at the same time, to make the second one.
_PATIENCE = 5.0


def ensure(engine: Engine, *, progress: Progress) -> list[str]:
    """Makes the two secrets unless they are there; what was changed, a line for each.

    Raises `MissingResource` if they are there but don't belong together.
    """
    with engine.errors():
        if not _found(engine):
            return _make(engine, progress)
        give_up = time.monotonic() + _PATIENCE
        while len(found := _found(engine)) < 2 and time.monotonic() < give_up:
            time.sleep(0.1)
    _check(found)
    return []


def identities(engine: Engine) -> dict[str, str]:
    """The IDs of the secrets that are there, by name."""
    with engine.errors():
        return {name: str(secret["ID"]) for name, secret in _found(engine).items()}


def users(engine: Engine) -> list[str]:
    """The names of the services that hold one of the keys."""
    with engine.errors():
        return sorted(
            service["Spec"]["Name"]
            for service in engine.api.services()
            if any(
                secret["SecretName"] in (ROUTER_SECRET, CLIENT_SECRET)
                for secret in (service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}).get(
                    "Secrets"
                )
                or []
            )
        )


def remove(engine: Engine) -> list[str]:
    """Removes those that are there; what was changed, a line for each."""
    with engine.errors():
        found = _found(engine)
        for secret in found.values():
            engine.api.remove_secret(secret["ID"])
    return [f"removed the secret {name}" for name in found]


def _make(engine: Engine, progress: Progress) -> list[str]:
    router, client = make_keys()
    labels = {PAIR_LABEL: hashlib.sha256(router.encode()).hexdigest()[:16]}
    lines = []
    for name, content in ((ROUTER_SECRET, router), (CLIENT_SECRET, client)):
        progress(f"creating the secret {name}")
        try:
            engine.api.create_secret(name, content.encode(), labels=labels)
        except docker.errors.APIError as exc:
            if exc.status_code != 409:
                raise
            return ensure(engine, progress=progress)  # somebody else was faster: those count
        lines.append(f"created the secret {name}")
    return lines


def _found(engine: Engine) -> dict[str, dict[str, Any]]:
    secrets = {secret["Spec"]["Name"]: secret for secret in engine.api.secrets()}
    return {name: secrets[name] for name in (ROUTER_SECRET, CLIENT_SECRET) if name in secrets}


def _check(found: dict[str, dict[str, Any]]) -> None:
    remedy = (
        "Take the controller down (`funker down`), remove what is left of them (`docker secret rm "
        f"{' '.join(found)}`), bring it up again, and deploy the functions again: they hold the "
        "old key."
    )
    if len(found) < 2:
        (there,) = found
        missing = CLIENT_SECRET if there == ROUTER_SECRET else ROUTER_SECRET
        raise MissingResource(
            f"the swarm has the secret {there}, but not {missing}, which belongs to it",
            hint=remedy,
        )
    pairs = {(secret["Spec"].get("Labels") or {}).get(PAIR_LABEL) for secret in found.values()}
    if len(pairs) > 1:
        raise MissingResource(
            f"the secrets {' and '.join(found)} don't belong together", hint=remedy
        )
