"""Trying a new version beside the one that serves, before that is touched.

An update replaces replicas one by one, and each call uses one up: a version that doesn't come up
would eat what works. So a *trial* comes first: a service of its own with one replica of the new
version, whose handler has to load. It isn't a function: it joins no router, has no alias, and
nobody calls it. It is removed whatever becomes of it; that of a deploy that was killed goes with
the next deploy or removal of its function, or after a while by itself.
"""

from __future__ import annotations

import contextlib
import copy
import secrets
import time
from collections.abc import Callable
from typing import Any

import docker.errors

from funker.backends.base import BackendError, DeployFailed, ImageMissing, NoNodeFits, Progress
from funker.backends.swarm import advice, entrance, report, rollout, servicelog
from funker.backends.swarm.engine import Engine
from funker.backends.swarm.report import Service
from funker.backends.swarm.store import Store
from funker.rpc.errors import CallError
from funker.spec.values import MAX_NAME

#: On the trial's service, with the name of the function that it is for.
LABEL = "funker.trial"
#: Seconds after which a trial is nobody's any more: a deploy's patience, twice.
OLD = 2 * rollout.PATIENCE
#: Lines of its output that a failed one shows.
_TAIL = 20


def run(engine: Engine, wanted: dict[str, Any], *, progress: Progress) -> None:
    """Returns once a replica of this version has loaded its handler.

    `wanted` is the service's spec. Raises `DeployFailed`, `NoNodeFits` or `ImageMissing`, which
    say that the version before still serves, or another `BackendError`.
    """
    name = str(wanted["Name"])
    store = Store(engine)
    clear(engine, name)
    progress(f"{name}: trying the new version beside the old one")
    spec = trial_spec(wanted, secrets.token_hex(2))
    store.create(spec)
    service = store.existing(spec["Name"])
    try:
        _watch(engine, store, name, service, progress)
    except (DeployFailed, NoNodeFits, ImageMissing) as error:
        told = f"The version of {name} that was deployed before still serves."
        if isinstance(error, DeployFailed):
            error.hint = ""  # it sends its reader to what is gone by then
            with contextlib.suppress(BackendError):  # somebody else has removed it
                error.output_tail = servicelog.tail(engine, service, _TAIL)
        error.hint = f"{error.hint} {told}".strip()
        raise
    finally:
        _remove(engine, service)


def trial_spec(wanted: dict[str, Any], nonce: str) -> dict[str, Any]:
    """The service of a trial for this one. Pure."""
    function = str(wanted["Name"])
    name = f"{function[: MAX_NAME - len('-trial-') - len(nonce)].rstrip('-_')}-trial-{nonce}"
    template = copy.deepcopy(wanted["TaskTemplate"])
    container = template["ContainerSpec"]
    variables = {
        **advice.variables(container),
        "FUNKER_FUNCTION": function,  # what its handler may ask for
        "FUNKER_ALIASES": name,  # what it is asked by
        "FUNKER_ROUTER": "direct",
    }
    container["Env"] = [f"{key}={value}" for key, value in sorted(variables.items())]
    for attachment in template.get("Networks") or []:
        attachment.pop("Aliases", None)
    return {
        "Name": name,
        "Labels": {LABEL: function},
        "TaskTemplate": template,
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": None,
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def clear(engine: Engine, function: str) -> None:
    """Removes what killed deploys of this function have left."""
    _clear(engine, f"{LABEL}={function}", lambda _: True)


def clear_old(engine: Engine) -> None:
    """Removes what killed deploys of any function have left, but none that is under way."""
    now = time.time()
    _clear(engine, LABEL, lambda each: now - report.unix_time(each["CreatedAt"]) > OLD)


def _clear(engine: Engine, label: str, is_to_go: Callable[[Service], bool]) -> None:
    with engine.errors():
        trials: list[Service] = engine.api.services(filters={"label": label})
        for service in trials:
            if is_to_go(service):
                _remove(engine, service)


def _remove(engine: Engine, service: Service) -> None:
    with contextlib.suppress(docker.errors.NotFound):  # somebody else was faster
        engine.api.remove_service(service["ID"])


def _watch(engine: Engine, store: Store, name: str, service: Service, progress: Progress) -> None:
    """Waits for its replica and its handler."""
    watched = rollout.Rollout(
        name=name,
        template=service["Spec"]["TaskTemplate"],
        wanted=1,
        started=time.monotonic(),
    )

    def fetch() -> list[rollout.Task]:
        tasks = store.tasks(service)
        if not tasks and watched.tasks:
            raise DeployFailed(f"{name} is being deployed by somebody else")
        return tasks

    rollout.wait_for_tasks(watched, fetch, progress=progress)
    trial = str(service["Spec"]["Name"])
    try:
        with contextlib.closing(entrance.open_relay(engine, service)) as relay:
            rollout.wait_for_handler(watched, lambda: relay.ping(trial), fetch, progress=progress)
    except DeployFailed:
        raise
    except (BackendError, CallError) as error:  # the relay's trouble isn't the function's
        progress(f"{name}: couldn't ask whether the handler is loaded: {error.message}")
