"""Callers, routers and replicas against each other: three state machines over a bad network.

Everything is simulated, the clock included. Connections delay, freeze and break with messages
under way, and either end may notice at once or not at all. Routers are killed and restarted,
sleep, and may be two for a while. Replicas are killed, terminated, crash, hang, fail to load, and
are called directly in between. Callers cancel, and die. Whatever happens:

- each call has exactly one outcome, at the latest shortly after its deadline;
- no call that isn't idempotent starts twice, and an answer is the answer of its own call;
- a call whose error says that it certainly did not start, didn't: neither then nor later, so a
  caller may take another way with it;
- in the end no router and no replica has anything left of any call.

One hole is known and allowed for: a call that was handed out, whose caller was cut off from that
router before it heard the ACCEPT, and whose replica doesn't come to the next router in time. Where
the network is sound it can't happen, however often the router dies: there every call is answered
and runs once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from funker.controller import dispatch, tables
from funker.rpc import session
from funker.rpc.messages import Ack, Bye, Call, Error, Message, Ping, Pong, Result, decode
from funker_runtime import replica as served

FUNCTIONS = ("add", "sub")
#: Seconds that callers wait for a router to appear: for ever, all calls are answered by one.
ROUTER_WAITS = st.sampled_from([0.0, 0.5, 3.0, float("inf")])


class World:
    def __init__(
        self,
        seed: int,
        *,
        trouble: float,
        deadline: float,
        hang: bool = True,
        router_wait: float = float("inf"),
    ) -> None:
        self.random = random.Random(seed)
        self.trouble = trouble
        self.deadline = deadline
        self.hang = hang
        # Seconds that callers wait for a router to appear.
        self.router_wait = router_wait
        self.now = 0.0
        self.schedule: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.epochs = itertools.count(1)
        self.births = itertools.count(1)
        self.routers: list[SimulatedRouter] = []
        self.replicas: list[SimulatedReplica] = []
        self.callers: list[SimulatedCaller] = []
        self.visitors: dict[bytes, Visitor] = {}
        self.started: Counter[str] = Counter()
        # The lives of routers that handed a call out, and the calls of the known hole.
        self.given: defaultdict[str, set[str]] = defaultdict(set)
        self.holes: set[str] = set()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.schedule, (self.now + seconds, next(self.order), then))

    def latency(self) -> float:
        return self.random.choice([0.0002, 0.001, 0.001, 0.02, 0.3 * self.trouble])

    def strikes(self, weight: float = 1.0) -> bool:
        return self.random.random() < self.trouble * weight

    def some(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def run(self, until: float) -> None:
        while self.schedule and self.schedule[0][0] <= until:
            self.now, _, then = heapq.heappop(self.schedule)
            then()
        self.now = until

    @property
    def settled(self) -> bool:
        return all(caller.settled for caller in self.callers)


class Wire:
    """One connection of a client to a router: two ordered streams."""

    def __init__(self, world: World, dealer: Dealer, router: SimulatedRouter) -> None:
        self.world, self.dealer, self.router = world, dealer, router
        self.broken = False
        self._arrival = {"up": 0.0, "down": 0.0}

    def send(self, way: str, message: Message) -> None:
        world = self.world
        if self.broken:
            return
        if world.strikes(0.02):
            self.break_off()
            return
        if world.strikes(0.02):  # frozen: nothing arrives for a while, either way
            thaw = world.now + world.some(0.3, 6)
            self._arrival = {way: max(at, thaw) for way, at in self._arrival.items()}
        at = self._arrival[way] = max(self._arrival[way], world.now + world.latency())
        world.after(at - world.now, lambda: self._arrive(way, message))

    def _arrive(self, way: str, message: Message) -> None:
        if self.broken:
            return
        if way == "up":
            self.router.hear(self, message)
        elif self.dealer.wire is self:
            self.dealer.receive(message)

    def break_off(self) -> None:
        """What is under way is lost. Each end notices soon, or by silence alone."""
        if self.broken:
            return
        self.broken = True
        world = self.world
        if not world.strikes(0.3):
            world.after(world.latency(), lambda: self.dealer.lost(self))
        wait = world.some(0, 8) if world.strikes(0.3) else world.latency()
        world.after(wait, lambda: self.router.lost(self))


class Dealer:
    """A client's socket: dials, and dials again when it notices that it is cut off.

    It keeps what is sent while there is no connection, unless it is `immediate`.
    """

    def __init__(
        self,
        world: World,
        peer: bytes,
        *,
        immediate: bool,
        connected: Callable[[], None],
        receive: Callable[[Message], None],
        disconnected: Callable[[], None] = lambda: None,
    ) -> None:
        self.world, self.peer = world, peer
        self.receive = receive
        self.wire: Wire | None = None
        self._immediate = immediate
        self._connected = connected
        self._disconnected = disconnected
        self._kept: list[Message] = []
        self._dials = 0
        self._closed = False
        self._dial()

    def send(self, message: Message) -> bool:
        if self.wire is not None:
            self.wire.send("up", message)
        elif self._immediate:
            return False
        else:
            self._kept.append(message)
        return True

    def redial(self) -> None:
        """What was sent but has not left is dropped."""
        wire, self.wire, self._kept = self.wire, None, []
        if wire is not None:
            wire.break_off()
        self._dial()

    def close(self, *, flushed: bool) -> None:
        self._closed = True
        wire, self.wire = self.wire, None
        if wire is None:
            return
        if flushed:
            wait = max(wire._arrival["up"] - self.world.now, 0) + 1e-6
            self.world.after(wait, wire.break_off)
        else:
            wire.break_off()

    def lost(self, wire: Wire) -> None:
        if self.wire is wire:
            self.wire = None
            self._disconnected()
            self._dial()

    def _dial(self) -> None:
        self._dials += 1
        self.world.after(self.world.some(0.001, 0.02), lambda dial=self._dials: self._reach(dial))

    def _reach(self, dial: int) -> None:
        if self._closed or dial != self._dials:
            return
        if not self.world.routers:
            self.world.after(self.world.some(0.05, 0.25), lambda: self._reach(dial))
            return
        router = self.world.random.choice(self.world.routers)
        wire = self.wire = Wire(self.world, self, router)
        router.attach(wire)
        kept, self._kept = self._kept, []
        for message in kept:
            wire.send("up", message)
        self._connected()


class SimulatedRouter:
    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = f"epoch-{next(world.epochs)}"
        self.machine = dispatch.Dispatch(epoch=self.epoch, now=world.now)
        self.alive = True
        self.wires: dict[bytes, Wire] = {}
        self._sleeps_until = 0.0
        self._wake_at = float("inf")
        world.routers.append(self)
        self._feed(tables.Tick())

    def attach(self, wire: Wire) -> None:
        self.wires[wire.dealer.peer] = wire

    def lost(self, wire: Wire) -> None:
        if self.wires.get(wire.dealer.peer) is wire:
            del self.wires[wire.dealer.peer]

    def hear(self, wire: Wire, message: Message) -> None:
        if not self.alive:
            return
        if self.world.now < self._sleeps_until:
            wait = self._sleeps_until - self.world.now
            self.world.after(wait, lambda: self.hear(wire, message))
            return
        peer = wire.dealer.peer
        self._feed(tables.Received(peer, message, cast(Sequence[bytes], (message,))))

    def sleep(self, seconds: float) -> None:
        self._sleeps_until = self.world.now + seconds

    def die(self) -> None:
        if self.alive:
            self.alive = False
            self.world.routers.remove(self)
            for wire in list(self.wires.values()):
                wire.break_off()

    def _feed(self, event: tables.Event) -> None:
        events = [event]
        for happened in events:
            events += [
                tables.Unreachable(action.peer, action.call)
                for action in self.machine.on(happened, self.world.now)
                if isinstance(action, tables.Send) and not self._send(action)
            ]
        if (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.world.after(max(due - self.world.now, 0), self._tick)

    def _tick(self) -> None:
        self._wake_at = float("inf")
        if not self.alive:
            return
        if self.world.now < self._sleeps_until:
            self._wake_at = self._sleeps_until
            self.world.after(self._sleeps_until - self.world.now, self._tick)
        else:
            self._feed(tables.Tick())

    def _send(self, action: tables.Send) -> bool:
        message = action.message
        if not isinstance(message, Message):
            # What passes through is as it came, a message here; what goes to a replica is encoded.
            message = decode(message) if isinstance(message[0], bytes) else message[0]
        wire = self.wires.get(action.peer)
        if wire is None:
            return False
        if action.call:
            self.world.given[action.call].add(self.epoch)
        wire.send("down", cast(Message, message))
        return True


class SimulatedReplica:
    def __init__(self, world: World, function: str) -> None:
        self.world, self.function = world, function
        self.alive = True
        number = next(world.births)
        identity = served.Identity(
            function, (function,), f"{function}.{number}", f"5e55{number:028x}"
        )
        self.machine = served.Replica(identity, timeout=2.0, max_body=100, now=world.now)
        self._wake_at = float("inf")
        self.dealer = Dealer(
            world,
            b"R%d" % number,
            immediate=True,
            connected=lambda: self.feed(served.Linked()),
            receive=lambda message: self.feed(served.Received(served.ROUTER, message)),
        )
        loaded: served.Event = served.Loaded()
        if world.strikes(0.1):
            loaded = served.LoadFailed("ImportError: no", "Traceback")
        world.after(world.some(0.02, 0.3), lambda: self.feed(loaded))
        if world.strikes(0.4):
            world.after(world.some(0, 5), lambda: self.feed(served.Terminate()))
        if world.strikes(0.15):
            world.after(world.some(0, 5), lambda: self._end(flushed=False))
        world.replicas.append(self)

    def feed(self, event: served.Event) -> None:
        if not self.alive:
            return
        for action in self.machine.on(event, self.world.now):
            if self.alive:
                self._do(action)
        if self.alive and (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.world.after(max(due - self.world.now, 0), self._tick)

    def _tick(self) -> None:
        self._wake_at = float("inf")
        self.feed(served.Tick())

    def _do(self, action: served.Action) -> None:
        match action:
            case served.Send(peer, message):
                if peer != served.ROUTER:
                    self.world.visitors[peer].hear(message)
                elif not self.dealer.send(message):
                    self.feed(served.Gone(peer))
            case served.Start(call):
                self._handle(call)
            case served.Kill():
                self.world.after(0.002, lambda: self.feed(served.Died("was killed", "")))
            case served.Relink():
                self.dealer.redial()
                self.feed(served.Gone(served.ROUTER))
            case served.Exit():
                self._end(flushed=True)

    def _handle(self, call: Call) -> None:
        world = self.world
        world.started[call.id] += 1
        assert call.function == self.function
        took = world.random.choice([0.001, 0.01, 0.3, 1.5])
        event: served.Event = served.Answered("text/plain", call.body or b"")
        if world.strikes(0.1):
            event = served.Died("exited with status 3", "")
        elif world.strikes(0.1):
            event = served.Raised("ValueError: no", "ValueError", "Traceback")
        elif world.hang and world.strikes(0.05):
            return
        world.after(took, lambda: self.feed(event))
        world.after(took + 0.003, lambda: self.feed(served.Died("exited with status 0", "said")))

    def _end(self, *, flushed: bool) -> None:
        if self.alive:
            self.alive = False
            self.dealer.close(flushed=flushed)
            world = self.world
            world.replicas.remove(self)
            world.after(world.some(0.02, 0.3), lambda: _bear(world, self.function))


def _bear(world: World, function: str) -> None:
    SimulatedReplica(world, function)


class Visitor:
    """Makes one direct call, to any replica, and may leave before its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.id = f"d1{number:030x}"
        self._peer = b"V%d" % number
        self._replica = world.random.choice(world.replicas) if world.replicas else None
        self._present = True
        world.visitors[self._peer] = self
        if self._replica is not None:
            self._say(Ping(number=1))
            if world.strikes(0.3):
                world.after(world.some(0, 1), self._leave)

    def hear(self, message: Message) -> None:
        if not self._present:
            return
        match message:
            case Pong(number=1, state="idle", function=function, session=life):
                self._say(Call(id=self.id, function=function, session=life, body=b"visit"))
            case Bye(session=life):
                self._say(Ack(id=life))
            case Result(id=id) | Error(id=str(id)):
                assert id == self.id
                self._say(Ack(id=id))

    def _say(self, message: Message) -> None:
        self._feed(served.Received(self._peer, message))

    def _leave(self) -> None:
        self._present = False
        self._feed(served.Gone(self._peer))

    def _feed(self, event: served.Event) -> None:
        replica = self._replica
        assert replica is not None
        self.world.after(self.world.latency(), lambda: replica.feed(event))


