"""The function that is called: the least that there is to do."""

from __future__ import annotations


def handle(x: int, y: int) -> int:
    return x + y
