"""Runs a module as a program that ends when the process that started it does.

    python3 -m funker.backends.local.tether FD MODULE

FD is one end of a pipe whose other end the agent holds. Its end of file means that the agent is
gone, however it went: then this process gets SIGTERM, and SIGKILL if that doesn't help.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

#: Seconds from SIGTERM to SIGKILL.
GRACE_S = 3.0


def main() -> None:
    fd, module = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_watch, args=[fd], daemon=True).start()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(fd: int) -> None:
    while os.read(fd, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
