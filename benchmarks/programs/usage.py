"""What a replica holds: the process PID and all that descends from it.

    usage.py PID

Prints {"pss", "rss": MB, "processes", "descriptors", "directories": of calls, in the directory for
temporary files}. PSS counts a page that n processes share as an nth for each.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from pathlib import Path

PROC = Path("/proc")


def tree(top: int) -> list[int]:
    parents = {}
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(stat[1])
    found = [top]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def usage(top: int) -> dict[str, float]:
    sizes = dict.fromkeys(("pss", "rss"), 0.0)
    processes = descriptors = 0
    for pid in tree(top):
        with contextlib.suppress(OSError):
            text = (PROC / str(pid) / "smaps_rollup").read_text()
            for name in sizes:
                found = re.search(rf"^{name.title()}: +(\d+) kB", text, re.MULTILINE)
                sizes[name] += int(found[1]) / 1024 if found else 0
            descriptors += len(list((PROC / str(pid) / "fd").iterdir()))
            processes += 1
    directories = len(list(Path(tempfile.gettempdir()).glob("funker-call-*")))
    return {
        **sizes,
        "processes": processes,
        "descriptors": descriptors,
        "directories": directories,
    }


if __name__ == "__main__":
    print(json.dumps(usage(int(sys.argv[1]))))
