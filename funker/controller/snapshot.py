"""What the reconciler tells the router of the functions that there are. Pure.

A SNAPSHOT's body is a JSON object: {"functions": {FULL NAME: {"names": [short names], "wanted": n,
"running": n, "image": text, "routed": bool, "problem": text, "calls": {"idempotent": bool,
"retries": n, "backoff": seconds, "max_inflight": n or null}, "scaling": object or null}}}. All but
the names may be missing, and what else there is is passed over, so that either side may be the
newer one. A status repeats it, `calls` as `policy`; of `scaling` the router understands nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from funker.controller.tables import Catalogue, Rules
from funker.rpc.errors import ProtocolError

#: What a status repeats of a snapshot, with its type and what it is where it is missing.
FIELDS: Mapping[str, tuple[type, object]] = {
    "wanted": (int, 0),
    "running": (int, 0),
    "image": (str, ""),
    "routed": (bool, True),
    "problem": (str, ""),
}


class Observed:
    """All functions, as the reconciler saw them at the moment `at`; at first, nobody has."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.functions: dict[str, dict[str, Any]] = {}

    def learn(self, body: bytes, now: float) -> Catalogue:
        """Take a snapshot in. Raises `ProtocolError` and changes nothing if it isn't one."""
        try:
            told = json.loads(body)["functions"]
            names = {function: _names(about["names"]) for function, about in told.items()}
            rules = {function: _rules(about.get("calls", {})) for function, about in told.items()}
            functions = {
                function: _checked(about) | {"policy": rules[function]._asdict()}
                for function, about in told.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProtocolError(f"SNAPSHOT: not a catalogue: {error!r}") from None
        self.at, self.functions = now, functions
        return Catalogue(
            names,
            unrouted=frozenset(name for name, about in functions.items() if not about["routed"]),
            wanted={name: about["wanted"] for name, about in functions.items()},
            rules=rules,
        )


def _names(names: object) -> tuple[str, ...]:
    if type(names) is not list or not all(type(name) is str for name in names):
        raise TypeError("names: not a list of texts")
    return tuple(names)


def _rules(calls: object) -> Rules:
    default = Rules()
    if type(calls) is not dict:
        raise TypeError("calls: not an object")
    rules = Rules(*(calls.get(name, getattr(default, name)) for name in Rules._fields))
    limit = rules.max_inflight
    good = (
        type(rules.idempotent) is bool
        and (type(rules.retries) is int and rules.retries >= 0)
        and (type(rules.backoff) in (int, float) and rules.backoff >= 0)
        and (limit is None or (type(limit) is int and limit >= 1))
    )
    if not good:
        raise ValueError(f"calls: {calls!r}")
    return rules


def _checked(about: dict[str, Any]) -> dict[str, Any]:
    fields = {name: about.get(name, default) for name, (_, default) in FIELDS.items()}
    for name, (kind, _) in FIELDS.items():
        if type(fields[name]) is not kind:
            raise TypeError(f"{name}: {fields[name]!r}")
    scaling = about.get("scaling")
    if scaling is not None and type(scaling) is not dict:
        raise TypeError(f"scaling: {scaling!r}")
    return fields | {"scaling": scaling}
