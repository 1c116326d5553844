"""Functions as containers on Docker Swarm: one call, one fresh container.

    import funker

    funker.call("add", x=1, y=2)                         # -> 3
    add = funker.function("add", timeout=5, idempotent=True)
    add(x=1, y=2);  await add.aio(x=1, y=2);  list(add.map([{"x": 1, "y": 2}]))

    funker.handle(add)                                   # makes a program a replica of `add`
    @funker.after_fork                                   # runs before the handler, for each call

Names are loaded when first used, so that `import funker` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funker.rpc.client import Function, call, function
    from funker.rpc.errors import (
        AmbiguousFunction,
        CallError,
        Cancelled,
        DeadlineExceeded,
        FunctionCrashed,
        FunctionError,
        FunctionNotFound,
        FunctionTimeout,
        FunkerError,
        InitFailed,
        PayloadTooLarge,
        ProtocolError,
        QueueFull,
        ReplicaLost,
        RouterUnavailable,
        Unauthorized,
    )
    from funker_runtime import handle
    from funker_runtime.hooks import after_fork

__version__ = "0.1.0"

__all__ = [
    "AmbiguousFunction",
    "CallError",
    "Cancelled",
    "DeadlineExceeded",
    "Function",
    "FunctionCrashed",
    "FunctionError",
    "FunctionNotFound",
    "FunctionTimeout",
    "FunkerError",
    "InitFailed",
    "PayloadTooLarge",
    "ProtocolError",
    "QueueFull",
    "ReplicaLost",
    "RouterUnavailable",
    "Unauthorized",
    "after_fork",
    "call",
    "function",
    "handle",
]

_HOMES = {
    "after_fork": "funker_runtime.hooks",
    "Function": "funker.rpc.client",
    "call": "funker.rpc.client",
    "function": "funker.rpc.client",
    "handle": "funker_runtime",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'funker' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "funker.rpc.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
