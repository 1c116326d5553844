"""Callers and replicas against each other: the two state machines over a network that misbehaves.

Everything is simulated, the clock included: connections with delays, connections that are cut
with messages under way, replicas that are killed and replaced (sometimes at the same address),
handlers that answer, raise, crash or hang, and SIGTERM at any moment. Whatever happens:

- each call has exactly one outcome, at the latest shortly after its deadline;
- no call that isn't idempotent starts twice, and an answer is the answer of its own call;
- a call whose error says that it certainly did not start, didn't.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from funker.rpc import calls
from funker.rpc.messages import Call, Error, Message, Result
from funker_runtime import events as served
from tests.unit.simulated import SimulatedMachine, Time

NAME = "add"


class World(Time):
    def __init__(self, seed: int, *, replicas: int, trouble: float, reuse: bool) -> None:
        super().__init__(seed, trouble=trouble)
        self.reuse = reuse
        self.births = itertools.count()
        self.replicas: dict[str, SimulatedReplica] = {}
        self.callers: list[SimulatedCaller] = []
        self.started: Counter[str] = Counter()
        for _ in range(replicas):
            self.bear(None)

    def bear(self, address: str | None) -> None:
        """A replica starts, at a new address or, where addresses are reused, an old one."""
        number = next(self.births)
        if address is None or not self.reuse or address in self.replicas:
            address = f"10.0.0.{number}:5570"
        self.replicas[address] = SimulatedReplica(self, address, number)

    def latency(self) -> float:
        return self.random.choice([0.0002, 0.001, 0.001, 0.02, 0.2 * self.trouble])

    def run(self, until: float) -> None:
        while self.schedule and self.now <= until:
            self.now, _, then = heapq.heappop(self.schedule)
            then()


class Connection:
    """Two ordered one-way streams. Cut, it loses what is under way."""

    def __init__(self, world: World, caller: SimulatedCaller, replica: SimulatedReplica) -> None:
        self.world, self.caller, self.replica = world, caller, replica
        self.peer = str(next(world.order)).encode()
        self.cut = False
        self.caller_closed = False
        self.replica_closed = False
        self._arrival = {"up": 0.0, "down": 0.0}

    def send(self, direction: str, message: Message) -> bool:
        """Whether the sender's end still was open."""
        if self.cut or (self.caller_closed if direction == "up" else self.replica_closed):
            return False
        if direction == "down" and self.caller_closed:
            return False
        if self.world.strikes(0.1):
            self.break_off()
            return True  # written, never to arrive
        now = self.world.now
        arrival = max(self._arrival[direction], now + self.world.latency())
        self._arrival[direction] = arrival
        self.world.after(arrival - now, lambda: self._arrive(direction, message))
        return True

    def _arrive(self, direction: str, message: Message) -> None:
        if self.cut:
            return
        if direction == "up" and self.replica.alive:
            self.replica.feed(served.Received(self.peer, message))
        elif direction == "down" and not self.caller_closed:
            self.caller.feed(calls.Heard(self.replica.address, message))

    def break_off(self) -> None:
        self.cut = True
        self.world.after(self.world.latency(), self._tell)

    def _tell(self) -> None:
        if not self.caller_closed:
            self.caller.lost(self)

    def close_replica_end(self, *, flushed: bool) -> None:
        """The replica exits; what it sent arrives first if it flushed."""
        if not flushed:
            self.break_off()
            return
        self.replica_closed = True
        wait = max(self._arrival["down"] - self.world.now, 0) + self.world.latency()
        self.world.after(wait, self._tell)


class SimulatedReplica(SimulatedMachine):
    def __init__(self, world: World, address: str, number: int) -> None:
        super().__init__(
            world, served.Identity(NAME, (NAME,), f"{NAME}.{number}", f"5e55{number:028x}")
        )
        self.world, self.address = world, address
        self.in_dns = False
        self.connections: dict[bytes, Connection] = {}
        world.after(0.1, self._listed)
        fate = "fail" if world.strikes(0.1) else "load"
        world.after(world.random.uniform(0.02, 0.3), lambda: self._booted(fate))
        if world.strikes(0.5):
            world.after(world.random.uniform(0, 3), lambda: self.feed(served.Terminate()))
        if world.strikes(0.2):
            world.after(world.random.uniform(0, 3), self._killed)

    def _listed(self) -> None:
        self.in_dns = True

    def _booted(self, fate: str) -> None:
        if fate == "load":
            for slot in range(self._slots or 1):
                self.load(slot)
        else:
            self.feed(served.LoadFailed("ImportError: no", "Traceback"))

    def _killed(self) -> None:
        if self.alive:
            self._end(flushed=False)

    def _send(self, peer: bytes, message: Message) -> bool:
        return self.connections[peer].send("down", message)

    def _handle(self, call: Call, slot: int) -> None:
        self.world.started[call.id] += 1
        took = self.world.random.choice([0.001, 0.01, 0.5])
        event: served.Answered | served.Raised | served.Died
        event = served.Answered("text/plain", call.id.encode(), slot)
        if self.world.strikes(0.1):
            event = served.Died("exited with status 3", "", slot)
        elif self.world.strikes(0.1):
            event = served.Raised("ValueError: no", "ValueError", "Traceback", slot)
        elif self.world.strikes(0.05):
            return  # hangs
        self.later(took, event)
        self.later(took + 0.003, served.Died("exited with status 0", "", slot))

    def _end(self, *, flushed: bool) -> None:
        self.alive = False
        for connection in self.connections.values():
            connection.close_replica_end(flushed=flushed)
        del self.world.replicas[self.address]
        address = self.address if self.world.random.random() < 0.5 else None
        self.world.after(self.world.random.uniform(0.05, 0.6), lambda: self.world.bear(address))


