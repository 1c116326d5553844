"""The local engine: the process in the background that keeps functions' replicas running.

    python3 -m funker.backends.local.agent

It holds the state directory's lock, runs the router and the reconciler beside it, and for each
function as many replicas as its file says. SIGTERM: everything leaves in order, the desired state
stays. A second SIGTERM: everything is killed. If it is killed itself, its children notice.

FUNKER_TETHER is a descriptor that ends with whoever started the agent for as long as that lives
(see `embedded`). Its end counts as a SIGTERM, and then the state directory goes as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import sys
import time

from funker.backends.local import keys, sweep
from funker.backends.local.child import Child
from funker.backends.local.control import Server, Status
from funker.backends.local.keeper import Keeper
from funker.backends.local.process import remove_tree
from funker.backends.local.state import StateDirectory
from funker.backends.local.sweep import Strays
from funker.rpc.errors import FunkerError

#: Seconds between looks at what an earlier agent has left running.
STRAYS_S = 0.2


class Agent:
    """One state directory's agent. `run` returns after SIGTERM."""

    def __init__(self, state: StateDirectory, tether: int | None = None) -> None:
        self._state = state
        #: Whoever started this agent is gone, and nobody else needs what it kept.
        self.orphaned = False
        self._started_at = time.time()
        self._leaving = 0  # SIGTERMs so far
        self._bereaved = False  # a child has ended
        self._selector = selectors.DefaultSelector()
        self._signals = _signal_descriptor()
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        if tether is not None:
            os.set_inheritable(tether, False)
            self._selector.register(tether, selectors.EVENT_READ, lambda _: self._bereft(tether))
        self._server = Server(state, self._selector, look=self._look, answer=self._status)
        self._keeper = Keeper(state, self._selector)
        self._strays = Strays(state)
        self._strays.wait(children_only=True)  # two routers can't have one address
        # What the user's shell says of routers and keys is for calls, not for this router.
        own = {name: value for name, value in os.environ.items() if not name.startswith("FUNKER_")}
        environment = {
            **own,
            "FUNKER_BACKEND": "local",
            "FUNKER_STATE_DIR": str(state.root),
            "FUNKER_LISTEN": state.router_endpoint,
            "FUNKER_CONTROL": state.control_endpoint,
            "FUNKER_ROUTER_KEY_FILE": str(state.router_key),
        }
        self._children = [
            Child(state, f"funker.controller.{name}", environment)
            for name in ("router", "reconciler")
        ]

    def introduce(self) -> None:
        """Writes down who this is and where it is found, for people."""
        fields = {
            "pid": os.getpid(),
            "started": self._started_at,
            "router": self._state.router_endpoint,
            "control": self._state.control_endpoint,
            "socket": self._state.agent_socket,
        }
        self._state.write(self._state.controller, json.dumps(fields, indent=2) + "\n")

    def run(self) -> None:
        """Until SIGTERM has come and everything has left."""
        while not (self._leaving and not self._keeper and not self._strays):
            self._keeper.scan()
            self._start_children()
            self._keeper.carry_out()
            self._server.changed(self._keeper.news())
            wait = self._wakeup() - time.monotonic()
            for key, events in self._selector.select(max(wait, 0.0)):
                key.data(events)
            self._look_after()
        for child in reversed(self._children):  # the router last: it hands out answers
            child.stop()
        self._server.close()
        self._keeper.close()

    def _start_children(self) -> None:
        for child in self._children:
            if child.due <= time.monotonic():
                try:
                    child.start()
                except OSError as error:
                    _say(f"{child.name}: {error}")
                    child.due = time.monotonic() + 1.0

    def _look_after(self) -> None:
        """What has ended, and what should have."""
        if self._bereaved or time.monotonic() >= self._keeper.wakeup():
            self._bereaved = False
            self._keeper.reap()
            for child in self._children:
                if told := child.ended():
                    _say(told)
        self._strays.check()

    def _wakeup(self) -> float:
        dues = [self._keeper.wakeup(), self._server.wakeup()]
        dues += [child.due for child in self._children]
        if self._strays:
            dues.append(time.monotonic() + STRAYS_S)
        return min(dues)

    def _on_signals(self, _: int) -> None:
        for number in os.read(self._signals, 4096):
            if number == signal.SIGCHLD:
                self._bereaved = True
            else:
                self._leave()

    def _leave(self) -> None:
        self._leaving += 1
        self._strays.terminate()
        self._keeper.leave(at_once=self._leaving > 1)

    def _bereft(self, tether: int) -> None:
        self._selector.unregister(tether)
        os.close(tether)
        self.orphaned = True
        self._leave()

    def _look(self, retry: str) -> None:
        self._keeper.scan(now=True)
        self._keeper.retry(retry)
        self._keeper.carry_out()

    def _status(self) -> Status:
        return {
            "pid": os.getpid(),
            "started": self._started_at,
            "version": self._keeper.version,
            "leaving": bool(self._leaving),
            "children": {child.name: child.pid for child in self._children},
            "functions": self._keeper.status(),
            **self._keeper.news(),
        }


def _say(text: str) -> None:
    print(f"funker-local: {text}", file=sys.stderr, flush=True)


def _signal_descriptor() -> int:
    """A descriptor from which the numbers of signals can be read that have come."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reader


def main() -> None:
    """The entry point. Says `ready` to the descriptor FUNKER_READY, if there is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # each replica takes three descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else soft, hard))
    ready = os.environ.pop("FUNKER_READY", "")
    tether = os.environ.pop("FUNKER_TETHER", "")
    state = StateDirectory.of(os.environ)
    try:
        state.create()
        with state.hold():
            state.make_room()
            keys.ensure(state)
            agent = Agent(state, int(tether) if tether else None)
            agent.introduce()
            if ready:
                with os.fdopen(int(ready), "w") as told:
                    told.write("ready\n")
            agent.run()
            if agent.orphaned:
                sweep.clear(state)
                remove_tree(state.root)
            os._exit(0)  # whoever gets the lock next shall not find this process
    except FunkerError as error:
        _say(f"{error.message}. {error.hint}")
        sys.exit(1)


if __name__ == "__main__":
    main()
