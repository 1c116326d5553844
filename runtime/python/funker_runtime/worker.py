"""The process that runs the handler: loads it, waits, runs one call, and is gone.

It is forked by the front before any ZeroMQ context exists, has a session (so a process group)
of its own, and talks to the front over one socket that keeps message boundaries: a line of JSON,
and the body after it, or beside it as the descriptor of an anonymous file.

    worker → front   {"loaded": true} | {"failed": …}
    front → worker   {"warm": true} + JSON  → echoed    {"call": {…header}} + body
    worker → front   {"answer": {content_type}} + body | {"oversized": bytes} | {"error": {…}}
    front → worker   {"end": true}, of an answer

Where a replica has slots (`keeper`) the worker is forked from a process that has loaded the
handler, says nothing of loading, and ends without being told.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from funker.rpc.messages import JSON, Call, clip
from funker_runtime import kernel, loader

#: From a handler's name to the callable.
Finder = Callable[[str], loader.Handler]

#: Characters of an exception's own text, which may be a whole document.
MAX_TEXT = 2000

#: Bytes of one message; SEQPACKET messages must fit a socket buffer (about 200 KiB).
MAX_CONTROL = 96 * 1024
#: Bytes of a body that goes with its message. A file costs 65 µs each way, eight calls of the
#: kernel; a larger body is cheaper that way.
MAX_INLINE = 16 * 1024


def send(link: socket.socket, message: dict[str, Any], body: bytes | None = None) -> None:
    """Send a control message with its body. Raises `OSError` if the other side is gone."""
    data = json.dumps(message).encode()
    if body is None:
        link.send(data)
    elif len(body) <= MAX_INLINE:
        link.sendmsg([data, b"\n", body])  # JSON on one line has no line break
    else:
        fd = kernel.anonymous_file(body)
        try:
            socket.send_fds(link, [data], [fd])
        finally:
            os.close(fd)


def receive(
    link: socket.socket, *, flags: int = 0, limit: int | None = None
) -> tuple[dict[str, Any], bytes | None] | None:
    """The next control message and its body, of at most `limit` bytes; None when the other side is
    gone. Raises `BlockingIOError` if it isn't to wait, and `ValueError` for what is no message.
    """
    try:
        data, fds = kernel.receive(link, MAX_CONTROL, fds=1, flags=flags)
    except ConnectionResetError:
        return None
    if not data:
        return None
    body = kernel.read_file(fds[0], limit) if fds else None
    head, inline, rest = data.partition(b"\n")
    return json.loads(head), rest if inline else body


def header(call: Call) -> dict[str, Any]:
    """What a worker is told of a call."""
    return {
        "id": call.id,
        "function": call.function,
        "content_type": call.content_type,
        "timeout_ms": call.timeout_ms,
        "deadline_ms": call.deadline_ms,
        "attempt": call.attempt,
        "traceparent": call.traceparent,
    }


def main(
    link: socket.socket, find: Finder, *, handler: str, max_body: int, ulimits: Mapping[str, int]
) -> NoReturn:
    """The life of a worker that loads the handler itself: `find(handler)` gives it, or raises why
    it can't. `max_body` is the bytes that an answer may have."""
    prepare_streams()
    try:
        function = find(handler)
        if ulimits:
            from funker_runtime import limits

            limits.impose(ulimits)
    except Exception as error:  # noqa: BLE001 - whatever an import raises is told
        send(link, {"failed": described(error)})
        _exit(1)
    gc.freeze()  # what is loaded lives as long as the process; the collector can skip it
    send(link, {"loaded": True})
    serve(link, function, max_body=max_body, waits=True)


def serve(link: socket.socket, function: loader.Handler, *, max_body: int, waits: bool) -> NoReturn:
    """Wait for a call, run it, tell what came of it, end. `waits`: end when told so."""
    while (received := receive(link)) is not None:
        message, body = received
        if "warm" in message:
            send(link, message, loader.invoke(dict, {"content_type": JSON}, body or b"")[1])
            continue
        if run_call(link, function, message, body, max_body=max_body) and waits:
            receive(link)  # the end of a process delays others; the answer goes first
        _exit(0)
    os._exit(0)  # the front left without a call


