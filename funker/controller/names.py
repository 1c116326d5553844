"""Which function a caller means. Pure.

- A full name comes before a short one, and a short one must be one function's alone.
- Until somebody has told what functions there are, any name may be right. One that nobody has told
  may still belong to a function that was made a moment ago: the next catalogue knows.
- A misspelled name costs a look at all names once; programs repeat their mistakes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from funker.rpc.messages import Error

#: Seconds after a catalogue within which the next one is due. (The reconciler looks every 2 s, and
#: at once where something changes.)
NEXT_S = 5.0
#: Misspelled names whose correction is remembered, and characters of one that are looked at.
SUGGESTIONS, MAX_NAME = 256, 128


class Names:
    """The functions that there are, by full and by short name."""

    def __init__(self) -> None:
        self._functions: frozenset[str] | None = None
        self._told_at = 0.0
        self._short: dict[str, list[str]] = {}
        self._suggestions: dict[str, str] = {}

    @property
    def told(self) -> bool:
        """Somebody has said what functions there are."""
        return self._functions is not None

    def learn(self, functions: Mapping[str, Sequence[str]], now: float) -> None:
        """These are all: each full name with its short names."""
        self._functions, self._told_at = frozenset(functions), now
        self._short, self._suggestions = {}, {}
        for function, names in functions.items():
            for name in {*names} - {function}:
                self._short.setdefault(name, []).append(function)

    def may_come(self, name: str, now: float) -> bool:
        """Whether the next catalogue, which is due, may have this name, which the last lacks."""
        unknown = name not in self and name not in self._short
        return unknown and self.told and not self.is_overdue(now)

    def is_overdue(self, now: float) -> bool:
        """Whether the catalogue that was told is an old one."""
        return self.told and now >= self._told_at + NEXT_S

    def __contains__(self, function: object) -> bool:
        return self._functions is not None and function in self._functions

    def resolve(self, name: str) -> str | Error:
        """The full name of the function that is meant, or the error that says why there is none."""
        if self._functions is None or name in self._functions:
            return name
        candidates = sorted(self._short.get(name, ()))
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return Error(
                code="ambiguous_function",
                message=f"{name!r} may be {' or '.join(candidates)}",
                hint="call it by its full name",
                function=name,
            )
        return Error(
            code="function_not_found",
            message=f"no function {name!r}",
            hint=self._suggestion(name),
            function=name,
        )

    def _suggestion(self, name: str) -> str:
        if name not in self._suggestions:
            if len(self._suggestions) >= SUGGESTIONS:
                self._suggestions.clear()
            known = [*(self._functions or ()), *self._short]
            near = difflib.get_close_matches(name[:MAX_NAME], known, n=1)
            self._suggestions[name] = f"did you mean {near[0]!r}?" if near else ""
        return self._suggestions[name]
