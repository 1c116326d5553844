"""A program that is a function: whoever starts it gets one call answered, then it ends."""

from __future__ import annotations

import funker


def add(x: float, y: float) -> float:
    return x + y


funker.handle(add)
