"""What every backend offers, and the errors that it may raise.

A backend turns a `FunctionSpec` into replicas and back into `FunctionStatus`; it has no say in
what happens to a call. Nothing outside this package asks which backend it is talking to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from funker.rpc.errors import FunkerError
from funker.rpc.messages import Call, Error, Pong, Result
from funker.spec import CallPolicy, FunctionSpec, ScalePolicy

if TYPE_CHECKING:
    from funker.images.source import Source

#: What a deploy did to a function.
Outcome = Literal["created", "updated", "unchanged"]

#: Told in a few words what is going on; may be called often.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress for those who don't want any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a deploy has done."""

    name: str
    outcome: Outcome
    image: str
    replicas: int
    #: A network on which callers reach the function. Empty: they are on this machine.
    network: str
    #: Whether tasks were started anew (a change of labels or of their number starts none anew).
    restarted: bool
    #: What the user should know, like a function that is bound to one node.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a source or an image has become: the fields of a spec that say so."""

    #: A digest or an ID: what `FunctionSpec.image` takes.
    image: str
    #: Its name for people.
    image_name: str
    #: Like linux/amd64, if it matters where it runs.
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStatus:
    """One deployed function as a list shows it."""

    name: str
    image: str
    #: Replicas that shall run, and that run. Under load a few are always about to start.
    wanted: int
    running: int
    #: Unix times in seconds.
    created: float
    updated: float
    #: The stack that owns it, or nothing.
    stack: str = ""
    #: What its replicas run: the image's digest or ID. Empty: no image.
    reference: str = ""
    #: How the autoscaler may choose `wanted`. None: it doesn't. Pinned: not for now, since
    #: somebody has said a number.
    scale: ScalePolicy | None = None
    pinned: bool = False
    calls: CallPolicy = field(default_factory=CallPolicy)
    #: What is fresh for each call: `container` or `process`.
    isolation: str = "container"
    warnings: tuple[str, ...] = ()

    def age(self, now: float | None = None) -> float:
        """Seconds since the function was made: a change of its replicas makes it no younger."""
        return max(0.0, (time.time() if now is None else now) - self.created)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that a replica wrote."""

    text: str
    stream: Literal["stdout", "stderr"]
    #: `NAME.SLOT`, the task's ID and the node's host name, as far as the backend knows them.
    replica: str = ""
    task: str = ""
    node: str = ""
    #: RFC 3339 with nanoseconds, if time stamps were asked for.
    time: str = ""
    #: The id of the call that printed it; empty for what no call did, or none is known to have.
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """How the controller shall be brought up; what isn't said has a default or stays as it is."""

    #: The image of router and reconciler, if a certain one is wanted.
    image: str = ""
    #: Otherwise one is built where the backend needs one: on this base, pushed to this registry.
    base: str = ""
    registry: str = ""
    #: Addresses of the network `funker`, if it has to be made.
    subnet: str = ""
    #: A port of the router's node on which callers from outside reach it. 0: none.
    publish: int = 0


class Transport(Protocol):
    """A way to replicas. Many threads may use one at once."""

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """The call's one outcome. Blocks until there is one; setting `cancel` cancels the call."""

    def ping(self, function: str) -> Pong:
        """How the function's replicas are."""

    def close(self) -> None:
        """Gives up what is open and frees everything. May be called again."""


class Controller(Protocol):
    """A way to ask the router what it knows (`QUERY` in docs/protocol.md)."""

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """The answer's JSON value. `what` is `status`, `calls` or `call`.

        Raises `RouterUnavailable`, or `NoController` where no router is to be asked.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One function as the reconciler sees it."""

    name: str
    #: Other names by which callers may mean it, like the one without its stack's.
    names: tuple[str, ...] = ()
    #: Replicas that shall run, and that run.
    wanted: int
    running: int
    #: The image's name for people.
    image: str = ""
    #: Whether its replicas can join the router: they have its key and are on its network.
    routed: bool = True
    #: Why replicas are missing, in the backend's words; what is wrong with its settings.
    problem: str = ""
    #: How the autoscaler shall choose the number of replicas. None: `wanted` stays.
    scale: ScalePolicy | None = None
    #: It has a policy, which is suspended: somebody has said a number.
    pinned: bool = False
    calls: CallPolicy = field(default_factory=CallPolicy)
    #: What is fresh for each call: `container` or `process`.
    isolation: str = "container"
    #: Cores of the nodes on which its replicas may run.
    cores: int = 1
    #: An update of it is under way: there are replicas of two versions.
    updating: bool = False
    #: Why its replicas end before they are ready, in the backend's words. Empty: they don't.
    failing: str = ""


