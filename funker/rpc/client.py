"""Calling functions: `funker.call`, `funker.function` and what is under them."""

from __future__ import annotations

import collections
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from funker.rpc.calls import DEADLINE_S
from funker.rpc.direct import Direct, max_body
from funker.rpc.errors import PayloadTooLarge, ProtocolError
from funker.rpc.keys import find_client_file
from funker.rpc.messages import BYTES, JSON, Call, Error, Result, media_type
from funker.rpc.ways import open_ways

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

#: Seconds that a caller who gives a time-out, but no deadline, waits for a replica.
QUEUE_S = 60.0
#: Calls of one `map` at the same time.
CONCURRENCY = 16

_NOTHING = object()


class Transport(Protocol):
    """A way to the functions. Thread-safe."""

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error: ...


def call(name: str, /, **kwargs: Any) -> Any:
    """Call a function by its service name; every keyword goes to its handler.

    Returns what the handler returned: a JSON value, `str` or `bytes`. Raises a `CallError`
    (`funker.rpc.errors`): one for each thing that can become of a call.
    """
    return function(name)(**kwargs)


def function(
    name: str,
    /,
    *,
    timeout: float | None = None,
    deadline: float | None = None,
    idempotent: bool = False,
    address: str = "",
) -> Function:
    """A handle to a function, with options for its calls.

    - `timeout`: seconds that the handler may run; the function's own limit holds as well.
    - `deadline`: seconds of patience in all, waiting for a replica included.
    - `idempotent`: running twice is harmless, so a call whose replica was lost is made again.
    - `address`: "host" or "host:port" of one replica, instead of looking the name up.
    """
    return Function(name, timeout, deadline, idempotent, address)


class Function(NamedTuple):
    """Call it with the handler's keywords, or with one value: JSON, or `bytes`."""

    name: str
    timeout: float | None = None
    deadline: float | None = None
    idempotent: bool = False
    address: str = ""

    def __call__(self, value: Any = _NOTHING, /, **kwargs: Any) -> Any:
        return self._call(value, kwargs, None)

    async def aio(self, value: Any = _NOTHING, /, **kwargs: Any) -> Any:
        """The same from a coroutine. Cancelling the task cancels the call."""
        import asyncio

        cancel = threading.Event()
        try:
            return await asyncio.wrap_future(_threads().submit(self._call, value, kwargs, cancel))
        except asyncio.CancelledError:
            cancel.set()
            raise

    def map(self, values: Iterable[Any], /, *, concurrency: int = CONCURRENCY) -> Iterator[Any]:
        """The answers for many values, in their order, `concurrency` calls at a time.

        A mapping becomes keywords, anything else the one argument. The first error is raised
        where its answer would have come; the calls under way at that moment are cancelled.
        """
        cancel = threading.Event()
        waiting: collections.deque[Future[Any]] = collections.deque()
        try:
            for value in values:
                waiting.append(_threads().submit(self._call, value, {}, cancel))
                if len(waiting) >= concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            cancel.set()

    def _call(self, value: Any, kwargs: Mapping[str, Any], cancel: threading.Event | None) -> Any:
        if kwargs and value is not _NOTHING:
            raise TypeError(f"{self.name} takes keywords or one value, not both")
        content_type, body = encode_value(kwargs if value is _NOTHING else value)
        result = invoke(
            _transport(self.address),
            self.name,
            body,
            content_type,
            timeout=self.timeout,
            deadline=self.deadline,
            idempotent=self.idempotent,
            cancel=cancel,
        )
        return decode_value(result.content_type, result.body or b"")


def invoke(
    transport: Transport,
    name: str,
    body: bytes,
    content_type: str = JSON,
    *,
    timeout: float | None = None,
    deadline: float | None = None,
    idempotent: bool = False,
    cancel: threading.Event | None = None,
) -> Result:
    """Make one call of raw bytes over a transport. Raises a `CallError`.

    `timeout` and `deadline` are in seconds, as in `function`.
    """
    if len(body) > (limit := max_body()):
        raise PayloadTooLarge(
            f"the body has {len(body)} bytes, the limit is {limit}",
            hint="pass a reference to the data, or raise FUNKER_MAX_BODY here and in the function",
            function=name,
            retry_safe=True,
        )
    if deadline is None:
        deadline = DEADLINE_S if timeout is None else timeout + QUEUE_S
    outcome = transport.run(
        Call(
            id=os.urandom(16).hex(),
            function=name,
            timeout_ms=None if timeout is None else round(timeout * 1000),
            deadline_ms=round(deadline * 1000),
            idempotent=idempotent,
            content_type=content_type,
            body=body,
        ),
        cancel=cancel,
    )
    if isinstance(outcome, Error):
        raise outcome.exception()
    return outcome


def encode_value(value: Any) -> tuple[str, bytes]:
    """A call's argument as (content type, bytes). Raises `TypeError` if it can't be sent."""
    if isinstance(value, bytes | bytearray | memoryview):
        return BYTES, bytes(value)
    try:
        return JSON, json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the arguments can't be sent ({error}): use JSON values or bytes"
        ) from None


def decode_value(content_type: str, body: bytes) -> Any:
    """An answer's bytes as what the handler returned: JSON value, `str` or `bytes`.

    Raises `ProtocolError` if the body isn't what its content type says.
    """
    kind = media_type(content_type)
    try:
        if kind == JSON:
            return json.loads(body)
        return body.decode() if kind.startswith("text/") else body
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the answer isn't valid {kind}: {error}") from None


# Made when first needed, and made again in a forked child: threads and sockets don't survive.
_made: dict[tuple[Any, ...], Any] = {}
_making = threading.Lock()


def _forked() -> None:
    global _making
    _making = threading.Lock()  # the parent's may have been held by a thread that isn't here


os.register_at_fork(after_in_child=_forked)


def _transport(address: str) -> Transport:
    """The way to the functions: the one replica that is named, or what `open_ways` finds."""
    key: tuple[Any, ...] = (os.getpid(), "address", address)
    if not address:
        # What decides it: looked at for each call, read only when it has changed.
        told = (os.environ.get("FUNKER_ROUTER"), os.environ.get("FUNKER_ROUTER_WAIT"))
        key = (os.getpid(), *told, find_client_file(os.environ))
    with _making:
        if key not in _made:
            _made[key] = (
                Direct(address=address, max_body=max_body()) if address else open_ways(os.environ)
            )
        found: Transport = _made[key]
        return found


def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # with logging 8 ms, for `aio` and `map` only

    key = (os.getpid(), "threads")
    with _making:
        if key not in _made:
            _made[key] = ThreadPoolExecutor(max_workers=128, thread_name_prefix="funker-call")
        found: ThreadPoolExecutor = _made[key]
        return found
