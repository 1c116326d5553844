"""What things cost."""

from __future__ import annotations

#: Cents.
PRICES = {"tea": 320, "coffee": 280, "cake": 450}


def handle(item: str, count: int = 1) -> int:
    """Cents for so many of an item. From ten on, one in ten is free."""
    if item not in PRICES:
        raise ValueError(f"there is no {item}; there is {', '.join(sorted(PRICES))}")
    return PRICES[item] * (count - count // 10)
