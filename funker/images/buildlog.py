"""What the engine's builder says, read into steps, their output and one failure. Pure.

The classic builder streams objects: `stream` (text in any pieces), `status` (a pull), `aux`
(the image's id), `error`. A step begins with a line `Step 3/7 : COMMAND`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

#: Lines of a failed step that are shown. Package managers put the cause last.
TAIL_LINES = 40

#: Characters of a command in a line of progress; errors show all of it.
SHOWN = 100

_STEP = re.compile(r"Step (\d+/\d+) : (.*)")
_EXIT_CODE = re.compile(r"returned a non-zero code: (\d+)")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CHATTER = re.compile(r" ?---> |Removing intermediate container |Successfully (?:built|tagged) ")


class BuildLog:
    """The state of one build: feed it the engine's messages in order."""

    def __init__(self) -> None:
        self.step = ""  # "3/7"
        self.command = ""
        self.image = ""  # the id, once there is one
        self.error = ""  # as the engine put it
        self.exit_code: int | None = None
        self._output: deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = ""

    def feed(self, message: Mapping[str, Any]) -> Iterator[str]:
        """Take one message and yield the lines of progress that it means."""
        if "aux" in message:
            self.image = message["aux"].get("ID", self.image)
        if "error" in message:
            self.error = str(message["error"]).strip()
            match = _EXIT_CODE.search(self.error)
            self.exit_code = int(match[1]) if match else None
        *lines, self._rest = (self._rest + message.get("stream", "")).split("\n")
        for line in lines:
            match = _STEP.fullmatch(line.strip())
            if match is None:
                self._keep(line)
                continue
            self.step, self.command = match[1], match[2].strip()
            self._output.clear()
            yield f"  step {self.step}: {_shorten(self.command)}"

    def tail(self) -> str:
        """The last lines that the current step printed."""
        self._keep(self._rest)
        self._rest = ""
        return "\n".join(self._output)

    def failure(self) -> str:
        """The failed step, its command and the end of its output, for people."""
        output = self.tail()
        # The engine's own words repeat the whole command; the exit code is what they add.
        why = f"exit code {self.exit_code}" if self.exit_code is not None else self.error
        head = f"step {self.step} of the build failed: {why}" if self.step else why
        parts = [head, f"  {self.command}"] if self.command else [head]
        return "\n".join([*parts, *(f"  | {line}" for line in output.splitlines())])

    def hint(self) -> str:
        """What to do, where the engine's words let us know."""
        if "BuildKit" in self.error:
            return (
                "Images are built without BuildKit. Take its extensions out of the Dockerfile, "
                "or build the image with `docker build` and deploy that."
            )
        return ""

    def _keep(self, line: str) -> None:
        # A progress bar draws over itself: what comes after the last return is what one saw.
        line = _COLOUR.sub("", line).rstrip().rpartition("\r")[2].rstrip()
        if line and not _CHATTER.match(line):
            self._output.append(line)


def _shorten(command: str) -> str:
    return command if len(command) <= SHOWN else f"{command[: SHOWN - 1]}…"
