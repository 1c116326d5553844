"""Functions as processes of this machine. The backend `local`.

A function's file in the state directory says what it shall be; the agent makes it so. What is
written while no controller is up counts from the next `up` on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from funker.backends import policies
from funker.backends.base import (
    Controller,
    ControlPlane,
    DeployFailed,
    Deployment,
    FunctionStatus,
    LogLine,
    NoController,
    NoPolicy,
    Outcome,
    Prepared,
    Progress,
    Transport,
    Unsupported,
    silent,
)
from funker.backends.local import control, fleet, journal, plane, routing, snapshot
from funker.backends.local.state import Record, StateDirectory
from funker.backends.names import choose
from funker.spec import FunctionSpec

if TYPE_CHECKING:
    from funker.images.source import Source

#: Seconds of one question for news to the agent.
_WAIT_S = 30.0
#: Seconds for the router to hear of a replica.
_HEARD_S = 5.0
#: Lines of the replicas' output that a failed deploy shows.
_TAIL = 20

_NO_IMAGES = "Images are for a swarm: a local function is deployed from its source."

#: What a spec may say that needs an engine, and what to do without.
_NEEDS_ENGINE = {
    "secrets": "Give a local function a variable (`--env`), or a file's path in one.",
    "configs": "Put the file into the function's directory.",
    "mounts": "A local function sees this machine's files as they are.",
    "networks": "A local function is on this machine's network, and has no other name.",
    "constraints": "There is one node.",
    "limit_cpu": "Leave it out: nothing enforces it here.",
    "limit_memory": "Leave it out: nothing enforces it here.",
    "reserve_memory": "Leave it out.",
    "read_only": "Leave it out: a local function's own files are read-only anyway.",
}


class Local:
    """The backend `local`, for the state directory that `environ` names."""

    name = "local"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._state = StateDirectory.of(self._environ)

    @property
    def place(self) -> str:
        """The state directory."""
        return str(self._state.root)

    # What images are elsewhere

    def ready(self) -> None:
        """Raises `NoController`."""
        control.ask(self._state, "status")

    def prepare(
        self,
        source: Source,
        *,
        base: str | None = None,  # noqa: ARG002
        registry: str | None = None,  # noqa: ARG002
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Prepared:
        """Copies the source and installs its requirements: what building is to the swarm.

        Raises `SourceError`, `BackendError` for what can't run here, `RequirementsFailed`, or
        `StateUnusable`.
        """
        from funker.images.source import check_syntax

        if tag:
            _refuse("tag")
        check_syntax(source)
        self._state.create()
        taken = snapshot.take(self._state, source, environ=self._environ, progress=progress)
        return Prepared(image=f"sha256:{taken}", image_name=f"{source.name}:{taken[:12]}")

    def adopt(
        self,
        reference: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        *,
        registry: str | None = None,  # noqa: ARG002
        progress: Progress = silent,  # noqa: ARG002
    ) -> Prepared:
        """Raises `Unsupported`."""
        _refuse("image")

    def push(
        self,
        reference: str,  # noqa: ARG002
        registry: str,  # noqa: ARG002
        *,
        progress: Progress = silent,  # noqa: ARG002
    ) -> str:
        """Raises `Unsupported`."""
        _refuse("push")

    def image_version(self, reference: str) -> str | None:  # noqa: ARG002
        """None: replicas have the runtime of the controller, which replaces those of another."""
        return None

    def renew(
        self,
        function: FunctionStatus,  # noqa: ARG002
        *,
        registry: str | None = None,  # noqa: ARG002
        progress: Progress = silent,  # noqa: ARG002
    ) -> Prepared | None:
        """None: replicas have the runtime of the controller."""
        return None

    # Functions

    def deploy(self, spec: FunctionSpec, *, progress: Progress = silent) -> Deployment:
        """Writes the function's file; returns when its replicas are up.

        Raises `NoController`, `Unsupported`, `ImageMissing`, `DeployFailed` or `StateUnusable`.
        After a failed update the function is what it was; one that was new is removed, unless
        its handler alone is at fault: then it stays, and its callers get `init_failed`.
        """
        _check(spec)
        control.ask(self._state, "status")
        image = snapshot.load(self._state, spec.image.rpartition("sha256:")[2])
        return self._deployed(spec, image, pinned=False, progress=progress)

    def _deployed(
        self, spec: FunctionSpec, image: snapshot.Snapshot, *, pinned: bool, progress: Progress
    ) -> Deployment:
        before, record = self._put(spec, pinned=pinned)
        outcome: Outcome = "updated" if before else "created"
        if before is record:
            outcome = "unchanged"
        fleet.tell(self._state, retry=spec.name)
        try:
            self._settle(record, progress)
        except DeployFailed as error:
            raise self._undone(error, before, record) from error.__cause__
        return Deployment(
            name=spec.name,
            outcome=outcome,
            image=spec.image_name or spec.image,
            replicas=record.replicas,
            network="",
            restarted=before is None or before.revision != record.revision,
            warnings=tuple(_warnings(before, record, image)),
        )

    def functions(self) -> list[FunctionStatus]:
        """All functions, sorted by name; none of them runs while no controller is up."""
        status = self._status()
        return [_described(record, status) for record in self._state.records().values()]

    def find(self, name: str) -> FunctionStatus:
        """Raises `FunctionNotFound` with a suggestion."""
        return _described(self._record(name), self._status())

    def inspect(self, name: str) -> dict[str, object]:
        """The function's spec under `settings`, with the keys that every backend has."""
        record = self._record(name)
        status = self._status()
        described = _described(record, status)
        tasks: list[dict[str, Any]] = status["functions"].get(record.name, {}).get("replicas", [])
        return {
            "name": record.name,
            "stack": "",
            "image": described.image,
            "replicas": {"wanted": described.wanted, "running": described.running},
            **policies.shown(described),
            "settings": record.spec,
            "tasks": tasks,
            "warnings": list(described.warnings),
            "advice": [],
        }

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> Iterator[LogLine]:
        """What its replicas wrote, as far back as it is kept."""
        path = journal.path_of(self._state.logs, self._record(name).name)
        return journal.read(path, follow=follow, tail=tail, since=since, timestamps=timestamps)

    def scale(self, name: str, replicas: int, *, progress: Progress = silent) -> None:
        """Changes the number of replicas; returns when so many run.

        One that is scaled by itself is pinned to it. Those that are too many may still finish a
        call. Raises `FunctionNotFound`, `StateUnusable`, or `DeployFailed` if they don't come up.
        """
        name = self._record(name).name

        def say(record: Record) -> Record:
            return replace(record.scaled(replicas), pinned=record.scale is not None)

        fleet.change(self._state, name, say)
        with contextlib.suppress(NoController):
            self._settle(self._record(name), progress)

    def unpin(self, name: str) -> None:
        """Raises `FunctionNotFound`, `NoPolicy` or `StateUnusable`."""

        def let_go(record: Record) -> Record:
            if record.scale is None:
                raise NoPolicy(record.name)
            return replace(record, pinned=False)

        fleet.change(self._state, self._record(name).name, let_go)

    def set_image(
        self, name: str, image: str, image_name: str, *, progress: Progress = silent
    ) -> Deployment:
        """As `deploy`, with another image of `prepare` and everything else as it is."""
        record = self._record(name)
        fields = {**record.spec, "image": image, "image_name": image_name}
        del fields["stop_grace"]
        spec = FunctionSpec(**fields)
        control.ask(self._state, "status")
        code = snapshot.load(self._state, spec.image.rpartition("sha256:")[2])
        return self._deployed(spec, code, pinned=record.pinned, progress=progress)

    def remove(self, name: str, *, progress: Progress = silent) -> None:
        """Removes the function; returns when its replicas are gone, their grace respected."""
        name = self._record(name).name
        with self._state.changing():
            self._state.drop(name)
        fleet.tell(self._state)
        with contextlib.suppress(NoController):
            for status in self._news():
                left = status["functions"].get(name, {}).get("replicas", [])
                if not left or self._state.record(name) is not None:
                    return
                progress(f"{name}: {len(left)} replica{'' if len(left) == 1 else 's'} left")

    # Calls

    def transport(self, name: str | None = None) -> AbstractContextManager[Transport]:
        """The router of the local controller. Raises `FunctionNotFound` or `NoController`."""
        if name is not None:
            self._record(name)
        control.ask(self._state, "status")
        return routing.asking(self._state)

    @contextlib.contextmanager
    def controller(self) -> Iterator[Controller]:
        """Raises `NoController`."""
        control.ask(self._state, "status")
        with routing.asking(self._state) as controller:
            yield controller

    # The controller

    def up(self, options: ControlPlane, *, progress: Progress = silent) -> list[str]:
        """Starts the controller in the background; returns when its router answers.

        Raises `Unsupported`, `StateUnusable` or `ControllerFailed`.
        """
        for field in ("image", "subnet", "publish"):
            if getattr(options, field):
                _refuse(field, "Leave it out: it is for the controller of a swarm.")
        return plane.up(self._state, environ=self._environ, progress=progress)

    def down(self, *, progress: Progress = silent) -> list[str]:
        """Ends the controller and all replicas, busy ones when they are done."""
        changes = plane.down(self._state, progress=progress)
        count = len(self._state.records()) if changes else 0
        if count:
            names = "1 function stays" if count == 1 else f"{count} functions stay"
            changes.append(f"{names}: `funker up --backend local` starts them again")
        return changes

    def keys(self, *, progress: Progress = silent) -> list[str]:  # noqa: ARG002
        """Makes none: they are made as the controller comes up, and go with it."""
        return []

    def client_key(self) -> str:
        """The key file of callers on this machine. Raises `NoController`."""
        control.ask(self._state, "status")
        with self._state.errors():
            return self._state.client_key.read_text()

    # Inside

    def _status(self) -> control.Status:
        try:
            return control.ask(self._state, "status")
        except NoController:
            return {"functions": {}}

    def _record(self, name: str) -> Record:
        return self._state.records()[choose(name, dict.fromkeys(self._state.records(), ""))]

    def _put(self, spec: FunctionSpec, *, pinned: bool) -> tuple[Record | None, Record]:
        """Writes the function's file unless it says so already: what it was, what it is."""
        now = time.time()
        with self._state.changing():
            before = self._state.record(spec.name)
            if not pinned:
                spec = policies.beginning(spec, before.replicas if before else None)
            fields = {**spec.model_dump(mode="json"), "stop_grace": spec.stop_grace}
            if before and (before.spec, before.pinned) == (fields, pinned):
                return before, before
            record = Record(
                name=spec.name,
                spec=fields,
                created=before.created if before else now,
                updated=now,
                pinned=pinned,
            )
            self._state.put(record)
        return before, record

    def _news(self) -> Iterator[control.Status]:
        """The agent's status, again and again: each time when something has changed."""
        generation = -1
        while True:
            status = control.ask(
                self._state, "wait", of="generation", since=generation, seconds=_WAIT_S
            )
            generation = status["generation"]
            yield status

    def _settle(self, record: Record, progress: Progress) -> None:
        """Waits until as many replicas of this version have been ready as there shall be.

        Raises `DeployFailed`.
        """
        told = -1
        for status in self._news():
            now = self._state.record(record.name)
            if now is None or not now.continues(record):
                raise DeployFailed(
                    f"{record.name} was changed by somebody else meanwhile",
                    hint="`funker inspect` shows what it is now.",
                )
            seen = status["functions"].get(record.name)
            if seen is None or seen["revision"] != record.revision:
                continue
            if seen["failure"]:
                raise DeployFailed(
                    f"{record.name}: {seen['failure']['message']}",
                    traceback=seen["failure"]["traceback"],
                    output_tail=self._last_output(record.name),
                )
            wanted = min(record.replicas, now.replicas)  # the autoscaler doesn't wait for us
            if seen["settled"] != told:
                told = seen["settled"]
                progress(f"{record.name}: {told} of {wanted} replicas up")
            if seen["settled"] >= wanted:
                break
        if record.replicas:
            routing.wait_for_replica(self._state, record.name, patience=_HEARD_S)

    def _undone(self, error: DeployFailed, before: Record | None, record: Record) -> DeployFailed:
        """Puts back what was before; the error says what became of the function."""
        name = record.name
        with self._state.changing():
            now = self._state.record(name)
            if now is None or not now.continues(record):
                return error
            if before is record:
                told = "Nothing was changed."
            elif before is not None:
                self._state.put(before.scaled(now.replicas) if before.autoscaled else before)
                told = f"The version of {name} that was deployed before still serves."
            elif error.traceback:
                told = f"It stays and tries again; `funker rm {name}` removes it."
            else:
                self._state.drop(name)
                told = f"{name} was removed again."
        fleet.tell(self._state)
        error.hint = f"{error.hint} {told}".strip()
        return error

    def _last_output(self, name: str) -> str:
        path = journal.path_of(self._state.logs, name)
        lines = journal.read(path, follow=False, tail=_TAIL, since=None, timestamps=False)
        return "\n".join(line.text for line in lines)


def _refuse(field: str, hint: str = _NO_IMAGES) -> NoReturn:
    raise Unsupported("local", field, hint=hint)


def _check(spec: FunctionSpec) -> None:
    for field, hint in _NEEDS_ENGINE.items():
        if getattr(spec, field):
            _refuse(field, hint)


def _warnings(before: Record | None, now: Record, image: snapshot.Snapshot) -> Iterator[str]:
    if image.packages:
        yield f"packages.txt: nobody installs {', '.join(image.packages)} here; have them already"
    if before and before.pinned and now.scale and not now.pinned:
        yield policies.unpinned(now.name)
    if now.replicas == 0:
        yield f"{now.name} has no replicas: nobody answers its calls"


def _described(record: Record, status: control.Status) -> FunctionStatus:
    seen = status["functions"].get(record.name, {})
    problem = fleet.problem(status, record.name)
    return FunctionStatus(
        name=record.name,
        image=record.spec.get("image_name") or record.spec["image"],
        wanted=record.replicas,
        running=seen.get("running", 0),
        created=record.created,
        updated=record.updated,
        scale=record.scale,
        pinned=record.pinned,
        calls=record.calls,
        isolation=record.isolation,
        warnings=(problem,) if problem else (),
    )
