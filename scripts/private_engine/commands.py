"""Run the machine's own commands, and say what they said when they fail."""

from __future__ import annotations

import shlex
import subprocess
import sys

from private_engine.errors import LabError


def say(text: str) -> None:
    """Progress, on stderr: stdout is for data."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def report(error: LabError) -> int:
    """Say what went wrong, and return the exit code for it."""
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")
    return error.exit_code


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """The command's standard output. Raises LabError with its output if it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"there is no {command[0]} on the PATH") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise LabError(f"`{shlex.join(command)}` ended with {done.returncode}:\n{said[-3000:]}")
    return done.stdout


def works(*command: str) -> bool:
    """Whether the command succeeds: for questions whose «no» is an answer, not an error."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