def run_call(
    link: socket.socket,
    function: loader.Handler,
    message: dict[str, Any],
    body: bytes | None,
    *,
    max_body: int,
) -> bool:
    """Run a call and tell what came of it; whether that is an answer."""
    try:
        if "funker_runtime.hooks" in sys.modules:
            sys.modules["funker_runtime.hooks"].run()
        content_type, answer = loader.invoke(function, message["call"], body or b"")
    except Exception as error:  # noqa: BLE001 - whatever the handler raises is told
        send(link, {"error": described(error)})
        return False
    if len(answer) > max_body:
        send(link, {"oversized": len(answer)})
    else:
        send(link, {"answer": {"content_type": content_type}}, answer)
    return True


def rehearse(rounds: int) -> None:
    """Run calls, but not of the function: what they leave, warm code and memory, stays here, and
    in each process that is forked from this one."""
    front, link = kernel.message_pair()
    with front, link:
        for _ in range(rounds):
            send(front, {"call": {"content_type": JSON}}, b'{"x":1}')
            message, body = receive(link) or ({}, b"")
            run_call(link, dict, message, body, max_body=len(body or b"") + 1)
            receive(front)


def prepare_streams() -> None:
    """Python's own buffering would lose what was printed before a crash."""
    if sys.stdout is None:
        # Closed when the program started; here they are the pipes to the front.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def described(error: BaseException) -> dict[str, str]:
    """What is told of an exception: the handler's part of the traceback.

    None for the runtime's own errors, whose words are enough.
    """
    name = clip(type(error).__name__, 256)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - whatever its own __str__ raises
        text = "(its text raised an exception in turn)"
    if type(error).__module__.partition(".")[0] == __package__:
        return {"message": text, "exception_type": name, "traceback": ""}
    return {
        "message": _beginning(f"{name}: {text}" if text else name),
        "exception_type": name,
        "traceback": _traceback(error),
    }


def _traceback(error: BaseException) -> str:
    try:
        import traceback  # only here: it takes 4 ms, and most replicas never need it
    except (OSError, MemoryError):
        return ""  # the handler has used up what it would be read with
    frames = traceback.extract_tb(error.__traceback__)
    # The runtime's, and those of the import itself. (pathlib would cost 5 ms of the start.)
    here, machinery = os.path.dirname(__file__), os.path.dirname(importlib.__file__)  # noqa: PTH120
    others = (here, machinery, "<frozen importlib")
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    trace = traceback.TracebackException.from_exception(error)
    trace.stack = traceback.StackSummary.from_list(own)
    parts = trace.format() if own or trace.__cause__ else trace.format_exception_only()
    # Each part by itself, or an exception's long text would leave no room for where it was.
    return clip("".join(map(_beginning, parts)), 24 * 1024)


def _beginning(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return text[:MAX_TEXT] + ("…\n" if text.endswith("\n") else "…")


def _exit(status: int) -> NoReturn:
    """End as a program does, atexit functions and all, but without tearing down modules."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(status)


def run(life: Callable[[], NoReturn]) -> NoReturn:
    """Live to the end of this process, whatever the function does to it."""
    try:
        life()
    except SystemExit as leaving:
        # sys.exit() in a handler: the status is what the caller is told, and what was said.
        if isinstance(leaving.code, int | None):
            _exit(leaving.code or 0)
        print(leaving.code, file=sys.stderr)
        _exit(1)
    except BaseException:  # noqa: BLE001 - KeyboardInterrupt and its like: the status tells
        import traceback

        traceback.print_exc()
        _exit(1)
    finally:
        os._exit(1)


def fork(life: Callable[[socket.socket], NoReturn]) -> tuple[int, socket.socket, int, int]:
    """Fork a process that lives `life`, with one end of a link. Returns its pid, the other end,
    and the pipes of its stdout and stderr.

    Must run before this process has threads or a ZeroMQ context: neither survives a fork.
    """
    _occupy_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    front, grandparent = os.getpid(), os.getppid()
    link, workers_link = kernel.message_pair()
    out, workers_out = os.pipe()
    err, workers_err = os.pipe()
    pid = os.fork()
    if pid:
        for fd in (workers_out, workers_err):
            os.close(fd)
        workers_link.close()
        return pid, link, out, err
    try:
        kernel.die_with_parent(front, grandparent)
        os.setsid()  # a Ctrl-C at the terminal is for the front, and the group can be killed whole
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(workers_out, 1)
        os.dup2(workers_err, 2)
        for fd in (out, err, workers_out, workers_err):
            os.close(fd)
        link.close()
        run(lambda: life(workers_link))
    finally:
        os._exit(1)


def _occupy_standard_descriptors() -> None:
    """A program may start with some of 0, 1 and 2 closed; no pipe of ours may get such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
