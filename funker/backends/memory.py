"""Functions as plain Python callables: a backend for tests, with nothing running anywhere.

    backend = Memory({"add": lambda x, y: x + y})
    assert backend.call("add", x=1, y=2) == 3
    assert backend.calls == [("add", {"x": 1, "y": 2})]

Values go through the same encoding as over the wire, and what goes wrong is the same typed error
as from a real function, so that a test can't pass here and fail there for a value's sake.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

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
    Prepared,
    Progress,
    Transport,
    silent,
)
from funker.backends.ledger import Ledger
from funker.backends.names import choose
from funker.rpc.client import decode_value, encode_value, invoke
from funker.rpc.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    FunctionError,
    FunctionNotFound,
    FunctionTimeout,
)
from funker.rpc.messages import JSON, PROTOCOL, Call, Error, Pong, Result
from funker.spec import CallPolicy, FunctionSpec

if TYPE_CHECKING:
    from funker.images.source import Source

Handler = Callable[..., Any]

#: Stands in for an image's ID.
_IMAGE = "sha256:" + "0" * 64
#: Seconds between looks at a caller's wish to cancel.
_CANCEL_POLL = 0.02


class Memory:
    """The backend `memory`. Thread-safe."""

    name = "memory"
    place = "this process"

    def __init__(self, handlers: Mapping[str, Handler] | None = None) -> None:
        """Deploys each handler under its name."""
        self._lock = threading.Lock()
        self._handlers: dict[str, Handler] = {}
        self._specs: dict[str, FunctionSpec] = {}
        self._pinned: set[str] = set()
        self._changed: dict[str, tuple[float, float]] = {}  # created, updated: Unix times
        self._up_since: float | None = None  # monotonic
        #: Each call that was made: the function's name and what its handler was given.
        self.calls: list[tuple[str, Any]] = []
        #: What became of them, as the controller tells it once it is up.
        self.ledger = Ledger()
        for name, handler in (handlers or {}).items():
            self.provide(name, handler)
            self.deploy(FunctionSpec(name=name, image=_IMAGE))

    def provide(self, name: str, handler: Handler) -> None:
        """What `deploy` of this name shall run: a callable takes the image's place."""
        self._handlers[name] = handler

    def call(self, name: str, /, **kwargs: Any) -> Any:
        """As `funker.call`, through this backend."""
        content_type, body = encode_value(kwargs)
        with self.transport(name) as transport:
            result = invoke(transport, name, body, content_type)
        return decode_value(result.content_type, result.body or b"")

    def ready(self) -> None:
        """It always is."""

    def prepare(
        self,
        source: Source,
        *,
        base: str | None = None,  # noqa: ARG002
        registry: str | None = None,  # noqa: ARG002
        tag: str | None = None,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Prepared:
        """Reads nothing: the function's handler is what `provide` gave."""
        return Prepared(image=_IMAGE, image_name=tag or f"{source.name}:memory")

    def adopt(
        self,
        reference: str,
        name: str,  # noqa: ARG002
        *,
        registry: str | None = None,  # noqa: ARG002
        progress: Progress = silent,  # noqa: ARG002
    ) -> Prepared:
        """Every image exists here."""
        image = reference if "sha256:" in reference else _IMAGE
        return Prepared(image=image, image_name=reference)

    def push(self, reference: str, registry: str, *, progress: Progress = silent) -> str:
        """Sends nothing."""
        progress(f"pushing {registry}/{reference}")
        return f"{registry}/{reference}@{_IMAGE}"

    def image_version(self, reference: str) -> str | None:  # noqa: ARG002
        """None: there is no runtime here."""
        return None

    def renew(
        self,
        function: FunctionStatus,  # noqa: ARG002
        *,
        registry: str | None = None,  # noqa: ARG002
        progress: Progress = silent,  # noqa: ARG002
    ) -> Prepared | None:
        """None: there is no runtime here."""
        return None

    def deploy(self, spec: FunctionSpec, *, progress: Progress = silent) -> Deployment:
        """Makes the function callable. Raises `DeployFailed` without a handler for its name."""
        if spec.name not in self._handlers:
            raise DeployFailed(
                f"{spec.name} has no handler in memory",
                hint=f'Call provide("{spec.name}", handler) first.',
            )
        return self._deployed(spec, pinned=False, progress=progress)

    def _deployed(self, spec: FunctionSpec, *, pinned: bool, progress: Progress) -> Deployment:
        with self._lock:
            before = self._specs.get(spec.name)
            was_pinned = spec.name in self._pinned
            if not pinned:
                spec = policies.beginning(spec, before.replicas if before else None)
                self._pinned.discard(spec.name)
            progress(f"{spec.name}: {spec.replicas} of {spec.replicas} replicas up")
            now = time.time()
            same = before == spec and was_pinned == pinned
            if not same:
                created = self._changed[spec.name][0] if before else now
                self._changed[spec.name] = (created, now)
                self._specs[spec.name] = spec
        # What changes without a restart.
        free = {"labels": {}, "replicas": 0, "scale": None, "calls": CallPolicy()}
        return Deployment(
            name=spec.name,
            outcome="created" if before is None else "unchanged" if same else "updated",
            image=spec.image_name or spec.image,
            replicas=spec.replicas,
            network=self.name,
            restarted=before is None or before.changed(**free) != spec.changed(**free),
            warnings=(policies.unpinned(spec.name),)
            if was_pinned and not pinned and spec.scale
            else (),
        )

    def functions(self) -> list[FunctionStatus]:
        """What is deployed, sorted by name."""
        return [self._status(name) for name in sorted(self._specs)]

    def find(self, name: str) -> FunctionStatus:
        """Raises `FunctionNotFound` with a suggestion."""
        return self._status(self._choose(name))

    def inspect(self, name: str) -> dict[str, object]:
        """The function's spec under `settings`, with the keys that every backend has."""
        status = self.find(name)
        return {
            "name": status.name,
            "stack": "",
            "image": status.image,
            "replicas": {"wanted": status.wanted, "running": status.running},
            **policies.shown(status),
            "settings": self._specs[status.name].model_dump(mode="json"),
            "tasks": [],
            "warnings": [],
            "advice": [],
        }

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,  # noqa: ARG002
        tail: int | None = None,  # noqa: ARG002
        since: float | None = None,  # noqa: ARG002
        timestamps: bool = False,  # noqa: ARG002
    ) -> Iterator[LogLine]:
        """Nothing: a handler here writes to the test's own output."""
        self.find(name)
        return iter(())

    def scale(self, name: str, replicas: int, *, progress: Progress = silent) -> None:
        """Changes the number that is shown; calls run at once whatever it is."""
        name = self._choose(name)
        progress(f"{name}: {replicas} of {replicas} replicas up")
        with self._lock:
            spec = self._specs[name] = self._specs[name].changed(replicas=replicas)
            if spec.scale is not None:
                self._pinned.add(name)

    def unpin(self, name: str) -> None:
        """Shows it as scaled by itself; there is no autoscaler here. Raises `NoPolicy`."""
        name = self._choose(name)
        if self._specs[name].scale is None:
            raise NoPolicy(name)
        self._pinned.discard(name)

    def set_image(
        self, name: str, image: str, image_name: str, *, progress: Progress = silent
    ) -> Deployment:
        """Changes what is shown; the handler stays."""
        spec = self._specs[self._choose(name)]
        changed = spec.changed(image=image, image_name=image_name)
        return self._deployed(changed, pinned=spec.name in self._pinned, progress=progress)

    def remove(self, name: str, *, progress: Progress = silent) -> None:  # noqa: ARG002
        """Forgets the function; its handler can be deployed again."""
        name = self._choose(name)
        del self._specs[name]
        self._pinned.discard(name)

    def transport(self, name: str | None = None) -> AbstractContextManager[Transport]:
        """Runs calls in threads of this process."""
        if name is not None:
            self.find(name)
        return contextlib.closing(_Transport(self))

    def controller(self) -> AbstractContextManager[Controller]:
        """What `up` has brought up. Raises `NoController`."""
        if self._up_since is None:
            raise NoController("no controller is up", hint="`funker up` brings one up.")
        return contextlib.nullcontext(_Controller(self, self._up_since))

    def up(self, options: ControlPlane, *, progress: Progress = silent) -> list[str]:  # noqa: ARG002
        """Has `controller` answer; changes nothing else."""
        if self._up_since is not None:
            return []
        self._up_since = time.monotonic()
        return ["the controller is up"]

    def down(self, *, progress: Progress = silent) -> list[str]:  # noqa: ARG002
        """Has `controller` refuse again; what became of calls isn't forgotten."""
        if self._up_since is None:
            return []
        self._up_since = None
        return ["the controller is down"]

    def keys(self, *, progress: Progress = silent) -> list[str]:  # noqa: ARG002
        """Makes none: nobody has to prove anything here."""
        return []

    def client_key(self) -> str:
        """Raises `NoController`: nobody elsewhere can call."""
        raise NoController("a controller in memory has no keys")

    def run(self, call: Call, cancel: threading.Event | None) -> Result:
        """One call. Raises a `CallError`."""
        name = self._choose(call.function)
        with self.ledger.writing(call.id, name, f"{name}.1"):
            return self._run(name, call, cancel)

    def _run(self, name: str, call: Call, cancel: threading.Event | None) -> Result:
        spec = self._specs[name]
        argument = decode_value(call.content_type, call.body or b"")
        self.calls.append((name, argument))
        limit = spec.timeout
        if call.timeout_ms is not None:
            limit = min(limit, call.timeout_ms / 1000)
        patience = float("inf") if call.deadline_ms is None else call.deadline_ms / 1000
        run = _Run(self._handlers[name], argument, is_json=call.content_type == JSON)
        run.wait(min(limit, patience), cancel)
        if run.done.is_set():
            content_type, body = run.answer()
            return Result(id=call.id, content_type=content_type, replica=f"{name}.1", body=body)
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"{name} was cancelled", function=name)
        if limit <= patience:
            raise FunctionTimeout(f"{name} ran longer than {limit:g}s", function=name)
        raise DeadlineExceeded(f"{name} didn't answer within {patience:g}s", function=name)

    def _choose(self, name: str) -> str:
        return choose(name, dict.fromkeys(self._specs, ""))

    def _status(self, name: str) -> FunctionStatus:
        spec = self._specs[name]
        created, updated = self._changed[name]
        return FunctionStatus(
            name=name,
            image=spec.image_name or spec.image,
            wanted=spec.replicas,
            running=spec.replicas,
            created=created,
            updated=updated,
            scale=spec.scale,
            pinned=name in self._pinned,
            calls=spec.calls,
            isolation=spec.isolation,
        )


