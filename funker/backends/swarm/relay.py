"""The host's half of the relay: calls into the overlay over a process' stdin and stdout.

In the control plane's anchor, or else in a container of its own on the functions' network, runs
`funker.rpc.relay`; the Docker API carries the wire protocol to it as a stream. So nothing needs to
be published, and it works wherever the Docker API does. That process ends with the stream,
whatever happens here.

- One thread reads the stream and hands each outcome to the thread that waits for it.
- When the stream ends, every call that is open ends with a typed error. What was written may
  have been run, so such an error never says that calling again is safe.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from funker.backends.base import NoController
from funker.rpc.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    ProtocolError,
    ReplicaLost,
    RouterUnavailable,
)
from funker.rpc.messages import (
    Call,
    Cancel,
    Error,
    Message,
    Ping,
    Pong,
    Query,
    Reply,
    Result,
    decode,
    encode,
)
from funker.rpc.relay import Unpacker, pack

#: Seconds past a call's deadline in which its typed error must come back from the relay.
_PATIENCE = 5.0
#: Seconds for a PING's answer, and a QUERY's: the relay itself gives up sooner.
_ANSWER_PATIENCE = 10.0
#: Seconds for the relay to end its calls and go, once its stdin is closed.
_LEAVE = 3.0
#: Seconds between looks at a caller's wish to cancel.
_CANCEL_POLL = 0.05
#: Bytes of what the relay wrote to stderr that an error shows.
_STDERR_TAIL = 8 * 1024

_STDOUT, _STDERR = 1, 2


class Stream(Protocol):
    """What the relay's bytes go through."""

    def write(self, data: bytes) -> None: ...
    def blocks(self) -> Iterator[tuple[int, bytes]]: ...
    def end_input(self) -> None: ...
    def close(self) -> None: ...
    def remove(self) -> None: ...


