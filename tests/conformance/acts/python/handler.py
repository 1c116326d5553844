"""What every language's handler of the suite does, by the call's `do`. A body that isn't JSON is
answered as it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

seen = 0


def tell(text: str) -> None:
    """To the test. (Not by a file: there may be none that a call can write.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), ("127.0.0.1", int(os.environ["TELL"])))


def handle(do: Any = "echo", **given: Any) -> Any:
    global seen
    if not isinstance(do, str):
        return do
    tell(f"ran {do}")
    match do:
        case "text":
            return given["text"]
        case "bytes":
            return b"x" * given["count"]
        case "null":
            return None
        case "count":
            seen += 1
            return seen
        case "pid":
            return os.getpid()
        case "raise":
            raise LookupError("nothing is there")
        case "exit":
            print("about to leave", file=sys.stderr)
            os._exit(given["status"])
        case "abort":
            print("on stdout", flush=True)
            print("on stderr", file=sys.stderr, flush=True)
            os.abort()
        case "loop":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                pass
        case "sleep":
            time.sleep(given["seconds"])
        case "wait":  # until the test says so
            while not Path(given["file"]).exists():
                time.sleep(0.01)
            tell("waited")
            return "waited"
        case "child":
            child = subprocess.Popen(["sleep", "60"])
            if given.get("hang"):
                tell(f"child {child.pid}")
                time.sleep(60)
            return child.pid
        case "daemon":  # leaves its group and its parent
            command = "sleep 60 > /dev/null 2>&1 & echo $!"
            return int(subprocess.check_output(["setsid", "sh", "-c", command]))
        case "descriptors":
            return int(subprocess.check_output(["sh", "-c", "ulimit -n"]))
        case "scratch":
            Path("made").write_text("here")
            return f"{tempfile.gettempdir()}\n{Path.cwd()}"
        case "print":
            print(given["text"], flush=True)
            return "printed"
    return given
