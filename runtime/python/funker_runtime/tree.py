"""The processes of a replica with slots, as the front sees them: zygote, keepers, workers.

    front ── zygote ─┬─ keeper of slot 0 ─┬─ worker: has a call
                     │                    └─ worker: waits for its turn
                     └─ keeper of slot 1 …

The front is told of them over one socket (`zygote`, `keeper` say what), gets each worker's link,
and never waits for any of them. What a worker says it may have made up: it is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import zmq

from funker_runtime import kernel, worker
from funker_runtime.events import Barren, Died, Event, Loaded, LoadFailed
from funker_runtime.output import Output
from funker_runtime.solo import OUTPUT_S, WARM_ROUNDS, how_it_died, word

if TYPE_CHECKING:
    from funker.rpc.messages import Call
    from funker_runtime.log import Log

#: Messages of the tree that are read at once.
_BATCH = 16
#: Descriptors that come with one.
_MAX_FDS = 4
#: Seconds for the tree to be gone when the front ends.
_END_S = 1.0

_NEVER = float("inf")


class _Seat:
    """A slot's worker as it is now, and what is known of the next."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.output: Output | None = None
        self.link: socket.socket | None = None
        self.pidfd = -1
        self.warm_rounds = 0
        #: How the worker died whose last output is waited for, and for how long.
        self.how: str | None = None
        self.output_by = _NEVER
        #: Whether its keeper has died, and its pipes with it.
        self.is_closing = False
        self.pipes: tuple[int, int] | None = None
        self.following: tuple[socket.socket, int] | None = None