class Fleet(Protocol):
    """What the reconciler needs of a backend.

    It calls from one thread at a time, but for `wait`, which another thread is in meanwhile.
    """

    def observe(self) -> list[Observed]:
        """All functions, whoever made them, sorted by name. Raises `BackendError`."""

    def wait(self, seconds: float) -> None:
        """Returns when something may have changed, at the latest after so many seconds."""

    def scale(self, name: str, replicas: int) -> None:
        """Changes the number of replicas that shall run, for the autoscaler.

        Nothing happens if it isn't the autoscaler's to choose any more: somebody may just have
        pinned it. Raises `BackendError`.
        """

    def revive(self, name: str) -> bool:
        """Starts replicas that shall run and that nobody will start; whether there were any.

        And ends those that are too many and that nobody will end. Raises `BackendError`.
        """

    def close(self) -> None:
        """Frees everything."""


class Backend(Protocol):
    """Deploys, lists, shows, scales and removes functions; brings the controller up and down."""

    @property
    def name(self) -> str:
        """`swarm`, `local` or `memory`."""

    @property
    def place(self) -> str:
        """Which one of its kind, for people: an engine's address, a directory."""

    def ready(self) -> None:
        """Returns if a deploy could begin now; asked before a build that may take minutes.

        Raises `BackendError`.
        """

    def prepare(
        self,
        source: Source,
        *,
        base: str | None = None,
        registry: str | None = None,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Prepared:
        """Makes of a source what `deploy` needs, unless it is there already.

        What has no images passes over `base` and `registry`. `tag` is one more name for the
        image. Raises `FunkerError`: a `BackendError`, or what its author has to change.
        """

    def adopt(
        self,
        reference: str,
        name: str,
        *,
        registry: str | None = None,
        progress: Progress = silent,
    ) -> Prepared:
        """What `deploy` needs for a function `name` of an image that exists.

        Raises `ImageMissing`, `Unsupported`, or another `FunkerError`.
        """

    def push(self, reference: str, registry: str, *, progress: Progress = silent) -> str:
        """Pushes an image of a function, by its name or ID; its name by digest.

        Raises `ImageMissing`, `Unsupported`, or another `FunkerError`.
        """

    def image_version(self, reference: str) -> str | None:
        """The version of the runtime in an image (`FunctionStatus.reference`).

        Empty: it is older than versions. None: it isn't known here, or holds no runtime.
        """

    def renew(
        self,
        function: FunctionStatus,
        *,
        registry: str | None = None,
        progress: Progress = silent,
    ) -> Prepared | None:
        """The function's image with the current runtime, not yet deployed; None: it has that.

        Pushed to the registry, else to where the old one came from. Raises `FunkerError`.
        """

    def deploy(self, spec: FunctionSpec, *, progress: Progress = silent) -> Deployment:
        """Creates or updates the function; returns when its replicas are up.

        Raises `BackendError`, in most cases one of its subclasses. After a failed update the
        function runs as it did before.
        """

    def functions(self) -> list[FunctionStatus]:
        """All functions, whoever made them, sorted by name."""

    def find(self, name: str) -> FunctionStatus:
        """The function with this full name, or with this short name where it is unique.

        Raises `FunctionNotFound` (with a suggestion) or `AmbiguousFunction`.
        """

    def inspect(self, name: str) -> dict[str, object]:
        """All that is known of the function, ready to be shown as JSON."""

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> Iterator[LogLine]:
        """What the function's replicas wrote, the last `tail` lines or those since a Unix time."""

    def scale(self, name: str, replicas: int, *, progress: Progress = silent) -> None:
        """Changes the number of replicas; returns when so many run.

        One that is scaled by itself is pinned to the number. Raises `FunctionNotFound`,
        `AmbiguousFunction` or `BackendError`.
        """

    def unpin(self, name: str) -> None:
        """Has the autoscaler choose the number of replicas again.

        Raises `NoPolicy` for a function that has none, `FunctionNotFound`, `AmbiguousFunction`
        or `BackendError`.
        """

    def set_image(
        self, name: str, image: str, image_name: str, *, progress: Progress = silent
    ) -> Deployment:
        """Gives the function another image (a digest or ID) and changes nothing else of it.

        As `deploy`: returns when its replicas are up, and undoes what fails. Raises also
        `FunctionNotFound`, `AmbiguousFunction`, and `NameTaken` for a function of a stack.
        """

    def remove(self, name: str, *, progress: Progress = silent) -> None:
        """Removes the function; returns when its replicas are gone, their grace respected."""

    def transport(self, name: str | None = None) -> AbstractContextManager[Transport]:
        """A way to the replicas of this function, or of any that can be reached together.

        Through the router where there is one.
        """

    def controller(self) -> AbstractContextManager[Controller]:
        """A way to ask the controller. Raises `NoController` where there is none."""

    def up(self, options: ControlPlane, *, progress: Progress = silent) -> list[str]:
        """Brings the controller up; returns when it answers. What was changed, a line for each.

        May be called again: what is as it should be stays. Raises `BackendError`.
        """

    def down(self, *, progress: Progress = silent) -> list[str]:
        """Takes the controller down, the functions stay. What was changed, a line for each."""

    def keys(self, *, progress: Progress = silent) -> list[str]:
        """Makes the controller's keys unless they are there. What was changed, a line for each.

        `up` does so too. Raises `BackendError`.
        """

    def client_key(self) -> str:
        """The key file of the controller's callers (`funker.rpc.keys`), for callers elsewhere.

        With the router's address if it can be reached from there. Raises `NoController`.
        """


class BackendError(FunkerError):
    """The root of what a backend can't do. `hint` says what to do about it."""


class Unsupported(BackendError):
    """Raised for what a backend can't do by its nature. `field` is the spec's or the option's."""

    def __init__(self, backend: str, field: str, *, hint: str) -> None:
        super().__init__(f"{field}: the {backend} backend has no such thing", hint=hint)
        self.field = field


class EngineUnavailable(BackendError):
    """Raised when no Docker engine answers where one should."""


class UnknownContext(BackendError):
    """Raised when a Docker context doesn't exist or can't be read."""


class NotASwarm(BackendError):
    """Raised when the engine is in no swarm."""


class NotAManager(BackendError):
    """Raised when the engine's node can't manage its swarm: a worker, locked, or no leader."""


class NoPolicy(BackendError):
    """Raised when a function shall be scaled by itself, and nothing says between which numbers."""

    def __init__(self, name: str, *, stack: str = "") -> None:
        hint = "Deploy it without `--replicas`, or with `--min` and `--max`."
        if stack:
            hint = f"Give it labels in the file of the stack {stack}, like `funker.scale.max: 20`."
        super().__init__(f"{name} has a fixed number of replicas, and no policy", hint=hint)


class NoController(BackendError):
    """Raised when a question is for the controller, and none is up."""


class NameTaken(BackendError):
    """Raised when the name belongs to a service that isn't ours to change."""


class ImageMissing(BackendError):
    """Raised when a node that shall run the function can't get its image."""


class NoNodeFits(BackendError):
    """Raised when the scheduler finds no node for the function's replicas."""


class SubnetClash(BackendError):
    """Raised when the overlay's addresses overlap with others."""


class NetworkUnusable(BackendError):
    """Raised when a network is missing, or can't carry calls as it is."""


class MissingResource(BackendError):
    """Raised when a secret, config or network that the function names doesn't exist."""


class DeployFailed(BackendError):
    """Raised when the new replicas don't come up. Carries what they said.

    `traceback` is the handler's, where it could not be loaded; `output_tail` is the last that
    the replicas wrote.
    """

    def __init__(
        self, message: str, *, hint: str = "", traceback: str = "", output_tail: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback
        self.output_tail = output_tail


class ControllerFailed(BackendError):
    """Raised when the controller doesn't come up. `output_tail` is the last that it wrote."""

    def __init__(self, message: str, *, hint: str = "", output_tail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output_tail = output_tail
