"""A function's policies as labels of a service, and back. Pure.

Labels stand outside of what tasks are started from: a change of them restarts nothing. They are
the same for functions of `funker deploy` and for those of stack files:

    funker.scale.min, .max, .idle, .headroom   any of them: the autoscaler chooses the number of
                                               replicas; what isn't said has its default
    funker.scale.pinned     true: not for now, since somebody has said a number
    funker.idempotent, funker.retries, funker.retry-backoff, funker.max-inflight
    funker.isolation        for people and filters: a replica reads its environment
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from funker.backends.base import FunctionStatus
from funker.spec import CallPolicy, FunctionSpec, ScalePolicy, SpecError
from funker.spec.attachments import Value

PINNED = "funker.scale.pinned"
_SCALE = "funker.scale."
_ISOLATION = "funker.isolation"
#: Label to field of a `CallPolicy`.
_CALLS = {
    "funker.idempotent": "idempotent",
    "funker.retries": "retries",
    "funker.retry-backoff": "backoff",
    "funker.max-inflight": "max_inflight",
}

P = TypeVar("P", bound=Value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What labels say."""

    #: How the autoscaler may choose the number of replicas, whether or not it does so now.
    scale: ScalePolicy | None = None
    #: It doesn't, since somebody has said a number.
    pinned: bool = False
    calls: CallPolicy = field(default_factory=CallPolicy)
    #: Which labels are wrong, and what to write. A policy that can't be read counts as not given.
    problems: tuple[str, ...] = ()

    @property
    def followed(self) -> ScalePolicy | None:
        """The policy that the autoscaler shall follow now."""
        return None if self.pinned else self.scale


def labels(spec: FunctionSpec) -> dict[str, str]:
    """A spec's policies as labels: nothing of a policy of calls that is the default."""
    found: dict[str, str] = {}
    if spec.scale is not None:
        for field, value in dict(spec.scale).items():
            found[_SCALE + field] = _text(value, seconds=field == "idle")
    default = CallPolicy()
    for label, field in _CALLS.items():
        value = getattr(spec.calls, field)
        if value != getattr(default, field):
            found[label] = _text(value, seconds=field == "backoff")
    if spec.isolation != "container":
        found[_ISOLATION] = spec.isolation
    return found


def beginning(spec: FunctionSpec, present: int | None) -> FunctionSpec:
    """The spec with the number of replicas with which a deploy shall go on.

    A function that is scaled by itself keeps its `present` number as far as its policy allows,
    but at least one, by which its handler is tried. `present` is None for a new function.
    """
    if spec.scale is None:
        return spec
    now = spec.replicas if present is None else present
    return spec.changed(replicas=max(1, spec.scale.clamp(now)))


def unpinned(name: str) -> str:
    """What a deploy says of a function that was pinned."""
    return f"{name} was pinned to a number of replicas, and is scaled by itself again"


def shown(status: FunctionStatus) -> dict[str, object]:
    """What `inspect` shows of them, ready for JSON."""
    return {
        "scale": None if status.scale is None else status.scale.model_dump(mode="json"),
        "pinned": status.pinned,
        "calls": status.calls.model_dump(mode="json"),
        "isolation": status.isolation,
    }


def read(labels: Mapping[str, str]) -> Policies:
    """What a service's labels say, whoever wrote them."""
    scale = {
        label: label.removeprefix(_SCALE)
        for label in labels
        if label.startswith(_SCALE) and label != PINNED
    }
    calls = {label: field for label, field in _CALLS.items() if label in labels}
    problems: list[str] = []
    policy = _read(ScalePolicy, labels, scale, problems) if scale else None
    return Policies(
        scale=policy,
        pinned=policy is not None and labels.get(PINNED, "false").lower() not in ("false", "0"),
        calls=_read(CallPolicy, labels, calls, problems) or CallPolicy(),
        problems=tuple(problems),
    )


def _read(
    kind: type[P], labels: Mapping[str, str], fields: Mapping[str, str], problems: list[str]
) -> P | None:
    """The policy that some labels make; None with one problem more if they make none."""
    try:
        return kind(**{field: labels[label].strip() for label, field in fields.items()})
    except SpecError as error:
        spelled = {field: label for label, field in fields.items()}
        spelled["retry-backoff"] = "funker.retry-backoff"  # as its user spells it
        label = spelled.get(error.field, error.field)
        problem = error.message.removeprefix(f"{error.field}: ")
        problem = re.sub(r", unable to [^,]*", "", problem)  # of which pydantic has enough words
        problems.append(f"label {label}: {problem}. {error.hint}".strip())
        return None


def _text(value: float | bool | None, *, seconds: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Never 1e-05, which is no duration, and no more digits than a clock has.
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return f"{text}s" if seconds else text
