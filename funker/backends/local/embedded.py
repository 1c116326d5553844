"""A local controller of one command's own, in a state directory that goes when it does.

It never meets the user's controller in the background: other functions, other keys, other
sockets. However the command ends, nothing stays: its agent holds one end of a pipe, and tidies up
if the other one closes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from funker.backends.base import Progress, silent
from funker.backends.local import plane
from funker.backends.local.backend import Local
from funker.backends.local.process import remove_tree
from funker.backends.local.state import StateDirectory


class Embedded:
    """The controller, while it lives."""

    def __init__(self, state: StateDirectory, environ: Mapping[str, str]) -> None:
        #: What others need in their environment to find it.
        self.variables = {"FUNKER_STATE_DIR": str(state.root)}
        self.backend = Local({**environ, **self.variables})
        self._at_once = False

    def hurry(self) -> None:
        """What still runs at the end is killed, and not waited for."""
        self._at_once = True

    def end(self, state: StateDirectory) -> None:
        """Everything leaves; what is busy, when it is done. Ctrl-C meanwhile ends that, too."""
        if self._at_once:
            plane.hasten(state)
        try:
            plane.down(state, progress=silent)
        except KeyboardInterrupt:
            plane.down(state, progress=silent)


@contextlib.contextmanager
def embedded(environ: Mapping[str, str], *, progress: Progress) -> Iterator[Embedded]:
    """A controller that is up for as long as the context lasts.

    Raises `StateUnusable` or `ControllerFailed`.
    """
    root = Path(tempfile.mkdtemp(prefix="funker-"))
    state = StateDirectory(root)
    heard, held = os.pipe()
    try:
        made = Embedded(state, environ)
        try:
            plane.up(state, environ=environ, progress=progress, tether=heard)
            yield made
        finally:
            made.end(state)
    finally:
        remove_tree(root)
        os.close(heard)
        os.close(held)
