"""A load of many callers at once, and what became of their calls."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rig.controller import Router
from benchmarks.rig.swarm import Rig


@dataclass(frozen=True)
class Load:
    """Times are Unix times. Nobody called any more after `ended`."""

    began: float
    ended: float
    #: When each right answer came.
    answers: list[float]
    #: Calls without one, by reason.
    failed: dict[str, int]
    #: Callers that never came back from their last call.
    stuck: int

    @property
    def errors(self) -> int:
        return sum(self.failed.values()) + self.stuck

    @property
    def share(self) -> float:
        """The part of the calls that were answered, in per cent."""
        return 100 * len(self.answers) / (len(self.answers) + self.errors)

    @property
    def answers_per_second(self) -> float:
        """Answers before `ended` over the whole time."""
        return len(self.between(self.began, self.ended)) / (self.ended - self.began)

    def between(self, begin: float, end: float) -> list[float]:
        """The answers of a time."""
        return [at for at in self.answers if begin <= at < end]


def offer(
    rig: Rig,
    name: str,
    *,
    callers: int,
    seconds: float,
    calls: int | None = None,
    router: Router | None = None,
    original: str = "",
) -> Load:
    """Have the function called for so many seconds, at most `calls` times."""
    limits = [callers, seconds] if calls is None else [callers, seconds, calls]
    result = rig.run("load.py", rig.full_name(name), *limits, router=router, original=original)
    return Load(**result)


def offer_to_original(rig: Rig, *, callers: int, replicas: int, seconds: float, delay: int) -> Load:
    """The same load on the original as it was used: a program of a few lines, restarted by the
    swarm `delay` seconds after each end."""
    name = f"original-{delay}"
    image = rig.original_image()
    rig.one_shot(
        name,
        ["python3", "/app/original.py"],
        replicas=replicas,
        image=image,
        env=["PYTHONPATH=/original"],
        delay=delay,
    )
    load = offer(rig, name, callers=callers, seconds=seconds, original=image)
    rig.scale(name, 0)
    return load
