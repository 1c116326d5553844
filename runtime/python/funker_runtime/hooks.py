"""What a handler's module wants done in each worker before its call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Hook = TypeVar("Hook", bound=Callable[[], object])

_hooks: list[Callable[[], object]] = []


def after_fork(hook: Hook) -> Hook:
    """Run `hook()` before the handler, in the process that runs it. Gives the hook back.

    For what must not be shared between calls: with `isolation: process` the handler's module is
    imported once, and each call runs in a copy of that process. A connection made at import time
    would be one connection in many processes; made in a hook, each call has its own.

        @funker.after_fork
        def connect():
            global database
            database = psycopg.connect(...)

    Hooks run in the order in which they were given, when the call has come, with either
    isolation. What one raises is told to the caller as if the handler had raised it.
    """
    _hooks.append(hook)
    return hook


def run() -> None:
    """Run all hooks. Raises what they raise."""
    for hook in _hooks:
        hook()