class Relay:
    """A `Transport` and `Controller` through such a stream. Many threads may use it at once."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lock = threading.Lock()  # of everything below
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[str | int, _Slot] = {}
        self._failure: str | None = None
        self._closed = False
        self._stderr = b""
        self._reader = threading.Thread(target=self._read, name="funker-relay", daemon=True)
        self._reader.start()

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Result | Error:
        """Make one call and wait for its outcome. Setting `cancel` cancels it, as does Ctrl-C.

        Raises a `CallError` if the relay is lost: `router_unavailable` if the call was certainly
        not handed over, `replica_lost` if it may have been run.
        """
        slot = self._expect(call.id, call)
        patience = None if call.deadline_ms is None else call.deadline_ms / 1000 + _PATIENCE
        try:
            self._send(call, slot)
            outcome = slot.wait(patience, cancel, lambda: self._send(Cancel(id=call.id)))
        except KeyboardInterrupt:
            # The stream may have gone with the same Ctrl-C; then the relay cancels by itself.
            with contextlib.suppress(CallError):
                self._send(Cancel(id=call.id))
            raise
        finally:
            self._forget(call.id)
        if outcome is None:
            raise DeadlineExceeded(
                "the relay said nothing of the call within its deadline",
                function=call.function,
                id=call.id,
                retry_safe=False,
            )
        if isinstance(outcome, Result | Error):
            return outcome
        raise ProtocolError(f"a {outcome.kind} as the outcome of a call", id=call.id)

    def ping(self, function: str) -> Pong:
        """How the function's replicas are: `state` is idle, busy, boot, failed or absent."""
        number = next(self._numbers)
        answer = self._ask(number, Ping(number=number, function=function))
        if isinstance(answer, Pong):
            return answer
        raise RouterUnavailable(f"the relay doesn't answer for {function}", function=function)

    def query(self, what: str, *, function: str = "", id: str = "", limit: int = 0) -> Any:
        """The router's answer, decoded.

        Raises `NoController` if the relay reaches no router, `RouterUnavailable` if the relay
        itself is lost.
        """
        number = next(self._numbers)
        answer = self._ask(
            number, Query(number=number, what=what, function=function, id=id, limit=limit)
        )
        match answer:
            case Reply(error="", body=bytes(body)):
                return json.loads(body)
            case Reply(error=error):
                raise NoController(
                    f"no router answers: {error}", hint="`funker up` brings the controller up."
                )
        raise RouterUnavailable("the relay doesn't answer for the router")

    def close(self) -> None:
        """Cancels what is open and ends the relay. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._failure = self._failure or "it was closed"
        self._stream.end_input()
        self._reader.join(_LEAVE)
        if self._reader.is_alive():
            self._stream.remove()
        self._stream.close()
        self._reader.join(_LEAVE)

    def _ask(self, number: int, question: Ping | Query) -> Message | None:
        slot = self._expect(number, None)
        try:
            self._send(question, slot)
            return slot.wait(_ANSWER_PATIENCE, None, lambda: None)
        finally:
            self._forget(number)

    def _expect(self, key: str | int, call: Call | None) -> _Slot:
        with self._lock:
            if self._failure is not None:
                raise _unavailable(self._failure, call)
            slot = self._waiting[key] = _Slot(call)
        return slot

    def _forget(self, key: str | int) -> None:
        with self._lock:
            self._waiting.pop(key, None)

    def _send(self, message: Message, slot: _Slot | None = None) -> None:
        data = pack(encode(message))
        with self._writing:
            # From the first byte on nobody can say that the call was not run. Bytes that a
            # broken stream swallowed are nothing that we could tell from those that arrived.
            if slot is not None:
                slot.written = True
            try:
                self._stream.write(data)
            except OSError as exc:
                raise self._lost(slot.call if slot else None, str(exc)) from exc

    def _read(self) -> None:
        unpacker = Unpacker()
        failure = "it has ended"
        try:
            for stream, data in self._stream.blocks():
                if stream == _STDOUT:
                    for frames in unpacker.feed(data):
                        self._received(decode(frames))
                else:
                    self._stderr = (self._stderr + data)[-_STDERR_TAIL:]
        except ProtocolError as exc:
            failure = exc.message
        except OSError as exc:
            failure = f"its stream broke: {exc}"
        with self._lock:
            self._failure = self._failure or failure
            slots = list(self._waiting.values())
        for slot in slots:
            slot.fail(self._lost(slot.call if slot.written else None, self._failure))

    def _received(self, message: Message) -> None:
        key: str | int | None = None
        match message:
            case Result(id=id) | Error(id=id):
                key = id
            case Pong(number=number) | Reply(number=number):
                key = number
        with self._lock:
            slot = self._waiting.get(key) if key is not None else None
        if slot is not None:  # else nobody waits any more: it was cancelled
            slot.put(message)

    def _lost(self, call: Call | None, reason: str) -> CallError:
        if call is None:
            return _unavailable(self._explained(reason), None)
        return ReplicaLost(
            f"the relay was lost with the call ({self._explained(reason)}): it may have run",
            id=call.id,
            function=call.function,
            retry_safe=False,
        )

    def _explained(self, reason: str) -> str:
        words = self._stderr.decode(errors="replace").strip()
        return f"{reason}: {words}" if words else reason


class _Slot:
    """Where one thread waits for one answer."""

    def __init__(self, call: Call | None) -> None:
        self.call = call
        self.written = False
        self._done = threading.Event()
        self._answer: Message | CallError | None = None

    def put(self, message: Message) -> None:
        self._answer = self._answer or message
        self._done.set()

    def fail(self, error: CallError) -> None:
        self._answer = self._answer or error
        self._done.set()

    def wait(
        self, patience: float | None, cancel: threading.Event | None, tell: Callable[[], None]
    ) -> Message | None:
        """The answer, or None after `patience` seconds. Calls `tell` once if `cancel` is set."""
        if cancel is None:
            self._done.wait(patience)
        else:
            left = float("inf") if patience is None else patience
            while left > 0 and not self._done.wait(min(_CANCEL_POLL, left)):
                left -= _CANCEL_POLL
                if cancel.is_set():
                    tell()
                    self._done.wait(_PATIENCE)
                    if self._answer is None and self.call is not None:
                        raise Cancelled("cancelled", id=self.call.id, function=self.call.function)
        if isinstance(self._answer, CallError):
            raise self._answer
        return self._answer


def _unavailable(reason: str, call: Call | None) -> RouterUnavailable:
    return RouterUnavailable(
        f"the relay is gone ({reason})",
        id=call.id if call else None,
        function=call.function if call else "",
        retry_safe=True,
    )
