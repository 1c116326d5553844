"""The least that a fresh process for each call costs: fork, run the handler, tell the answer, end.

    forks.py SECONDS [LOOPS]

No sockets, no slots, nothing is bound or cleared up. Each of LOOPS processes does one call after
the other. Prints {"calls": all that were answered, "seconds": that they took}.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from handler import handle  # type: ignore[import-not-found]  # beside it in the image


def loop(seconds: float) -> int:
    """Calls in so many seconds, one after the other."""
    calls = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(writer, json.dumps(handle(x=calls, y=calls)).encode())
            os._exit(0)
        os.close(writer)
        answer = json.loads(os.read(reader, 65536))
        os.close(reader)
        os.waitpid(pid, 0)
        if answer != 2 * calls:
            raise ValueError(answer)
        calls += 1
    return calls


def main(seconds: float, loops: float = 1) -> None:
    gc.freeze()
    began = time.monotonic()
    reader, writer = os.pipe()
    for _ in range(int(loops)):
        if os.fork() == 0:
            os.write(writer, f"{loop(seconds)}\n".encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as counts:
        calls = sum(map(int, counts))
    print(json.dumps({"calls": calls, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
