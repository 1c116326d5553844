"""The smallest function: keywords in, a value out."""

from __future__ import annotations


def handle(x: float, y: float) -> float:
    """The sum of two numbers."""
    return x + y