class _Transport:
    def __init__(self, backend: Memory) -> None:
        self._backend = backend

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        try:
            return self._backend.run(call, cancel)
        except CallError as error:
            return Error(**{**error.fields(), "id": call.id})

    def ping(self, function: str) -> Pong:
        number = secrets.randbits(32)
        try:
            name = self._backend.find(function).name
        except FunctionNotFound:
            return Pong(number=number, function=function, state="absent")
        return Pong(number=number, function=name, names=(name,), state="idle")

    def close(self) -> None:
        pass


class _Controller:
    def __init__(self, backend: Memory, since: float) -> None:
        self._backend = backend
        self._since = since

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        ledger = self._backend.ledger
        match what:
            case "calls":
                return ledger.last(function, limit)
            case "call":
                return ledger.find(id)
        functions = self._backend.functions()
        return {
            "epoch": "memory",
            "uptime_s": round(time.monotonic() - self._since, 1),
            "snapshot_age_s": 0.0,
            "functions": {function.name: self._describe(function) for function in functions},
        }

    def _describe(self, function: FunctionStatus) -> dict[str, Any]:
        ledger = self._backend.ledger
        running = ledger.running(function.name)
        return {
            "names": [function.name],
            "wanted": function.wanted,
            "running": function.running,
            "image": function.image,
            "routed": True,
            "problem": "",
            "inflight": len(running),
            "starting": 0,
            "arrivals": 0.0,
            "arrivals_fast": 0.0,
            "service_s": None,
            "recycle_s": None,
            "waiting_s": 0.0,
            "last_call_s": None,
            "scaling": None,
            "queued": 0,
            "queued_bytes": 0,
            "free": max(0, function.running - len(running)),
            "busy": min(function.running, len(running)),
            "leaving": 0,
            "failing": None,
            **ledger.totals(function.name),
            "replicas": [
                {
                    "replica": f"{function.name}.{number}",
                    "node": "",
                    "version": "",
                    "session": "",
                    "protocol": PROTOCOL,
                    "state": "busy" if number <= len(running) else "free",
                    "calls": running[number - 1 : number],
                }
                for number in range(1, function.running + 1)
            ],
        }


