"""A function that does to itself what its argument `act` says."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any


def handle(act: str | bytes, **given: Any) -> Any:
    if isinstance(act, bytes):
        return act
    print(given.get("mark", act), "in", socket.gethostname(), flush=True)
    match act:
        case "abort":
            os.abort()
        case "exit":
            sys.exit(3)
        case "loop":
            while True:
                pass
        case "sleep":
            time.sleep(given["seconds"])
        case "object":
            return object()
        case "bytes":
            return b"x" * given["count"]
    return {"where": socket.gethostname(), **given}
