"""The flags of `funker deploy` that say how a function scales and what its calls may do."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funker.cli.failures import UsageError

if TYPE_CHECKING:
    from funker.spec import CallPolicy, ScalePolicy


class Isolation(StrEnum):
    """What `--isolation` takes."""

    CONTAINER = "container"
    PROCESS = "process"


Replicas = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="A fixed number of replicas; else they scale by load."),
]
Min = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Replicas without any load, else 1; 0: from zero."),
]
Max = Annotated[int | None, typer.Option(metavar="N", min=1, help="Replicas at the most, else 20.")]
Idle = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="With --min 0: to zero after so long, else 5m."),
]
Headroom = Annotated[
    float | None,
    typer.Option(metavar="K", min=0, help="Spare replicas for a load of A: K times √A, else 1."),
]
Retries = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Try a call again that surely didn't run, else 0."),
]
RetryBackoff = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Before the first retry, then doubled; else 200ms."),
]
Idempotent = Annotated[
    bool, typer.Option("--idempotent", help="Twice is as good as once: retry whatever failed.")
]
MaxInflight = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Calls that run at once; others wait.")
]
IsolationOption = Annotated[
    Isolation | None,
    typer.Option("--isolation", help="What is fresh for each call, else container."),
]
Slots = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="With process: calls at once in a replica, else CPUs."),
]
Ulimit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Limit a call: as, cpu, fsize, nofile or nproc."),
]


def scale(
    *,
    replicas: int | None,
    min: int | None,  # as the flag
    max: int | None,
    idle: str | None,
    headroom: float | None,
) -> ScalePolicy | None:
    """How it scales; None: there is a fixed number. Raises UsageError, SpecError."""
    from funker.spec import ScalePolicy

    given = _given(min=min, max=max, idle=idle, headroom=headroom)
    if replicas is None:
        return ScalePolicy(**given)
    if given:
        flags = " and ".join(f"--{name}" for name in given)
        raise UsageError(
            f"--replicas and {flags} exclude each other",
            hint=f"Leave --replicas out, or give --min {replicas}: it keeps at least so many.",
        )
    return None


def calls(
    *,
    idempotent: bool,
    retries: int | None,
    backoff: str | None,
    max_inflight: int | None,
) -> CallPolicy:
    """What may be done with its calls. Raises SpecError."""
    from funker.spec import CallPolicy

    given = _given(retries=retries, backoff=backoff, max_inflight=max_inflight)
    return CallPolicy(idempotent=idempotent, **given)


def _given(**flags: Any) -> dict[str, Any]:
    """What was said; the rest keeps its default."""
    return {name: value for name, value in flags.items() if value is not None}
