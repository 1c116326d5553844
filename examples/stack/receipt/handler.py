"""Writes receipts."""

from __future__ import annotations


def handle(item: str, count: int, cents: int) -> str:
    """A receipt as text."""
    return f"{count} x {item:<10}{cents // 100:>6}.{cents % 100:02}\n"
