"""Which function a name means. Pure.

A function's full name is its service's. One of a stack (`shop_add` in `shop`) may be called by
its short name (`add`) where only one function has it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from funker.rpc.errors import AmbiguousFunction, FunctionNotFound


def short(name: str, stack: str) -> str:
    """The name without its stack's."""
    return name.removeprefix(f"{stack}_") if stack else name


def choose(name: str, stacks: Mapping[str, str]) -> str:
    """The full name of the function that `name` means.

    `stacks` has the full names of all functions, each with its stack or "". Raises
    `FunctionNotFound` with a suggestion, or `AmbiguousFunction` with the candidates.
    """
    if name in stacks:
        return name
    candidates = sorted(full for full, stack in stacks.items() if short(full, stack) == name)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise AmbiguousFunction(
            f'"{name}" fits {", ".join(candidates)}', hint="Use the full name.", function=name
        )
    raise FunctionNotFound(f'no function "{name}"', hint=_suggestion(name, stacks), function=name)


def _suggestion(name: str, stacks: Mapping[str, str]) -> str:
    if not stacks:
        return "There is none yet: `funker deploy PATH`."
    spoken = {short(full, stack): full for full, stack in stacks.items()}
    for known in (list(stacks), list(spoken)):
        if close := difflib.get_close_matches(name.lower(), known, n=1):
            return f"Did you mean {spoken.get(close[0], close[0])}?"
    return "`funker ls` lists them."
