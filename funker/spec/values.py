"""The small values that flags, labels and files spell as text: names, durations, sizes, pairs.

Spellings are Docker's, so that what works in `docker service create` works here. Whatever can't
be read raises `SpecError`, which names the field and says how to write it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from funker.rpc.errors import FunkerError

#: A DNS label holds at most 63 octets, and a function's name is one.
MAX_NAME = 63

_NAME = re.compile(r"[a-z0-9](?:[-_]*[a-z0-9])*")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_CONSTRAINT = re.compile(r"\s*[A-Za-z_][\w.\-]*\s*(?:==|!=)\s*[A-Za-z0-9:\-_\s.*()?+\[\]\\^$|/]+")


class SpecError(FunkerError):
    """Raised when a setting can't be used as written.

    `field` is the setting as its user spells it (`timeout`, `secret`, `limit-memory`).
    """

    def __init__(self, field: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {problem}", hint=hint)
        self.field = field


def check_name(name: str, *, field: str = "name") -> str:
    """The name, if it can be a function's: it becomes a service, a DNS name and an image.

    Raises `SpecError` with a name that would do.
    """
    if len(name) <= MAX_NAME and _NAME.fullmatch(name):
        return name
    if not name:
        raise SpecError(field, "a function needs a name", hint="Give one, like `add`.")
    if len(name) > MAX_NAME:
        problem = f'"{name}" has {len(name)} characters, more than the {MAX_NAME} of a DNS label'
    else:
        problem = f'"{name}" can\'t be the name of a service'
    suggestion = re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:MAX_NAME].strip("-_")
    rule = "Use lower-case letters, digits, - and _; begin and end with a letter or digit"
    hint = f"{rule}, like `{suggestion}`." if suggestion else f"{rule}."
    raise SpecError(field, problem, hint=hint)


def parse_duration(text: str | float, *, field: str = "duration") -> float:
    """Seconds from `90`, `1.5`, `500ms`, `1m30s` or `2h` (a bare number counts seconds)."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _finite(float(text), text, field)
    written = str(text).strip()
    if re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", written):
        return float(written)
    parts = _DURATION_PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise SpecError(
            field,
            f'"{written}" is no duration',
            hint="Write seconds (`90`) or numbers with units, like `500ms`, `1m30s` or `2h`.",
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(text: str | int, *, field: str = "size") -> int:
    """Bytes from `512`, `64m`, `1.5g` or `100KiB`. Units are powers of 1024, as Docker's are."""
    written = str(text).strip()
    match = _SIZE.fullmatch(written)
    if match is None or isinstance(text, bool):
        raise SpecError(
            field,
            f'"{written}" is no size',
            hint="Write bytes or a number with a unit, like `64m` or `1.5g`.",
        )
    number, unit = match.groups()
    return int(float(number) * 1024.0 ** " kmgtp".index(unit.lower() or " "))


def parse_pair(text: str, *, field: str) -> tuple[str, str]:
    """Name and value from `name=value`; the value may hold further `=`."""
    name, sign, value = text.partition("=")
    if not name.strip() or not sign:
        raise SpecError(field, f'"{text}" is no pair', hint=f"Write `--{field} NAME=VALUE`.")
    return name.strip(), value


def parse_env(items: Iterable[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables from `NAME=VALUE`; a bare `NAME` is taken from `environ` if it is set there."""
    variables: dict[str, str] = {}
    for item in items:
        _add_variable(variables, item, environ, where="env")
    return variables


def parse_env_file(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables of a file with one `NAME=VALUE` or `NAME` a line; `#` starts a comment line.

    Values are taken as they stand, quotes included, as `docker run --env-file` does.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SpecError(
            "env-file",
            f"can't read {path}: {exc}",
            hint="Give a readable UTF-8 file with one NAME=VALUE a line.",
        ) from exc
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.lstrip()
        if entry and not entry.startswith("#"):
            _add_variable(variables, entry, environ, where=f"env-file: {path}:{number}")
    return variables


def check_constraint(text: str, *, field: str = "constraint") -> str:
    """The placement constraint in the one spelling `KEY==VALUE` or `KEY!=VALUE`."""
    if not _CONSTRAINT.fullmatch(text):
        raise SpecError(
            field,
            f'"{text}" is no placement constraint',
            hint="Write `--constraint node.labels.disk==ssd`; the operators are == and !=.",
        )
    return re.sub(r"\s*(==|!=)\s*", r"\1", text.strip())


def _add_variable(
    variables: dict[str, str], item: str, environ: Mapping[str, str], *, where: str
) -> None:
    name, sign, value = item.partition("=")
    if not name or any(character.isspace() for character in name):
        raise SpecError(where, f'"{item}" is no variable', hint="Write NAME=VALUE or NAME.")
    if sign:
        variables[name] = value
    elif name in environ:
        variables[name] = environ[name]


def _finite(value: float, written: float, field: str) -> float:
    if 0 <= value < float("inf"):
        return value
    raise SpecError(field, f"{written} is no duration", hint="Give zero or more seconds.")
