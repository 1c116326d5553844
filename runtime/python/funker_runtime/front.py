"""The process that owns a replica's sockets, signals and clocks, and the worker beside it.

It turns what happens (messages, the worker's words and death, signals, time) into events for
the state machine in `replica.py`, and carries out the actions that come back. It decides
nothing, and it never waits for anything but the poll.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import zmq

from funker.rpc.errors import ProtocolError
from funker.rpc.keys import client_keys
from funker.rpc.messages import Ack, Call, Error, Failed, Message, Ping, decode, encode
from funker.rpc.sockets import guard
from funker_runtime import kernel, worker
from funker_runtime.events import (
    ROUTER,
    Action,
    Answered,
    Died,
    Event,
    Exit,
    Gone,
    Identity,
    Kill,
    Linked,
    Loaded,
    LoadFailed,
    Raised,
    Received,
    Release,
    Relink,
    Send,
    Start,
    Terminate,
    Tick,
)
from funker_runtime.log import Log
from funker_runtime.output import Output
from funker_runtime.replica import FAILED_S, Replica, State
from funker_runtime.settings import Settings

if TYPE_CHECKING:
    from funker_runtime.lifeline import Lifeline
    from funker_runtime.link import RouterLink

#: Milliseconds to flush what was sent before exiting.
LINGER_MS = 1000
#: Seconds that a dead worker's last output is waited for: the log may be blocked.
OUTPUT_S = 0.2
#: Rounds of dummy traffic before READY: the first round trip through fresh code paths, page
#: faults and sockets takes about twice as long as the next.
WARM_ROUNDS = 3


class Front:
    """One replica's sockets, worker and loop. `run` ends the process."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        pid: int,
        link: socket.socket,
        output: Output,
        log: Log,
    ) -> None:
        self._lifeline: Lifeline | None = None
        if "FUNKER_LIFELINE" in os.environ:
            from funker_runtime.lifeline import lifeline

            self._lifeline = lifeline(os.environ)
        self._candidate = self._lifeline is not None and self._lifeline.candidate
        self._replica = Replica(
            identity,
            timeout=settings.timeout,
            max_body=settings.max_body,
            now=time.monotonic(),
            kept=self._lifeline is not None,
        )
        self._pid = pid
        self._link = link
        self._output = output
        self._log = log
        self._death_watch = kernel.death_watch(pid)
        self._how: str | None = None  # how the worker died, once it did
        self._output_by = float("inf")
        self._warm_rounds = 0
        self._signals = _signal_descriptor()
        self._context = zmq.Context()
        self._socket = _listen(self._context, settings)
        self._router: RouterLink | None = None
        if settings.router:
            # Here: where there is no router, a replica's start isn't to pay for it.
            from funker_runtime.link import RouterLink

            self._router = RouterLink(
                settings.router,
                session=identity.session,
                keys=client_keys(os.environ),
                max_body=settings.max_body,
            )
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        for fd in (self._signals, log.ended):
            self._poller.register(fd, zmq.POLLIN)
        self._told = State.BOOT  # what was said over the lifeline
        if self._lifeline is not None:
            self._lifeline.says({"worker": pid})
            self._poller.register(self._lifeline.fd, zmq.POLLIN)

    def run(self) -> NoReturn:
        self._warm_up()
        # Only now can the replica become idle: the warm-up's own messages must not count as
        # those of a caller, who would be told of the end and waited for.
        for fd in (self._link.fileno(), self._death_watch):
            self._poller.register(fd, zmq.POLLIN)
        if self._router is not None:
            self._router.watch(self._poller)
        while True:
            self._step()

    def _step(self) -> None:
        now = time.monotonic()
        wait = min(self._replica.wakeup(), self._output_by) - now
        ready = dict(self._poller.poll(int(min(max(wait, 0.0), 3600.0) * 1000) + 1))
        if self._signals in ready:
            os.read(self._signals, 64)
            self._happened(Terminate())
        if self._lifeline is not None and self._lifeline.fd in ready:
            self._poller.unregister(self._lifeline.fd)
            self._lifeline = None
            self._happened(Terminate())
        # The worker's last words come before the news of its death.
        if self._link.fileno() in ready:
            self._hear_worker()
        if self._death_watch in ready:
            self._bury_worker()
        if self._socket in ready:
            self._receive()
        if self._router is not None and self._router.ready(ready):
            for event in self._router.events():
                self._happened(event)
        if self._log.ended in ready and self._log.endings():
            self._output_by = min(self._output_by, time.monotonic())
        if time.monotonic() >= self._output_by:
            self._close_output()
        self._happened(Tick())

    def _happened(self, event: Event) -> None:
        for action in self._replica.on(event, time.monotonic()):
            self._act(action)
        if self._lifeline is not None and self._replica.state is not self._told:
            self._told = self._replica.state
            self._tell(self._lifeline)

    def _tell(self, lifeline: Lifeline) -> None:
        """What whoever keeps this replica wants to know: whether it is of use."""
        if self._told is State.IDLE:
            lifeline.says({"state": "idle"})
        elif self._told is State.FAILED:
            lifeline.says({"state": "failed", **self._replica.failure})

    def _act(self, action: Action) -> None:
        match action:
            case Send(peer, message):
                if not self._send(peer, message):
                    self._happened(Gone(peer))
            case Start(call):
                self._output.begin(call.id)
                self._tell_worker({"call": worker.header(call)}, call.body or b"")
            case Release():
                self._tell_worker({"end": True})
            case Kill():
                self._kill_worker()
            case Relink() if self._router is not None:
                self._happened(self._router.redial())
            case Exit(status):
                self._exit(status)

    # Peers

    def _receive(self) -> None:
        # A few at a time, so that a flood on the socket can't hold up the worker or a signal.
        for _ in range(16):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frames)
            except ProtocolError as error:
                # An ERROR is never answered with one: two confused peers would never stop.
                if frames[:1] != [b"ERROR"]:
                    self._send(peer, Error(code=error.code, message=error.message))
                continue
            self._happened(Received(peer, message))

    def _send(self, peer: bytes, message: Message) -> bool:
        """Whether the message was handed to a connection; False if the peer is gone."""
        if peer == ROUTER:
            if self._candidate and isinstance(message, Failed):
                return True
            return self._router is not None and self._router.send(message)
        try:
            self._socket.send_multipart([peer, *encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    # The worker

    def _tell_worker(self, message: dict[str, Any], body: bytes | None = None) -> None:
        # A worker that has just died hears nothing; the news of its death answers the caller.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.send(self._link, message, body)

    def _hear_worker(self) -> None:
        received = worker.receive(self._link)
        if received is None:
            self._poller.unregister(self._link.fileno())
            return
        message, body = received
        match message:
            case {"loaded": _}:
                worker.send(self._link, {"warm": True}, b'{"x":1}')
            case {"warm": _} if self._warm_rounds < WARM_ROUNDS:
                self._warm_rounds += 1
                worker.send(self._link, {"warm": True}, b'{"x":1}')
            case {"warm": _}:
                gc.freeze()  # no collection need ever look at what is loaded
                gc.enable()
                self._happened(Loaded())
            case {"failed": failure}:
                self._output.say(failure["traceback"] or f"{failure['message']}\n")
                self._happened(LoadFailed(failure["message"], failure["traceback"]))
            case {"answer": answer}:
                self._happened(Answered(answer["content_type"], body or b""))
            case {"error": error}:
                self._output.say(error["traceback"])
                self._happened(Raised(**error))

    def _bury_worker(self) -> None:
        self._poller.unregister(self._death_watch)
        while self._link.fileno() in dict(self._poller.poll(0)):
            self._hear_worker()
        self._kill_worker()  # what it left running
        _, status = os.waitpid(self._pid, 0)
        self._how = _how_it_died(status)
        self._output.finish()
        self._output_by = time.monotonic() + OUTPUT_S

    def _kill_worker(self) -> None:
        # The group's number is the worker's own until the worker has been waited for. There is
        # no such group before the worker has made it, its first act.
        if self._how is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)

    def _close_output(self) -> None:
        self._output_by = float("inf")
        self._happened(Died(self._how or "died", self._output.tail()))

    # Beginning and end

    def _warm_up(self) -> None:
        """Rehearse a call, and send messages to ourselves, while the worker loads the handler."""
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        dealer = self._context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        self._poller.register(dealer, zmq.POLLIN)
        _rehearse()
        for number in range(WARM_ROUNDS):
            dealer.send_multipart(encode(Ping(number=number)))
            while not dealer.poll(0):
                self._step()
            decode(dealer.recv_multipart())
        self._poller.unregister(dealer)
        dealer.close(linger=0)

    def _exit(self, status: int) -> NoReturn:
        self._kill_worker()
        if self._router is not None:
            self._router.close(linger=LINGER_MS)
        self._log.flush(OUTPUT_S)
        self._context.destroy(linger=LINGER_MS)  # all its sockets: the warm-up may be under way
        os._exit(status)


def _rehearse() -> None:
    """Take a stand-in for the replica, and the codec, through a call."""
    id = "0" * 32
    stand_in = Replica(Identity("f", ("f",), "f.1", id), timeout=1.0, max_body=16, now=0.0)
    call = Call(id=id, function="f", session=id, body=b"{}")
    for event in (
        Linked(),
        Loaded(),
        Received(ROUTER, decode(encode(call))),
        Answered(call.content_type, b"{}"),
        Received(ROUTER, decode(encode(Ack(id=id)))),
    ):
        for action in stand_in.on(event, 0.0):
            if isinstance(action, Send):
                encode(action.message)


def _listen(context: zmq.Context[zmq.Socket[bytes]], settings: Settings) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.ROUTER)
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a send to a peer that is gone says so
    sock.setsockopt(zmq.SNDHWM, 0)  # a replica sends one outcome; dropping it is never right
    guard(sock, settings.max_body)
    give_up = time.monotonic() + FAILED_S
    while True:
        try:
            sock.bind(settings.listen)
            return sock
        except zmq.ZMQError as error:
            # The replica before us may still be closing its socket, the address may be about to
            # come up; and what stays wrong must not make the process manager spin.
            if time.monotonic() > give_up:
                print(f"funker: can't listen on {settings.listen}: {error}", file=sys.stderr)
                os._exit(1)
            time.sleep(0.05)


def _signal_descriptor() -> int:
    """A descriptor that becomes readable on SIGTERM and SIGINT."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _how_it_died(status: int) -> str:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"exited with status {os.WEXITSTATUS(status)}"
