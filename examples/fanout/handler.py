"""Counts the words of a large text by many calls of another function at the same time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import funker

#: Counting a part twice does no harm, so a call whose replica is lost is made again.
wordcount = funker.function(os.environ.get("WORDCOUNT", "wordcount"), idempotent=True)
#: How many parts a text is cut into.
PARTS = int(os.environ.get("PARTS", "8"))


def handle(text: bytes) -> dict[str, object]:
    """What `wordcount` answers for the whole text, put together from its parts."""
    lines, counts = 0, Counter[str]()
    for answer in wordcount.map(parts_of(text)):
        lines += answer["lines"]
        counts.update(answer["counts"])
    return {
        "lines": lines,
        "words": counts.total(),
        "counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    }


def parts_of(text: bytes) -> Iterator[Any]:
    """The text in at most PARTS pieces of about the same size, each a number of whole lines."""
    size, start = -(-len(text) // PARTS), 0
    while start < len(text):
        end = text.find(b"\n", start + size - 1) + 1 or len(text)
        yield text[start:end]
        start = end
