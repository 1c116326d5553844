"""Counts words: a text of any kind in, figures out."""

from __future__ import annotations

import re
from collections import Counter


def handle(text: bytes) -> dict[str, object]:
    """How many lines and words a text has, and how often each word stands in it.

    A body that isn't JSON arrives as the bytes that it is. `counts` has the most frequent word
    first, words that are equally frequent in alphabetical order.
    """
    decoded = text.decode(errors="replace")
    counts = Counter(re.findall(r"\w+(?:['\u2019]\w+)*", decoded.casefold()))
    return {
        "lines": decoded.count("\n"),
        "words": counts.total(),
        "counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    }
