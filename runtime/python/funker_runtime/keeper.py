"""The process that keeps one slot of a replica supplied with workers, a fresh one for each call.

It is forked from the zygote, with the handler loaded. Of its workers one is with the front, and
waits for its call or runs it; the next is forked already, so that a fork is never on the way of a
call. When a worker has ended, the keeper clears up after it, and only then hands over the next: one
call at a time runs beneath a keeper, and what descends from it is that call's own.

A process pays for each page of memory that it writes to after a fork, and Python writes wherever it
looks. So what is done for each call is done with as little of Python as can be, and in the keeper
rather than in the worker.

It has one thread, decides nothing and is told nothing: a worker that must end is killed by the
front. What it says goes to the front (`tree`), descriptors with it:

    {"slot", "pipes"} + stdout, stderr             what it and all its workers print
    {"slot", "next"} + link, pidfd                 the next worker
    {"slot", "next", "died": status} + the same    and how the last one ended
    {"slot", "died": status}                       before the next, where clearing up may take long
    {"slot", "left": text}                         it can't clear up: nothing may run here any more

When the zygote dies it is told by SIGTERM, kills and removes what is its own, and ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from funker_runtime import cleanup, kernel, worker

if TYPE_CHECKING:
    from funker_runtime.confine import Confinement
    from funker_runtime.loader import Handler

#: Seconds for the processes that a call has left to be gone, and its files, of which a disk may
#: remove no more than a thousand a second. Longer, and the replica ends.
CLEAN_S = 30.0
#: Seconds until a fork is tried again that the machine had no room for.
RETRY_S = 0.02
#: Bytes that a pipe holds, unless somebody changes that.
PIPE = 65536
#: Workers in a row that may die before they have been given a call.
STILLBORN = 3


class Worker(NamedTuple):
    """A worker that waits: its process, its directory, the front's end of its link."""

    pid: int
    directory: str
    link: socket.socket
    pidfd: int


class Keeper:
    """Slot `number`. `tree` is the socket to the front, which all keepers share."""

    def __init__(
        self,
        number: int,
        *,
        zygote: int,
        tree: socket.socket,
        function: Handler,
        confinement: Confinement,
        max_body: int,
    ) -> None:
        self._number = number
        self._zygote = zygote
        self._pid = os.getpid()
        self._tree = tree
        self._function = function
        self._confinement = confinement
        self._max_body = max_body
        # The pipes are the slot's, whoever its worker is: nobody writes to them but the one call.
        out, self._out = os.pipe()
        err, self._err = os.pipe()
        self._say('"pipes":true', out, err)
        os.close(out)
        os.close(err)
        self._pipes = tuple(
            (number, pipe, f"/proc/self/fd/{pipe}")
            for number, pipe in ((1, self._out), (2, self._err))
        )

    def run(self) -> NoReturn:
        signal.signal(signal.SIGTERM, _leave)
        try:
            kernel.adopt_orphans()
            kernel.hear_of_death(self._zygote, signal.SIGTERM)
            self._keep()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the front is gone
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            until = time.monotonic() + CLEAN_S
            cleanup.end((), until)
            self._confinement.close(until)
            os._exit(0)

    def _keep(self) -> NoReturn:
        current = self._forked()
        self._hand(current, "")
        while True:
            following = self._forked()
            status = self._wait(current)
            news = f',"died":{status}'
            if status:  # there may be a lot to clear up, and an error waits for this
                self._say(news[1:])
                news = ""
            until = time.monotonic() + CLEAN_S
            keep = {following.pid: following.directory}
            left = cleanup.clean(self._confinement, current.pid, current.directory, keep, until)
            os.waitpid(current.pid, 0)
            if left:
                self._say(f'"left":{json.dumps(left)}')
                signal.pause()
            current = self._living(following)
            self._hand(current, news)

    def _wait(self, current: Worker) -> int:
        """Until it has died; how, in the words of `waitpid`. It isn't reaped by that."""
        how = os.waitid(os.P_PID, current.pid, os.WEXITED | os.WNOWAIT)
        assert how is not None
        return how.si_status << 8 if how.si_code == os.CLD_EXITED else how.si_status

    def _living(self, following: Worker) -> Worker:
        """The worker that was forked ahead, or another, should it have died meanwhile."""
        for _ in range(STILLBORN):
            if os.waitpid(following.pid, os.WNOHANG) == (0, 0):
                return following
            self._confinement.give_back(following.directory, time.monotonic() + CLEAN_S)
            following.link.close()
            os.close(following.pidfd)
            following = self._forked()
        print("funker: processes die before they are given a call", file=sys.stderr)
        sys.exit(1)

    def _hand(self, current: Worker, news: str) -> None:
        # Now: when it was forked, the call before may have been at them still.
        for pipe in (self._out, self._err):
            _renew(pipe)
        self._say(f'"next":true{news}', current.link.fileno(), current.pidfd)
        current.link.close()
        os.close(current.pidfd)

    def _say(self, news: str, *fds: int) -> None:
        # Neither json nor send_fds: each looks at a hundred pages of memory.
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))
        text = f'{{"slot":{self._number},{news}}}'
        self._tree.sendmsg([text.encode()], [rights] if fds else ())

    # Workers

    def _forked(self) -> Worker:
        """A new worker. Waits while the machine has no room for one."""
        while True:
            try:
                return self._fork()
            except OSError:
                time.sleep(RETRY_S)  # for room that others make, who don't tell

    def _fork(self) -> Worker:
        directory = self._confinement.take()
        try:
            # Opened anew for each: flags such as O_NONBLOCK belong to what was opened.
            for number, pipe, path in self._pipes:
                try:
                    fd = os.open(path, os.O_WRONLY)
                except PermissionError:  # the call that runs has changed its mode
                    _renew(pipe)
                    fd = os.open(path, os.O_WRONLY)
                os.dup2(fd, number)
                os.close(fd)
            link, workers_link = kernel.message_pair()
            if (pid := os.fork()) == 0:
                self._live(link, workers_link)
            workers_link.close()
            return Worker(pid, directory, link, os.pidfd_open(pid))
        except BaseException:
            self._confinement.give_back(directory, time.monotonic() + CLEAN_S)
            raise

    def _live(self, link: socket.socket, workers_link: socket.socket) -> NoReturn:
        """A worker's life."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            kernel.hear_of_death(self._pid, signal.SIGKILL)
            os.setsid()
            self._tree.close()
            link.close()
            os.close(self._out)
            os.close(self._err)
            self._confinement.enter()
            worker.rehearse(1)  # what a call touches first is touched now
        except BaseException:  # noqa: BLE001 - whatever it is, the log has it
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        worker.run(
            lambda: worker.serve(workers_link, self._function, max_body=self._max_body, waits=False)
        )


def _renew(pipe: int) -> None:
    """Give a pipe back what a call may have changed of it, which outlives the call."""
    os.fchmod(pipe, 0o600)
    os.utime(pipe)
    with contextlib.suppress(OSError):  # the user has too many large ones
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _leave(*_: object) -> NoReturn:
    sys.exit(0)
