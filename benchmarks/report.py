"""What benchmarks print and write: figures, each beside its floor and its target.

A benchmark is a module `benchmarks/NAME.py`, run by `scripts/bench NAME`:

    from benchmarks.report import Report, at_most, main, percentile

    def measure(report: Report) -> None:
        floor = percentile(bare_round_trips(), 50)
        value = percentile(calls(), 50)
        report.add(
            "direct call, median", value, "ms",
            floor=floor, floor_is="bare ZeroMQ connect and round trip, same overlay",
            target=at_most(floor + 1.0, "floor + 1 ms"),
        )

    if __name__ == "__main__":
        main("direct", measure)

A floor is the same machine doing the least that the job needs, measured in the same run: absolute
figures vary from machine to machine. Each figure is printed as soon as it is added. `--json FILE`
writes all of them, `--check` exits with 1 if a target is missed (2 is a usage error). `--plot
FILE` is for those who draw something: they find it in `report.plot`.

What is given to `main` by name is an option with that default, which `measure` gets by that name:

    main("sustained", measure, seconds=300.0)        # --seconds 20

A run with another value than the default is no full run, and says so. A tuple is what there is to
choose from, the default first; either choice is a full run:

    main("recycle", measure, backend=("swarm", "local"))        # --backend local
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on a figure, in the figure's unit. `rule` says where it comes from."""

    kind: str
    bound: float
    rule: str

    def met_by(self, value: float) -> bool:
        return value <= self.bound if self.kind == "at most" else value >= self.bound


def at_most(bound: float, rule: str) -> Target:
    """For costs: at_most(floor + 120, "floor + 120 ms")."""
    return Target("at most", bound, rule)


def at_least(bound: float, rule: str) -> Target:
    """For rates and shares: at_least(0.85 * floor, "0.85 of the floor")."""
    return Target("at least", bound, rule)


@dataclass(frozen=True)
class Figure:
    """One measured figure. `floor` has the same unit as `value`; None where there is none."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """The figure in floors: 1.0 is as good as it gets."""
        return self.value / self.floor if self.floor else None

    @property
    def met(self) -> bool:
        return self.target is None or self.target.met_by(self.value)

    def __str__(self) -> str:
        line = f"{self.name}: {number(self.value)} {self.unit}"
        if self.floor is not None:
            ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
            line += f"\n    floor {number(self.floor)} {self.unit} ({self.floor_is}){ratio}"
        if self.target is not None:
            bound = f"{self.target.kind} {number(self.target.bound)} {self.unit}"
            verdict = "met" if self.met else "MISSED"
            line += f"\n    target {bound} ({self.target.rule}): {verdict}"
        return line

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


@dataclass
class Report:
    """The figures of one run of a benchmark, in the order in which they were measured."""

    benchmark: str
    figures: list[Figure] = field(default_factory=list)
    #: What was chosen where there is a choice.
    chosen: dict[str, str] = field(default_factory=dict)
    #: What makes this no full run: options with another value than their default.
    changed: dict[str, Any] = field(default_factory=dict)
    #: Where a picture is to be written, if one is wanted.
    plot: Path | None = None

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        floor: float | None = None,
        floor_is: str = "",
        target: Target | None = None,
    ) -> Figure:
        """Take a figure in and print it."""
        figure = Figure(name, value, unit, floor, floor_is, target)
        self.figures.append(figure)
        print(figure, flush=True)
        return figure

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if not figure.met]

    def write(self, file: Path) -> None:
        """One JSON object: benchmark, machine, met, chosen, changed, figures with their floors and
        targets."""
        machine = {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        }
        figures = [figure.as_json() for figure in self.figures]
        content = {
            "benchmark": self.benchmark,
            "machine": machine,
            "met": not self.missed,
            "chosen": self.chosen,
            "changed": self.changed,
            "figures": figures,
        }
        file.write_text(json.dumps(content, indent=2) + "\n")


def main(
    benchmark: str, measure: Callable[..., None], **options: float | str | tuple[str, ...]
) -> None:
    """Run the benchmark as a program: --json FILE, --check, the options. Ends the process."""
    parser = argparse.ArgumentParser(prog=f"bench {benchmark}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    for name, default in options.items():
        if isinstance(default, tuple):
            parser.add_argument(f"--{name}", choices=default, default=default[0])
        else:
            told = f"({default})"
            parser.add_argument(f"--{name}", type=type(default), default=default, help=told)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in options}
    report = Report(benchmark, plot=arguments.plot)
    for name, value in given.items():
        if isinstance(options[name], tuple):
            report.chosen[name] = value
        elif value != options[name]:
            report.changed[name] = value
    for name, value in report.changed.items():
        print(f"not a full run: --{name} is {value}, not {options[name]}", flush=True)
    try:
        measure(report, **given)
    finally:
        # What was measured before a failure is still worth having.
        if arguments.json:
            report.write(arguments.json)
    print(f"\n{len(report.figures)} figures, {len(report.missed)} targets missed", flush=True)
    sys.exit(1 if arguments.check and report.missed else 0)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that `share` per cent of them don't exceed; 50 is the median.

    Raises ValueError if there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    rank = -(-len(values) * share // 100)
    return sorted(values)[max(int(rank), 1) - 1]


def number(value: float) -> str:
    """Three significant digits are what a measurement is worth."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