class Tree:
    """`pid` is the zygote's, `tree` the socket on which all of them speak."""

    def __init__(
        self,
        pid: int,
        tree: socket.socket,
        out: int,
        err: int,
        log: Log,
        *,
        slots: int,
        max_body: int,
    ) -> None:
        #: Leads a process group: all that is to be killed should this process be.
        self.leader = pid
        self._pid = pid
        self._tree = tree
        self._log = log
        self._max_body = max_body
        self._output = Output(out, err, log)
        self._residue = ""
        self._seats = [_Seat(number) for number in range(slots)]
        self._links: dict[int, _Seat] = {}
        self._ended: str | None = None  # how the zygote died
        self._output_by = _NEVER
        #: When, once the zygote is dead, its keepers and their workers are.
        self._gone_by = _NEVER
        self._death_watch = kernel.death_watch(pid)
        # One descriptor for all of them in the front's poll, whose cost is by their number.
        self._epoll = select.epoll()
        for fd in (tree.fileno(), self._death_watch, log.ended):
            self._epoll.register(fd, select.EPOLLIN)

    def watch(self, poller: zmq.Poller) -> None:
        poller.register(self._epoll.fileno(), zmq.POLLIN)

    def wakeup(self) -> float:
        return min(self._output_by, self._gone_by, *(seat.output_by for seat in self._seats))

    def events(self, ready: dict[Any, int]) -> list[Event]:
        """What happened, by a poll's result."""
        happened: list[Event] = []
        if self._epoll.fileno() in ready:
            fds = [fd for fd, _ in self._epoll.poll(0)]
            for fd in fds:
                if (seat := self._links.get(fd)) is not None:
                    self._hear_worker(seat, happened)
            if self._tree.fileno() in fds:
                self._hear_tree(happened)
            if self._death_watch in fds:
                self._bury_zygote()
            if self._log.ended in fds:
                self._note_endings(self._log.endings(), happened)
        now = time.monotonic()
        for seat in self._seats:
            if now >= seat.output_by:
                self._settle(seat, happened)
        if now >= self._output_by:
            self._output_by = _NEVER
            self._end_of_all(self._ended or "died", happened)
        if now >= self._gone_by:
            self._gone_by = _NEVER
            for seat in self._seats:
                self._on_death(seat, signal.SIGKILL, happened, last=True)
        return happened

    def start(self, call: Call, slot: int) -> None:
        seat = self._seats[slot]
        assert seat.output is not None
        seat.output.begin(call.id)
        self._tell(seat, {"call": worker.header(call)}, call.body or b"")

    def release(self, slot: int) -> None:
        """Workers here end by themselves."""

    def kill(self, slot: int = 0) -> None:
        """Kill a worker; its keeper kills what it has started. Before there is any, all of it."""
        seat = self._seats[slot]
        if seat.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(seat.pidfd, signal.SIGKILL)
        elif not self._residue:
            self._kill_zygote()

    def close(self) -> None:
        """End all of it, and wait until it has ended."""
        self._kill_zygote()
        until = time.monotonic() + _END_S
        while (left := until - time.monotonic()) > 0:
            if select.select([self._tree], [], [], left)[0] and not self._tree.recv(1):
                return

    def _kill_zygote(self) -> None:
        if self._ended is None:
            os.kill(self._pid, signal.SIGKILL)

    # What they say

    def _tell(self, seat: _Seat, message: dict[str, Any], body: bytes) -> None:
        # A worker that has just died hears nothing; the news of its death answers the caller.
        if seat.link is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                worker.send(seat.link, message, body)

    def _hear_worker(self, seat: _Seat, happened: list[Event]) -> bool:
        """One message of a worker; False if there is none, and will be none."""
        if seat.link is None:
            return False
        try:
            received = worker.receive(
                seat.link, flags=socket.MSG_DONTWAIT, limit=self._max_body + 1
            )
            if received is None:
                self._unlink(seat)
                return False
            message, body = received
            if "warm" in message:
                self._warm(seat, happened)
                return True
            assert seat.output is not None
            happened.append(word(message, body, seat.number, seat.output))
        except BlockingIOError:
            return False
        except (ValueError, RecursionError, TypeError) as error:
            self._log.say(f"funker: a worker was killed: {error}\n")
            self.kill(seat.number)
        self._unlink(seat)  # it has no more to say
        return False

    def _warm(self, seat: _Seat, happened: list[Event]) -> None:
        seat.warm_rounds += 1
        if seat.warm_rounds <= WARM_ROUNDS:
            self._tell(seat, {"warm": True}, b'{"x":1}')
        elif seat.warm_rounds == WARM_ROUNDS + 1:
            happened.append(Loaded(seat.number, self._residue))

    def _unlink(self, seat: _Seat) -> None:
        if seat.link is not None:
            del self._links[seat.link.fileno()]
            self._epoll.unregister(seat.link)
            seat.link.close()
            seat.link = None

    def _hear_tree(self, happened: list[Event]) -> None:
        for _ in range(_BATCH):
            try:
                data, fds = kernel.receive(
                    self._tree, worker.MAX_CONTROL, fds=_MAX_FDS, flags=socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            if not data:
                self._epoll.unregister(self._tree)
                self._gone_by = min(self._gone_by, time.monotonic())
                return
            match json.loads(data):
                case {"slot": int(number)} as news:
                    self._on_news(self._seats[number], news, fds, happened)
                case {"loaded": str(residue)}:
                    self._residue = residue
                case {"failed": failure}:
                    self._output.say(failure["traceback"] or f"{failure['message']}\n")
                    happened.append(LoadFailed(failure["message"], failure["traceback"]))

    def _on_news(
        self, seat: _Seat, news: dict[str, Any], fds: list[int], happened: list[Event]
    ) -> None:
        if "pipes" in news:
            seat.pipes = fds[0], fds[1]
        if "left" in news:
            self._end_of_all(f"can't get rid of {news['left']}", happened)
        if "keeper" in news:
            # Its workers died with it. The next one has pipes of its own.
            self._on_death(seat, news["keeper"], happened, last=True)
        if "died" in news:
            self._on_death(seat, news["died"], happened, last=False)
        if "next" in news:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fds[0])
            seat.following = link, fds[1]
        if seat.how is None:
            self._refill(seat, happened)

    # Coming and going

    def _on_death(self, seat: _Seat, status: int, happened: list[Event], *, last: bool) -> None:
        while self._hear_worker(seat, happened):
            pass
        self._unlink(seat)
        if seat.pidfd >= 0:
            os.close(seat.pidfd)
            seat.pidfd = -1
        if last and seat.following is not None:  # handed over, and dead by now
            link, pidfd = seat.following
            link.close()
            os.close(pidfd)
            seat.following = None
        if seat.output is None:
            return
        seat.how = seat.how or how_it_died(status)
        if last:
            seat.is_closing = True
            seat.output.finish()
        elif seat.output.is_quiet():
            self._settle(seat, happened)
            return
        else:
            seat.output.turn()
        seat.output_by = time.monotonic() + OUTPUT_S

    def _settle(self, seat: _Seat, happened: list[Event]) -> None:
        """A dead worker's last output is in."""
        assert seat.output is not None
        seat.output_by = _NEVER
        happened.append(Died(seat.how or "died", seat.output.tail(), seat.number))
        seat.how = None
        if seat.is_closing:
            seat.output, seat.is_closing = None, False
        else:
            seat.output.clear()
        self._refill(seat, happened)

    def _refill(self, seat: _Seat, happened: list[Event]) -> None:
        if seat.output is None and seat.pipes is not None:
            seat.output = Output(*seat.pipes, self._log)
            seat.pipes = None
        if seat.following is None or seat.output is None:
            return
        (seat.link, seat.pidfd), seat.following = seat.following, None
        self._links[seat.link.fileno()] = seat
        self._epoll.register(seat.link, select.EPOLLIN)
        if seat.warm_rounds <= WARM_ROUNDS:
            self._tell(seat, {"warm": True}, b'{"x":1}')
        else:
            happened.append(Loaded(seat.number, self._residue))

    def _end_of_all(self, why: str, happened: list[Event]) -> None:
        happened.append(Barren(why, self._output.tail()))
        self._log.say(f"funker: the process that starts workers {why}\n")

    def _note_endings(self, ended: list[Output], happened: list[Event]) -> None:
        if self._output in ended:
            self._output_by = min(self._output_by, time.monotonic())
        for seat in self._seats:
            if seat.output in ended and seat.how is not None:
                self._settle(seat, happened)

    def _bury_zygote(self) -> None:
        """Its keepers end with it, and their workers; then nobody has the other end of `tree`."""
        self._epoll.unregister(self._death_watch)
        _, status = os.waitpid(self._pid, 0)
        self._ended = how_it_died(status)
        self._output.finish()
        now = time.monotonic()
        self._output_by, self._gone_by = now + OUTPUT_S, now + _END_S