class _Run:
    """A handler at work in a thread. One that is given up goes on: threads can't be killed."""

    def __init__(self, handler: Handler, argument: Any, *, is_json: bool) -> None:
        self.done = threading.Event()
        self._handler = handler
        self._argument = argument
        self._as_keywords = is_json and isinstance(argument, dict)
        self._value: Any = None
        self._error: Exception | None = None
        threading.Thread(target=self._work, name="funker-memory", daemon=True).start()

    def wait(self, seconds: float, cancel: threading.Event | None) -> None:
        give_up = time.monotonic() + seconds
        while not self.done.is_set() and (left := give_up - time.monotonic()) > 0:
            if cancel is not None and cancel.is_set():
                return
            self.done.wait(min(left, _CANCEL_POLL) if cancel is not None else min(left, 3600))

    def answer(self) -> tuple[str, bytes]:
        """The encoded value. Raises `FunctionError` for what was raised, or can't be sent."""
        try:
            if self._error is not None:
                raise self._error
            if isinstance(self._value, str):
                return "text/plain; charset=utf-8", self._value.encode()
            return encode_value(self._value)
        except Exception as exc:
            kind = type(exc).__name__
            raise FunctionError(
                f"{kind}: {exc}",
                exception_type=kind,
                traceback="".join(traceback.format_exception(exc)),
            ) from exc

    def _work(self) -> None:
        try:
            given = self._argument
            value = self._handler(**given) if self._as_keywords else self._handler(given)
            self._value = asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value
        except Exception as exc:  # noqa: BLE001
            self._error = exc
        finally:
            self.done.set()


async def _awaited(value: Any) -> Any:
    return await value
