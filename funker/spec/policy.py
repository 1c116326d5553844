"""How many replicas a function shall have, and what may be done with its calls.

Each is a frozen value. A swarm keeps them as labels of the service (`funker.scale.min=2`), so
that a stack file may say them and a change restarts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from funker.spec.attachments import Value
from funker.spec.values import SpecError, parse_duration, parse_pair, parse_size

#: What limits the process that runs a call, by Docker's names: bytes of its address space, seconds
#: of CPU time, bytes of a file that it writes, open files, and processes.
Ulimit = Literal["as", "cpu", "fsize", "nofile", "nproc"]


def _seconds(field: str) -> BeforeValidator:
    def read(value: str | float) -> float:
        seconds = parse_duration(value, field=field)
        if not seconds:
            raise SpecError(field, "has to be more than nothing", hint="Give it like `500ms`.")
        return seconds

    return BeforeValidator(read)


class ScalePolicy(Value):
    """Between which numbers the autoscaler may choose, and how.

    Raises `SpecError`.
    """

    #: Replicas that are kept without any call. 0: none, once nobody has called for `idle`.
    min: int = Field(default=1, ge=0, le=10_000)
    max: int = Field(default=20, ge=1, le=10_000)
    #: Seconds without a call after which the last replicas go, where `min` is 0.
    idle: Annotated[float, _seconds("idle")] = 300.0
    #: k of the square-root rule a + k·√a: how much more than the load itself is kept warm.
    headroom: float = Field(default=1.0, ge=0, le=100)

    @model_validator(mode="after")
    def _is_a_range(self) -> ScalePolicy:
        if self.min > self.max:
            raise SpecError(
                "min",
                f"{self.min} is more than the maximum of {self.max}",
                hint="Give a larger maximum, or a smaller minimum.",
            )
        return self

    def clamp(self, replicas: int) -> int:
        """The nearest number that it allows."""
        return max(self.min, min(self.max, replicas))


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
    backoff: Annotated[float, _seconds("retry-backoff")] = Field(default=0.2, le=60)
    #: Calls of the function that run at once, in all its replicas. None: as many as there are
    #: replicas and slots.
    max_inflight: int | None = Field(default=None, ge=1)


def parse_ulimits(items: Iterable[str]) -> dict[Ulimit, int]:
    """Limits from `NAME=VALUE`: `as` and `fsize` are sizes (`256m`), `cpu` a duration.

    Raises `SpecError`.
    """
    limits: dict[Ulimit, int] = {}
    names = get_args(Ulimit)
    for item in items:
        name, text = parse_pair(item, field="ulimit")
        if name not in names:
            raise SpecError("ulimit", f'no limit "{name}"', hint=f"There are {', '.join(names)}.")
        limits[name] = _limit(name, text)  # type: ignore[index]  # mypy doesn't narrow by `in`
    return limits


def _limit(name: str, text: str) -> int:
    field = f"ulimit {name}"
    if ":" in text:
        raise SpecError(field, f'"{text}" is two limits', hint="Give the hard one alone.")
    match name:
        case "as" | "fsize":
            value = parse_size(text, field=field)
        case "cpu":
            seconds = parse_duration(text, field=field)
            value = round(seconds)
            if value != seconds:
                raise SpecError(field, f'"{text}" is no whole number of seconds')
        case _ if text.isascii() and text.isdigit():
            value = int(text)
        case _:
            raise SpecError(field, f'"{text}" is no number', hint=f"Write `--ulimit {name}=64`.")
    if value < 1:
        raise SpecError(field, "has to be more than nothing", hint="Leave it out for no limit.")
    return value
