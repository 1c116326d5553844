"""`funker ls`, `funker inspect`, `funker rm`: what there is, what it is, and away with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from funker.cli import live, options, terminal
from funker.cli.failures import UsageError
from funker.cli.live import Live
from funker.cli.output import Format, age, as_json, as_yaml, rate, render
from funker.cli.session import Session

if TYPE_CHECKING:
    from funker.backends.base import FunctionStatus

_COLUMNS = {
    "NAME": "name",
    "REPLICAS": "replicas",
    "STATUS": "status",
    "IMAGE": "image",
    "AGE": "age",
}
#: With a controller there is more to tell. What it doesn't know is a dash.
_LIVE_COLUMNS = {
    "NAME": "name",
    "REPLICAS": "replicas",
    "WARM": "free",
    "BUSY": "busy",
    "STARTING": "starting",
    "QUEUED": "queued",
    "RATE": "rate",
    "CALLS": "calls",
    "ERRORS": "errors",
    "STATUS": "status",
    "IMAGE": "image",
    "AGE": "age",
}
_COUNTS = ("free", "busy", "starting", "queued", "calls", "errors")
#: What else a controller tells of a function, in docs/protocol.md's words.
_TOLD = (
    "inflight",
    "arrivals",
    "arrivals_fast",
    "service_s",
    "recycle_s",
    "waiting_s",
    "last_call_s",
    "scaling",
    "routed",
    "failing",
    "problem",
)


def list_functions(
    command: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Short for -o name.")] = False,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """List functions, with their live state where a controller is up."""
    form = options.chosen(output, json, default=Format.NAME if quiet else Format.TABLE)
    session: Session = command.obj
    backend = session.backend()
    functions = backend.functions()
    if form is Format.NAME:  # for loops and completions: nobody else is asked
        terminal.data("".join(f"{function.name}\n" for function in functions))
        return
    if form is Format.TABLE:
        terminal.note(f"backend: {backend.name} ({backend.place})")
    status = live.status(backend)
    found = list(zip(functions, live.of(backend, functions, status), strict=True))
    if form is not Format.TABLE:
        items = [_fields(function, state) for function, state in found]
        terminal.data(render(items, form, columns={}))
        return
    now = time.time()
    rows = [_row(function, state, now=now) for function, state in found]
    for warning in _warnings(found):
        terminal.warn(warning)
    terminal.data(render(rows, form, columns=_LIVE_COLUMNS if status else _COLUMNS))


def inspect(
    command: typer.Context,
    names: options.Functions,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Show all that is known of functions, with advice."""
    form = options.chosen(output, json, default=Format.JSON)
    if form is Format.TABLE:
        raise UsageError("a table can't hold it", hint="Use -o json or -o yaml.")
    session: Session = command.obj
    backend = session.backend()
    items = [backend.inspect(name) for name in names]
    if form is not Format.NAME:
        functions = [backend.find(name) for name in names]
        states = live.of(backend, functions, live.status(backend))
        items = [_merged(*pair) for pair in zip(items, states, strict=True)]
    for name, item in zip(names, items, strict=True):
        for text in advice_lines(item):
            terminal.warn(f"{name}: {text}")
    match form:
        case Format.NAME:
            terminal.data("".join(f"{item['name']}\n" for item in items))
        case Format.YAML:
            terminal.data(as_yaml(items))
        case _:
            terminal.data(as_json(items))


def remove(
    command: typer.Context,
    names: options.Functions,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
) -> None:
    """Remove functions. Calls that are running may finish."""
    session: Session = command.obj
    backend = session.backend()
    found = [backend.find(name).name for name in names]  # all of them, before anything is removed
    terminal.confirm(f"Remove {', '.join(found)}", yes=yes)
    for name in found:
        with terminal.progress() as show:
            backend.remove(name, progress=show)
        terminal.data(f"{name}\n")


def advice_lines(item: Mapping[str, Any]) -> list[str]:
    """What `inspect` warns of, then what it advises with the lines to paste, each thing once."""
    advice = {each["problem"]: each["lines"] for each in item.get("advice", ())}
    others = [warning for warning in item.get("warnings", ()) if warning not in advice]
    return [
        *others,
        *(
            f"{problem}; {_where(lines)}:\n{indent(lines, '    ')}"
            for problem, lines in advice.items()
        ),
    ]


def _where(lines: str) -> str:
    return "run" if lines.startswith("docker ") else "in its stack file"


def _merged(item: Mapping[str, object], state: Live) -> dict[str, object]:
    """What the backend knows, then what the router and the image tell."""
    about = state.status or {}
    warnings = [*cast("list[str]", item.get("warnings", []))]
    if about.get("failing"):
        warnings.append(f"it can't serve calls: {str(about['failing']).splitlines()[0]}")
    if about.get("problem") and about["problem"] not in warnings:
        warnings.append(str(about["problem"]))
    if state.saturated:
        warnings.append(f"saturated: {state.saturated}")
    if state.outdated:
        warnings.append(f"its runtime is outdated: `funker rebuild {item['name']}` renews it")
    return {**item, "outdated": state.outdated, "live": state.status, "warnings": warnings}


def _warnings(found: Sequence[tuple[FunctionStatus, Live]]) -> list[str]:
    """What a table has no room for, each thing once."""
    lines = []
    for function, state in found:
        lines += [f"{function.name}: {warning}" for warning in function.warnings]
        if problem := (state.status or {}).get("problem"):
            lines.append(f"{function.name}: {problem}")
        if state.saturated:
            lines.append(f"{function.name}: saturated: {state.saturated}")
        if state.direct:
            lines.append(
                f"{function.name}: it doesn't join the controller, so calls go to it directly; "
                f"`funker inspect {function.name}` says more"
            )
    old = [function.name for function, state in found if state.outdated]
    if old:
        lines.append(f"outdated runtime: {', '.join(old)}; renew with `funker rebuild --outdated`")
    return list(dict.fromkeys(lines))


def _row(function: FunctionStatus, state: Live, *, now: float) -> dict[str, object]:
    about = state.status or {}
    return {
        "name": function.name,
        "replicas": f"{function.running}/{function.wanted}",
        **{key: about.get(key, "-") for key in _COUNTS},
        "rate": rate(about.get("arrivals")),
        "status": state.words(pinned=function.pinned),
        "image": function.image,
        "age": age(function.age(now)),
    }


def _fields(function: FunctionStatus, state: Live) -> dict[str, object]:
    """For programs. What only a controller can tell is null where there is none."""
    from funker.backends.policies import shown

    about = state.status or {}
    return {
        "name": function.name,
        "image": function.image,
        "wanted": function.wanted,
        "running": function.running,
        "created": _iso(function.created),
        "updated": _iso(function.updated),
        "stack": function.stack,
        "warnings": list(function.warnings),
        "outdated": state.outdated,
        **shown(function),
        **{key: about.get(key) for key in (*_COUNTS, *_TOLD)},
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
