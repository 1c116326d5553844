"""What a failure looks like to the person who typed the command, and its exit code.

Every error is one line that says what is wrong, then details that belong to it (a handler's
traceback, a build step's output), then one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator

from funker.rpc.errors import CallError, FunkerError

OK = 0
FUNCTION_FAILED = 1
USAGE = 2
NOT_AUTHORISED = 4
TIMED_OUT = 124
ENGINE_TROUBLE = 125
NO_SUCH_FUNCTION = 127
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

#: By the code of a call's outcome. What isn't here is trouble of the platform.
_CALL_CODES = {
    "function_error": FUNCTION_FAILED,
    "function_crashed": FUNCTION_FAILED,
    "init_failed": FUNCTION_FAILED,
    "cancelled": FUNCTION_FAILED,
    "payload_too_large": USAGE,
    "ambiguous_function": USAGE,
    "unauthorized": NOT_AUTHORISED,
    "function_timeout": TIMED_OUT,
    "deadline_exceeded": TIMED_OUT,
    "function_not_found": NO_SUCH_FUNCTION,
}

#: By the class's name, so that this module needn't import the builder or pydantic to know them.
_ERROR_CODES = {
    "SourceError": USAGE,
    "AddressError": USAGE,
    "UsageError": USAGE,
    "SpecError": USAGE,
    "NameTaken": USAGE,
    "NoPolicy": USAGE,
    "Unsupported": USAGE,
    "DockerfileTooMuch": USAGE,
    "RequirementsFailed": FUNCTION_FAILED,
    "BuildError": FUNCTION_FAILED,
    "DeployFailed": FUNCTION_FAILED,
}


class UsageError(FunkerError):
    """Raised when what was typed can't be meant. Nothing was done."""


def outcome_code(code: str) -> int:
    """The exit code for what became of a call: `ok`, or an error's code."""
    return OK if code == "ok" else _CALL_CODES.get(code, ENGINE_TROUBLE)


def exit_code(error: FunkerError) -> int:
    """The exit code for an error; a subclass of a known class has that class's code."""
    if isinstance(error, CallError):
        return outcome_code(error.code)
    for cls in type(error).__mro__:
        if cls.__name__ in _ERROR_CODES:
            return _ERROR_CODES[cls.__name__]
    return ENGINE_TROUBLE


def describe(error: FunkerError) -> Iterator[tuple[str, str]]:
    """The lines to show, as (kind, text): one "error", any "detail", at most one "hint"."""
    first, *more = error.message.splitlines() or [""]
    yield "error", f"{error.code}: {first}" if isinstance(error, CallError) else first
    for line in more:
        yield "detail", line
    if isinstance(error, CallError) and error.replica:
        yield "detail", f"replica: {error.replica}"
    # What didn't come up has these two as well as a call.
    yield from _block("", getattr(error, "traceback", ""))
    yield from _block("last output:", getattr(error, "output_tail", ""))
    if error.hint:
        yield "hint", " ".join(error.hint.split())


def _block(title: str, text: str) -> Iterator[tuple[str, str]]:
    if not text.strip():
        return
    if title:
        yield "detail", title
    for line in text.rstrip().splitlines():
        yield "detail", line