class SimulatedCaller:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.alive = True
        self.calls: dict[str, Call] = {}
        self.outcomes: defaultdict[str, list[Result | Error]] = defaultdict(list)
        self.late: list[str] = []
        self._deadlines: dict[str, float] = {}
        self._wake_at = float("inf")
        # The calls that were handed to a connection, and those that were given back without.
        self.told: set[str] = set()
        self.given_back: set[str] = set()
        self.machine = session.Session(world.now, wait_s=world.router_wait)
        self.dealer = Dealer(
            world,
            b"C%d" % number,
            immediate=False,
            connected=lambda: self.feed(session.Connected()),
            receive=self._receive,
            disconnected=lambda: self.feed(session.Disconnected()),
        )
        world.callers.append(self)

    @property
    def settled(self) -> bool:
        return not self.alive or all(id in self.outcomes for id in self.calls)

    def call(self, id: str, function: str, *, idempotent: bool) -> None:
        if not self.alive:
            return
        call = self.calls[id] = Call(
            id=id,
            function=function,
            deadline_ms=round(self.world.deadline * 1000),
            idempotent=idempotent,
            body=id.encode(),
        )
        self._deadlines[id] = self.world.now + self.world.deadline
        if self.world.strikes(0.1):
            wait = self.world.some(0, 2)
            self.world.after(wait, lambda: self.feed(session.CancelAsked(id)))
        self.feed(session.Submitted(call))

    def die(self) -> None:
        self.alive = False
        self.dealer.close(flushed=False)

    def feed(self, event: session.Event) -> None:
        if not self.alive:
            return
        for action in self.machine.on(event, self.world.now):
            self._do(action)
        if (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.world.after(max(due - self.world.now, 0), self._tick)

    def _tick(self) -> None:
        self._wake_at = float("inf")
        self.feed(session.Tick())

    def _receive(self, message: Message) -> None:
        self.feed(session.Heard(message))

    def _do(self, action: session.Action) -> None:
        match action:
            case session.Send(message):
                if isinstance(message, Call):
                    assert message.id not in self.outcomes
                    self.told.add(message.id)
                    if message.resend and not message.accepted_by:
                        self._note_hole(message.id)
                self.dealer.send(message)
            case session.Finish(id, outcome):
                self.outcomes[id].append(outcome)
                if id not in self.told and isinstance(outcome, Error):
                    assert outcome.retry_safe
                    if outcome.code == "router_unavailable":
                        self.given_back.add(id)
                if self.world.now > self._deadlines[id] + session.GRACE_S + 0.01:
                    self.late.append(id)
            case session.Reconnect():
                self.dealer.redial()

    def _note_hole(self, id: str) -> None:
        there = {self.dealer.wire.router.epoch} if self.dealer.wire else set()
        if self.world.given[id] - there:
            self.world.holes.add(id)


def play(
    seed: int,
    *,
    replicas: int,
    callers: int,
    number: int,
    trouble: float,
    deadline: float,
    routers: Callable[[World], None],
    until: float,
    hang: bool = True,
    router_wait: float = float("inf"),
) -> World:
    """A world with its calls, run until all is over."""
    world = World(seed, trouble=trouble, deadline=deadline, hang=hang, router_wait=router_wait)
    routers(world)
    for n in range(replicas):
        _bear(world, FUNCTIONS[n % len(FUNCTIONS)])
    for n in range(callers):
        SimulatedCaller(world, n)
        if world.strikes(0.1):
            world.after(world.some(0, 4), world.callers[-1].die)
    for n in range(number):
        caller = world.random.choice(world.callers)
        function = FUNCTIONS[world.random.randrange(min(replicas, len(FUNCTIONS)))]
        idempotent = world.random.random() < 0.3
        world.after(
            world.some(0, 3),
            lambda c=caller, n=n, f=function, i=idempotent: c.call(f"{n:032x}", f, idempotent=i),  # type: ignore[misc]
        )
    for n in range(world.random.choice([0, 3])):
        world.after(world.some(0, 4), lambda n=n: Visitor(world, n))  # type: ignore[misc]
    world.run(until=3)
    while not world.settled and world.now < until:
        world.run(until=world.now + 1)
    return world


def check(world: World) -> None:
    """What holds whatever has happened."""
    assert all(world.started[visitor.id] <= 1 for visitor in world.visitors.values())
    for caller in world.callers:
        assert not caller.late
        for id, call in caller.calls.items():
            outcomes, starts = caller.outcomes[id], world.started[id]
            assert call.idempotent or starts <= 1 or id in world.holes, (id, starts)
            assert len(outcomes) == (1 if caller.alive else len(outcomes)) <= 1, (id, outcomes)
            for outcome in outcomes:
                assert outcome.id == id
                if isinstance(outcome, Result):
                    assert outcome.body == id.encode()
                    assert starts >= 1
                elif outcome.retry_safe:
                    assert starts == 0, outcome


def check_nothing_is_left(world: World) -> None:
    """When all is quiet again, nothing is kept of any call but its memory."""
    world.trouble = 0.0
    while len(world.routers) > 1:
        world.routers[0].die()
    world.run(until=world.now + 45)
    (router,) = world.routers
    machine = router.machine
    assert not machine._ledger.open
    rows = machine._replicas
    assert rows.budget.used == 0
    assert not rows._orphans
    assert not [row.describe(world.now) for row in rows if row.calls or row.orphans]
    for replica in world.replicas:
        assert replica.machine.state in (served.State.IDLE, served.State.BOOT, served.State.FAILED)
    free = {peer for pool in rows.pools.values() for peer in pool.free}
    idle = [r for r in world.replicas if r.machine.state is served.State.IDLE]
    assert {replica.dealer.peer for replica in idle} <= free, "an idle replica is forgotten"


def troubled(world: World) -> None:
    """Routers that die, sleep, are two, and come back to be one."""
    SimulatedRouter(world)
    at = 0.0
    while world.strikes(0.6) and at < 8:
        at += world.some(0.2, 4)
        fate = world.random.choice(["killed", "joined", "asleep"])
        if fate == "asleep":
            seconds = world.some(0.5, 4)
            world.after(at, lambda s=seconds: world.routers and world.routers[0].sleep(s))  # type: ignore[misc]
        elif fate == "killed":
            down = world.some(0.05, 3)
            world.after(at, lambda: world.routers and world.routers[0].die())
            world.after(at + down, lambda: world.routers or SimulatedRouter(world))
        else:
            world.after(at, lambda: SimulatedRouter(world))
            end = world.some(0.5, 5)
            world.after(at + end, lambda: len(world.routers) > 1 and world.routers[0].die())
    world.after(at + 4, lambda: world.routers or SimulatedRouter(world))


def restarted(world: World) -> None:
    """One router that is killed and restarted, on a network that is sound otherwise."""
    SimulatedRouter(world)
    at = 0.0
    for _ in range(world.random.randrange(1, 4)):
        at += world.some(0.2, 5)
        down = world.random.choice([0.05, 1, 4, world.some(0, 10)])
        world.after(at, lambda: world.routers[0].die())
        at += down
        world.after(at, lambda: SimulatedRouter(world))


def away(world: World) -> None:
    """One router that is killed with calls waiting, running and answered; the next comes 30 s
    later."""
    SimulatedRouter(world)
    at = world.some(0.2, 3)
    world.after(at, lambda: world.routers[0].die())
    world.after(at + 30, lambda: SimulatedRouter(world))


def flaky(world: World) -> None:
    """One router, and connections that break again and again, noticed soon by both ends."""
    SimulatedRouter(world)
    for _ in range(world.random.randrange(1, 60)):
        world.after(world.some(0, 10), lambda: _break_one(world, b"RC"))


def split(world: World) -> None:
    """Two routers all the time, and callers that are thrown from one to the other."""
    SimulatedRouter(world)
    SimulatedRouter(world)
    for _ in range(world.random.randrange(1, 60)):
        world.after(world.some(0, 10), lambda: _break_one(world, b"C"))


def _break_one(world: World, kinds: bytes) -> None:
    wires = [wire for router in world.routers for wire in router.wires.values()]
    wires = [wire for wire in wires if wire.dealer.peer[:1] in kinds]
    if wires:
        world.random.choice(wires).break_off()


def check_all_answered(world: World) -> None:
    """Every call has an answer, or was given back in time to be made another way."""
    for caller in world.callers:
        for id in caller.calls:
            if id in caller.given_back:
                assert world.started[id] == 0
                continue
            assert isinstance(caller.outcomes[id][0], Result), caller.outcomes[id]
            assert world.started[id] == 1


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
    trouble=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
@settings(max_examples=250, deadline=None)
def test_each_call_has_one_outcome_and_runs_at_most_once_whatever_happens(
    seed: int, replicas: int, callers: int, number: int, trouble: float, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=trouble,
        deadline=8.0,
        routers=troubled,
        until=15,
    )
    check(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=100, deadline=None)
def test_callers_between_two_routers_run_no_call_twice(
    seed: int, replicas: int, callers: int, number: int, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=20.0,
        routers=split,
        until=30,
    )
    check(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=100, deadline=None)
def test_connections_that_break_cost_callers_nothing_but_time(
    seed: int, replicas: int, callers: int, number: int, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=120.0,
        routers=flaky,
        until=150,
    )
    check(world)
    check_all_answered(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=100, deadline=None)
def test_a_router_that_dies_for_seconds_costs_callers_nothing_but_time(
    seed: int, replicas: int, callers: int, number: int, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=120.0,
        routers=restarted,
        until=150,
    )
    check(world)
    check_all_answered(world)
    check_nothing_is_left(world)


@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(2, 5),
    callers=st.integers(1, 4),
    number=st.integers(1, 16),
    router_wait=ROUTER_WAITS,
)
@settings(max_examples=50, deadline=None)
def test_half_a_minute_without_a_router_costs_callers_nothing_but_time(
    seed: int, replicas: int, callers: int, number: int, router_wait: float
) -> None:
    world = play(
        seed,
        replicas=replicas,
        callers=callers,
        number=number,
        router_wait=router_wait,
        trouble=0.0,
        deadline=120.0,
        routers=away,
        until=150,
    )
    check(world)
    check_all_answered(world)
    check_nothing_is_left(world)
