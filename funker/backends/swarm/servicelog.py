"""The log of a service, line by line, through the Docker API.

The API's stream is blocks of `stream, length, line`, where a line begins with what was asked for:
a time stamp, then details that say which task on which node wrote it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote

import docker.errors
import requests

from funker.backends.base import LogLine
from funker.backends.loglines import unwrapped
from funker.backends.swarm.engine import TIMEOUT, Engine

_TASK = "com.docker.swarm.task.id"
_NODE = "com.docker.swarm.node.id"


def read(
    engine: Engine,
    service: dict[str, Any],
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
) -> Iterator[LogLine]:
    """The lines: those that there are in the order of time, those to come as they come."""
    names = _TaskNames(engine, service)
    if follow:
        yield from _stream(
            engine, names, _wish(follow=True, tail=tail, since=since), timestamps=timestamps
        )
        return
    # The engine gives the last lines of each task, one task after the other.
    lines = sorted(
        _stream(engine, names, _wish(follow=False, tail=tail, since=since), timestamps=True),
        key=lambda line: line.time,
    )
    for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
        yield line if timestamps else replace(line, time="")


def tail(engine: Engine, service: dict[str, Any], lines: int) -> str:
    """The last lines as one text. Raises `BackendError`."""
    read_lines = read(engine, service, follow=False, tail=lines, since=None, timestamps=False)
    return "\n".join(line.text for line in read_lines)


def _wish(*, follow: bool, tail: int | None, since: float | None) -> dict[str, str]:
    return {
        "follow": "1" if follow else "0",
        "tail": "all" if tail is None else str(tail),
        "since": "0" if since is None else f"{since:.9f}",
    }


def _stream(
    engine: Engine, names: _TaskNames, wish: dict[str, str], *, timestamps: bool
) -> Iterator[LogLine]:
    with engine.errors():
        api = engine.api
        response = api.get(
            f"{api.base_url}/v{api.api_version}/services/{names.service}/logs",
            params={
                "stdout": "1",
                "stderr": "1",
                "details": "1",
                "timestamps": "1" if timestamps else "0",
                **wish,
            },
            stream=True,
            timeout=(TIMEOUT, None if wish["follow"] == "1" else TIMEOUT),
        )
        with response:
            if not response.ok:
                # Raises docker's own error, which becomes ours at the edge.
                docker.errors.create_api_error_from_http_exception(
                    requests.HTTPError(response=response)
                )
            for stream, data in _blocks(response.raw):
                yield parse(stream, data, names, timestamps=timestamps)


def parse(stream: int, data: bytes, names: _TaskNames, *, timestamps: bool) -> LogLine:
    """One block of the stream as a line."""
    text = data.decode(errors="replace").rstrip("\n")
    moment = ""
    if timestamps:
        moment, _, text = text.partition(" ")
    written, _, text = text.partition(" ")
    details = dict(_pair(item) for item in written.split(","))
    task, node = details.get(_TASK, ""), details.get(_NODE, "")
    kind: Literal["stdout", "stderr"] = "stderr" if stream == 2 else "stdout"
    return unwrapped(
        LogLine(
            text=text,
            stream=kind,
            replica=names.replica(task),
            task=task,
            node=names.node(node),
            time=moment,
        )
    )


class _TaskNames:
    """Names for people of tasks and nodes, each asked for once."""

    def __init__(self, engine: Engine, service: dict[str, Any]) -> None:
        #: The service's ID.
        self.service: str = service["ID"]
        self._name: str = service["Spec"]["Name"]
        self._engine = engine
        self._known: dict[str, str] = {}

    def replica(self, task: str) -> str:
        if task and task not in self._known:
            slot = self._ask(lambda: str(self._engine.api.inspect_task(task).get("Slot") or ""))
            self._known[task] = f"{self._name}.{slot}" if slot else self._name
        return self._known.get(task, self._name)

    def node(self, node: str) -> str:
        if node and node not in self._known:
            found = self._ask(
                lambda: str(self._engine.api.inspect_node(node)["Description"]["Hostname"]),
            )
            self._known[node] = found or node
        return self._known.get(node, "")

    def _ask(self, question: Callable[[], str]) -> str:
        try:
            return question()
        except docker.errors.NotFound:
            return ""  # its history was dropped, its output wasn't yet


def _blocks(raw: Any) -> Iterator[tuple[int, bytes]]:
    while len(header := raw.read(8)) == 8:
        stream, size = struct.unpack(">BxxxL", header)
        yield stream, raw.read(size)


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return unquote(name), unquote(value)
