"""The process that all workers of a replica with slots descend from: it loads the handler, once.

It is forked by the front before any ZeroMQ context exists, has one thread, and forks a keeper for
each slot (`keeper`). Should a keeper die, it kills what is left of that slot and forks another. It
dies with the front, and its keepers end with it: nothing outlives the front.

It tells the front, over the socket that its keepers share:

    {"loaded": residue} | {"failed": …}      the handler is loaded; how well traces are kept away
    {"slot": number, "keeper": status}       a keeper has died; another follows
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from funker_runtime import cleanup, confine, kernel, worker
from funker_runtime.keeper import CLEAN_S, RETRY_S, Keeper

if TYPE_CHECKING:
    from funker_runtime.loader import Handler
    from funker_runtime.settings import Settings

#: Rounds of a rehearsed call: what they leave, warm code and memory, every worker inherits.
WARM_ROUNDS = 20
#: Keepers that may die within so many seconds. More is a machine on which nothing can run.
DEATHS, WITHIN_S = 10, 10.0


def main(tree: socket.socket, find: worker.Finder, told: Settings) -> NoReturn:
    """The zygote's whole life. `find(handler)` gives the callable, or raises why it can't."""
    worker.prepare_streams()
    with contextlib.suppress(KeyError, ValueError, OSError):
        os.close(int(os.environ.pop("FUNKER_LIFELINE")))  # the front's; here it would stay open
    try:
        function = find(told.handler)
    except Exception as error:  # noqa: BLE001 - whatever an import raises is told
        worker.send(tree, {"failed": worker.described(error)})
        sys.exit(1)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208
        print(
            f"funker: loading the handler has started {threads - 1} threads; with isolation: "
            "process, calls don't have them. Start them in a function with @funker.after_fork.",
            file=sys.stderr,
        )
    confinement = confine.prepare(told.ulimits)
    worker.rehearse(WARM_ROUNDS)
    kernel.adopt_orphans()
    gc.collect()
    gc.freeze()  # what is loaded lives as long as the process; no worker's collector looks at it
    worker.send(tree, {"loaded": confinement.residue})
    Zygote(tree, function, confinement, told).run()


class Zygote:
    """Sees to it that each slot has a keeper."""

    def __init__(
        self,
        tree: socket.socket,
        function: Handler,
        confinement: confine.Confinement,
        told: Settings,
    ) -> None:
        self._pid = os.getpid()
        self._tree = tree
        self._function = function
        self._confinement = confinement
        self._told = told
        self._slots: dict[int, int] = {}  # by the keeper's pid
        self._deaths: list[float] = []

    def run(self) -> NoReturn:
        for number in range(self._told.slots):
            self._fork(number)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid not in self._slots:
                continue  # what a dead keeper has left
            number = self._slots.pop(pid)
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < WITHIN_S] + [now]
            if len(self._deaths) > DEATHS:
                print("funker: the processes that start workers keep dying", file=sys.stderr)
                sys.exit(1)
            cleanup.end(self._slots, now + CLEAN_S)
            news = {"slot": number, "keeper": status}
            self._tree.send(json.dumps(news).encode())
            self._fork(number)

    def _fork(self, number: int) -> None:
        while True:
            try:
                pid = os.fork()
            except OSError:
                time.sleep(RETRY_S)  # for room that others make, who don't tell
                continue
            if pid == 0:
                keeper = Keeper(
                    number,
                    zygote=self._pid,
                    tree=self._tree,
                    function=self._function,
                    confinement=self._confinement,
                    max_body=self._told.max_body,
                )
                keeper.run()
            self._slots[pid] = number
            return