class SimulatedCaller:
    def __init__(self, world: World, call: Call) -> None:
        self.world, self.call = world, call
        self.outcomes: list[Result | Error] = []
        self.ended_at = 0.0
        self.links: dict[str, Connection] = {}
        self._wake_at = float("inf")
        self.machine = calls.DirectCall(call, now=world.now, jitter=world.random.random)
        if world.strikes(0.1):
            wait = world.random.uniform(0, 2)
            world.after(wait, lambda: self.feed(calls.CancelAsked()))
        self.feed(calls.Tick())

    def feed(self, event: calls.Event) -> None:
        if self.outcomes:
            return
        for action in self.machine.on(event, self.world.now):
            self._do(action)
        if not self.outcomes and (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.world.after(max(due - self.world.now, 0), self._tick)

    def _tick(self) -> None:
        self._wake_at = float("inf")
        self.feed(calls.Tick())

    def _do(self, action: calls.Action) -> None:
        match action:
            case calls.Resolve():
                self.world.after(self.world.latency(), self._resolved)
            case calls.Connect(address):
                self.world.after(self.world.latency(), lambda: self._connect(address))
            case calls.Disconnect(address):
                if (link := self.links.pop(address, None)) is not None:
                    link.caller_closed = True
            case calls.Send(address, message):
                if (link := self.links.get(address)) is not None:
                    link.send("up", message)
            case calls.Finish(outcome):
                self.outcomes.append(outcome)
                self.ended_at = self.world.now
                for link in self.links.values():
                    link.caller_closed = True

    def _resolved(self) -> None:
        found = [a for a, replica in self.world.replicas.items() if replica.in_dns]
        self.world.random.shuffle(found)
        self.feed(calls.Resolved(tuple(found)))

    def _connect(self, address: str) -> None:
        replica = self.world.replicas.get(address)
        if replica is None:
            self.feed(calls.Disconnected(address))
        elif not self.outcomes:
            link = Connection(self.world, self, replica)
            replica.connections[link.peer] = link
            self.links[address] = link
            self.feed(calls.Connected(address))

    def lost(self, link: Connection) -> None:
        if self.links.get(link.replica.address) is link:
            del self.links[link.replica.address]
            self.feed(calls.Disconnected(link.replica.address))


def simulate(
    seed: int, *, replicas: int, callers: int, trouble: float, reuse: bool = True
) -> tuple[World, list[SimulatedCaller]]:
    world = World(seed, replicas=replicas, trouble=trouble, reuse=reuse)
    deadline = 8.0
    for number in range(callers):
        call = Call(
            id=f"{number:032x}",
            function=NAME,
            deadline_ms=round(deadline * 1000),
            idempotent=world.random.random() < 0.3,
            body=b"{}",
        )
        world.after(
            world.random.uniform(0, 1),
            lambda call=call: world.callers.append(SimulatedCaller(world, call)),  # type: ignore[misc]
        )
    world.run(until=60)
    return world, world.callers


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 4),
    callers=st.integers(1, 12),
    trouble=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    reuse=st.booleans(),
)
@settings(max_examples=3000, deadline=None)
def test_each_call_has_one_outcome_and_runs_at_most_once_whatever_the_network_does(
    seed: int, replicas: int, callers: int, trouble: float, reuse: bool
) -> None:
    world, made = simulate(seed, replicas=replicas, callers=callers, trouble=trouble, reuse=reuse)
    assert len(made) == callers
    for caller in made:
        assert len(caller.outcomes) == 1
        outcome = caller.outcomes[0]
        starts = world.started[caller.call.id]
        assert caller.ended_at <= 1 + 8.0 + calls.GRACE_S + 0.01
        assert caller.call.idempotent or starts <= 1
        if isinstance(outcome, Result):
            assert outcome.body == caller.call.id.encode()
            assert starts >= 1
        elif outcome.retry_safe:
            assert starts == 0, outcome


@given(seed=st.integers(0, 2**32), replicas=st.integers(1, 4), callers=st.integers(1, 16))
@settings(max_examples=300, deadline=None)
def test_on_a_sound_network_every_call_is_answered_and_runs_exactly_once(
    seed: int, replicas: int, callers: int
) -> None:
    # 16 callers on one replica that takes up to 1.4 s for each turn would outlast the deadline.
    world, made = simulate(seed, replicas=replicas, callers=min(callers, 4 * replicas), trouble=0.0)
    for caller in made:
        assert isinstance(caller.outcomes[0], Result), caller.outcomes
        assert world.started[caller.call.id] == 1
