"""Data for stdout in the formats of `-o`: table, json, yaml, name. Pure: text in, text out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def as_yaml(value: object) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    stream = io.StringIO()
    # Through JSON, so that YAML shows exactly what JSON would (no Python tags).
    yaml.dump(json.loads(json.dumps(value, default=str)), stream)
    return stream.getvalue().removesuffix("...\n")  # the end mark after a bare scalar


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns three spaces apart, as docker's; the last one isn't padded."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def render(
    items: Sequence[Mapping[str, object]],
    output: Format,
    *,
    columns: Mapping[str, str],
    key: str = "name",
) -> str:
    """Many things of one kind. `columns`: header → key, for the table; `key`: what names each."""
    match output:
        case Format.JSON:
            return as_json(list(items))
        case Format.YAML:
            return as_yaml(list(items))
        case Format.NAME:
            return "".join(f"{item[key]}\n" for item in items)
        case Format.TABLE:
            rows = [[str(item.get(field, "")) for field in columns.values()] for item in items]
            return as_table(list(columns), rows)


def milliseconds(value: float | None) -> str:
    """A time of a call: 12ms, 1.5s, 3m20s; a dash if it isn't known."""
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.0f}ms"
    return f"{value / 1000:.1f}s" if value < 60_000 else age(value / 1000)


def rate(value: float | None) -> str:
    """Calls per second: 0, 0.03/s, 2.5/s, 120/s; a dash if it isn't known."""
    if value is None:
        return "-"
    if value < 0.005:
        return "0"
    return f"{value:.2g}/s" if value < 10 else f"{value:.0f}/s"


def age(seconds: float) -> str:
    """A duration in one or two units, as kubectl has it: 12s, 3m20s, 5h, 2d4h."""
    left = max(0, int(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
