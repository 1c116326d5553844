"""Bringing the local controller up and down."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from funker.backends.base import BackendError, ControllerFailed, NoController, Progress
from funker.backends.local import control, routing, sweep
from funker.backends.local.state import AgentRunning, StateDirectory
from funker.spec.runtime import current_version

#: Lines of the controller's log that an error shows.
_TAIL = 10
#: Seconds for the router to answer after it was started.
_ROUTER_S = 20.0
#: Seconds between looks at an agent that somebody else has just started.
_POLL_S = 0.02


def up(
    state: StateDirectory,
    *,
    environ: Mapping[str, str],
    progress: Progress,
    tether: int | None = None,
) -> list[str]:
    """Starts the agent in the background unless it runs; returns when its router answers.

    One of another version is stopped first. With `tether`, a descriptor that ends with this
    process, the agent does so, too. Raises `StateUnusable`, or `ControllerFailed` with what it
    said.
    """
    state.create()
    try:
        status = control.ask(state, "status")
    except NoController:
        progress("starting the local controller")
        _start(state, environ, tether)
        status = control.ask(state, "status")
        changes = [f"started the local controller (process {status['pid']}) for {state.root}"]
    else:
        if status["leaving"]:
            raise ControllerFailed(
                "the local controller is on its way down",
                hint="Try again when `funker down` is done.",
            )
        if status["version"] != current_version():
            progress("the local controller is of another version: starting it again")
            changes = down(state, progress=progress)
            return [*changes, *up(state, environ=environ, progress=progress)]
        changes = []
    routing.wait_for_router(state, patience=_ROUTER_S)
    return changes


def down(state: StateDirectory, *, progress: Progress) -> list[str]:
    """Ends the agent and everything that runs; returns when it is gone. Functions' files stay."""
    if not state.lock.exists():
        return []
    changes = []
    try:
        lock = state.hold()
    except AgentRunning:
        pid = _holder(state)
        progress("waiting for replicas to finish")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        with state.errors(), state.lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held until the agent is gone
        with contextlib.suppress(ChildProcessError):  # where it was this process that started it
            os.waitpid(pid, 0)
        changes.append(f"stopped the local controller (process {pid})")
        lock = state.hold()
    with lock, state.errors():
        left = sweep.Strays(state)
        if left:
            progress("waiting for what a controller that was killed has left")
            changes.append(f"cleared up after a controller that was killed ({len(left)} processes)")
            left.terminate()
            left.wait()
        elif not changes and state.client_key.exists():
            changes.append("cleared up after a controller that was killed")
        sweep.clear(state)
        lock.truncate(0)
    return changes


def hasten(state: StateDirectory) -> None:
    """Tells the agent to leave, and returns when it does: `down` is the second time, then."""
    with contextlib.suppress(NoController, ProcessLookupError):
        status = control.ask(state, "status")
        os.kill(status["pid"], signal.SIGTERM)
        while not control.ask(state, "status")["leaving"]:
            time.sleep(_POLL_S)


def _start(state: StateDirectory, environ: Mapping[str, str], tether: int | None) -> None:
    reader, writer = os.pipe()
    told_to = {"FUNKER_READY": writer}
    if tether is not None:
        told_to["FUNKER_TETHER"] = tether
    try:
        with state.errors():
            log = state.agent_log.open("wb")
        with log:
            agent = subprocess.Popen(
                # -P: a funker.py or zmq.py in the user's directory is none of its business.
                [sys.executable, "-P", "-m", "funker.backends.local.agent"],
                cwd=state.root,
                env={
                    **environ,
                    "FUNKER_STATE_DIR": str(state.root),
                    **{name: str(descriptor) for name, descriptor in told_to.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=tuple(told_to.values()),
                start_new_session=True,
            )
        os.close(writer)
        writer = -1
        with os.fdopen(reader, closefd=False) as told:
            ready = told.readline()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if ready:
        agent.returncode = 0  # it lives on: nobody here waits for it
        return
    agent.wait()
    if _other_is_up(state):
        return
    tail = "\n".join(state.agent_log.read_text(errors="replace").splitlines()[-_TAIL:])
    raise ControllerFailed(f"the local controller doesn't come up:\n{tail}")


def _other_is_up(state: StateDirectory) -> bool:
    """Whether somebody else's agent was faster; waits until that one answers."""
    while True:
        with contextlib.suppress(NoController):
            control.ask(state, "status")
            return True
        try:
            state.hold().close()
        except AgentRunning:
            time.sleep(_POLL_S)  # nothing tells when it begins to listen
        else:
            return False


def _holder(state: StateDirectory) -> int:
    """The process that says it holds the lock. Raises `BackendError` if none does."""
    match = re.fullmatch(r"process (\d+)\s*", state.lock.read_text())
    if match is None:
        raise BackendError(f"an unknown process holds {state.lock}", hint="Try again.")
    return int(match[1])
