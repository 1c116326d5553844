"""From a handler's name to a callable, and from bytes to its arguments and back."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from funker.rpc.messages import BYTES, JSON, TEXT, media_type

#: What an image runs unless it says otherwise: `handle` in `handler.py`.
DEFAULT_HANDLER = "handler:handle"


class Raw:
    """A handler that is given a call's header and body as they are, and answers in bytes."""

    def answer(self, call: Mapping[str, Any], body: bytes) -> tuple[str, bytes]:
        """The answer's content type, and the answer. Raises what is the function's error."""
        raise NotImplementedError


Handler = Callable[..., Any] | Raw


class HandlerError(Exception):
    """Raised when the handler's name leads to no callable. The message says which part is wrong."""


def load(name: str) -> Handler:
    """The callable named `module:callable`; the callable may be dotted (`app:api.handle`).

    Raises `HandlerError`, or whatever the module raises while it is imported.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise HandlerError(f"handler {name!r} isn't of the form module:callable")
    if (cwd := os.getcwd()) not in sys.path:  # noqa: PTH109 - pathlib costs 5 ms of the start
        sys.path.insert(0, cwd)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise HandlerError(
            f"handler {name!r}: there is no module {error.name!r} in {cwd}"
        ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise HandlerError(f"handler {name!r}: {module_name} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise HandlerError(f"handler {name!r} is a {type(found).__name__}, not callable")
    return found  # type: ignore[no-any-return]


def invoke(handler: Handler, call: Mapping[str, Any], body: bytes) -> tuple[str, bytes]:
    """Run the handler on a call's body; its answer as (content type, bytes).

    `call` is the header, of which a callable needs the `content_type` alone.

    A JSON object becomes keyword arguments, other JSON one positional argument, a body of
    another content type one `bytes` argument. A coroutine is run to its end. Raises what the
    handler raises; `ValueError` for a body that isn't the JSON it claims to be, and
    `TypeError` for an answer that can't be sent.
    """
    if isinstance(handler, Raw):
        return handler.answer(call, body)
    if media_type(call["content_type"]) != JSON:
        answer = handler(body)
    else:
        try:
            value = json.loads(body) if body else {}
        except ValueError as error:
            raise ValueError(f"the body isn't valid JSON: {error}") from None
        answer = handler(**value) if isinstance(value, dict) else handler(value)
    if hasattr(answer, "__await__"):
        import asyncio

        answer = asyncio.run(_finished(answer))
    return _encoded(answer)


async def _finished(awaitable: Any) -> Any:
    return await awaitable


def _encoded(answer: object) -> tuple[str, bytes]:
    if isinstance(answer, bytes | bytearray | memoryview):
        return BYTES, bytes(answer)
    try:
        if isinstance(answer, str):
            return TEXT, answer.encode()
        return JSON, json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the answer can't be sent ({error}): return JSON values, str or bytes"
        ) from None
