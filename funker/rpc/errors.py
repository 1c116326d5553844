"""What can become of a call other than an answer, as exceptions.

A failed call has exactly one of the codes below. Each class says who is at fault and whether
calling again is safe, that is, whether the function certainly did not start:

    who            code
    the caller     payload_too_large, unauthorized, function_not_found, ambiguous_function,
                   cancelled
    the function   function_error, function_timeout, function_crashed, init_failed
    the platform   replica_lost, queue_full, deadline_exceeded, protocol_error, router_unavailable

The same classes travel as ERROR messages: `CallError.fields()` gives what is sent and
`call_error(...)` makes the exception again on the other side.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FunkerError(Exception):
    """The root of all errors of this project.

    `message` says what is wrong, naming the file, field or function; `hint`, where there is
    one, says what to do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CallError(FunkerError):
    """A call ended without an answer. Raised through its subclasses, one for each code."""

    code: ClassVar[str] = ""
    #: "caller", "function" or "platform".
    fault: ClassVar[str] = "platform"
    #: Whether the function certainly did not start, where the code alone decides that.
    safe: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        id: str | None = None,
        function: str = "",
        replica: str = "",
        retry_safe: bool | None = None,
        exception_type: str = "",
        traceback: str = "",
        output_tail: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.id = id
        self.function = function
        self.replica = replica
        self.retry_safe = self.safe if retry_safe is None else retry_safe
        self.exception_type = exception_type
        self.traceback = traceback
        self.output_tail = output_tail

    def fields(self) -> dict[str, Any]:
        """The fields of the ERROR message that says this, ready for `messages.Error(**fields)`."""
        return {
            "id": self.id,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "function": self.function,
            "replica": self.replica,
            "retry_safe": self.retry_safe,
            "exception_type": self.exception_type,
            "traceback": self.traceback,
            "output_tail": self.output_tail,
        }


class FunctionError(CallError):
    """Raised when the handler raised, or returned what can't be sent. Carries its traceback."""

    code = "function_error"
    fault = "function"


class FunctionTimeout(CallError):
    """Raised when the handler ran longer than its time-out and was killed."""

    code = "function_timeout"
    fault = "function"


class FunctionCrashed(CallError):
    """Raised when the handler's process died before it answered: exit, abort, out of memory."""

    code = "function_crashed"
    fault = "function"


class FunctionNotFound(CallError):
    """Raised when no function has the name that was called."""

    code = "function_not_found"
    fault = "caller"
    safe = True


class AmbiguousFunction(CallError):
    """Raised when a short name fits several functions. The message lists them."""

    code = "ambiguous_function"
    fault = "caller"
    safe = True


class InitFailed(CallError):
    """Raised when the handler can't be loaded (import error, missing attribute)."""

    code = "init_failed"
    fault = "function"
    safe = True


class ReplicaLost(CallError):
    """Raised when the replica vanished with the call: it may have run in part or in full."""

    code = "replica_lost"


class QueueFull(CallError):
    """Raised when the function's queue is at its bound."""

    code = "queue_full"
    safe = True


class DeadlineExceeded(CallError):
    """Raised when the caller's whole patience is over. `retry_safe` tells if it never started."""

    code = "deadline_exceeded"


class Cancelled(CallError):
    """Raised when the caller, or somebody for it, cancelled the call."""

    code = "cancelled"
    fault = "caller"


class PayloadTooLarge(CallError):
    """Raised when a body or a header exceeds its bound. Checked before sending."""

    code = "payload_too_large"
    fault = "caller"


class Unauthorized(CallError):
    """Raised when the peer's key isn't known."""

    code = "unauthorized"
    fault = "caller"
    safe = True


class ProtocolError(CallError):
    """Raised when frames break the rules of the wire protocol. Nothing was started by them."""

    code = "protocol_error"


class RouterUnavailable(CallError):
    """Raised when the way to the functions is gone: no router, no relay."""

    code = "router_unavailable"


#: Every code and its class.
CODES: dict[str, type[CallError]] = {cls.code: cls for cls in CallError.__subclasses__()}


def call_error(code: str, message: str, **details: Any) -> CallError:
    """The exception for an ERROR message.

    An unknown code (a newer peer) gives a plain `CallError` with that code, so that nothing
    is lost.
    """
    cls = CODES.get(code)
    if cls is None:
        cls = type("CallError", (CallError,), {"code": code})
    return cls(message, **details)
