"""A guest book in a Redis database, which it reaches with a password on a network of its own."""

from __future__ import annotations

import os
from pathlib import Path

import redis

PASSWORD = Path("/run/secrets/guestbook_password")

# Loading a handler is the place for what all calls need, but a connection made here would be as
# old as the replica's wait for its call: this one connects when it is first used.
database = redis.Redis(
    host=os.environ.get("REDIS_HOST", "redis"),
    password=PASSWORD.read_text().strip(),
    socket_timeout=5,
    decode_responses=True,
)


def handle(name: str | None = None, text: str = "was here") -> list[str]:
    """Sign the book, if there is a name, and read its last ten entries, the newest first."""
    if name is not None:
        database.lpush("guestbook", f"{name}: {text}")
    return database.lrange("guestbook", 0, 9)
