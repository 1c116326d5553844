"""How many replicas a function shall have, and what may be done with its calls.

Each is a frozen value. A swarm keeps them as labels of the service (`funker.scale.min=2`), so
that a stack file may say them and a change restarts nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from funker.spec.attachments import Value
from funker.spec.values import SpecError, parse_duration


def _seconds(field: str) -> BeforeValidator:
    return BeforeValidator(lambda value: parse_duration(value, field=field))


class ScalePolicy(Value):
    """Between which numbers the autoscaler may choose, and how.

    Raises `SpecError`.
    """

    #: Replicas that are kept without any call. 0: none, once nobody has called for `idle`.
    min: int = Field(default=1, ge=0, le=10_000)
    max: int = Field(default=20, ge=1, le=10_000)
    #: Seconds without a call after which the last replicas go, where `min` is 0.
    idle: Annotated[float, _seconds("scale.idle")] = Field(default=300.0, gt=0)
    #: k of the square-root rule a + k·√a: how much more than the load itself is kept warm.
    headroom: float = Field(default=1.0, ge=0, le=100)

    @model_validator(mode="after")
    def _is_a_range(self) -> ScalePolicy:
        if self.min > self.max:
            raise SpecError(
                "scale.min",
                f"{self.min} is more than the maximum of {self.max}",
                hint="Raise scale.max, or lower scale.min.",
            )
        return self


class CallPolicy(Value):
    """What the router may do with a function's calls.

    Raises `SpecError`.
    """

    #: Whether a call may be run again after it may have run: twice is as good as once.
    idempotent: bool = False
    #: How often a failed call is tried again: any that wasn't accepted, and, if the function is
    #: idempotent, any at all.
    retries: int = Field(default=0, ge=0, le=100)
    #: Seconds before the first of these tries; doubled each time, with full jitter.
    backoff: Annotated[float, _seconds("retry-backoff")] = Field(default=0.2, gt=0, le=60)
    #: Calls of the function that run at once, in all its replicas. None: as many as there are
    #: replicas and slots.
    max_inflight: int | None = Field(default=None, ge=1)
