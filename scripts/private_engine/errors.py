"""The lab's errors, with the exit code that the script ends with."""

from __future__ import annotations


class LabError(Exception):
    """Something didn't work. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotPossible(LabError):
    """No engine can be had on this machine: no root, or no way to install one."""

    exit_code = 3


class NotAllowed(LabError):
    """There is an engine here already, so nothing may be installed or changed."""

    exit_code = 4
