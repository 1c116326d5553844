"""A world of callers, routers, replicas and a reconciler, for simulations: nothing in it is real.

Their state machines are the real ones; the network, the handlers, the engine and the clock are
simulated, from one seed. What the world does to them is in the tests that use it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from funker.backends.base import Observed as Function
from funker.controller import dispatch, tables
from funker.controller.commands import Command, Scale
from funker.controller.plan import Plan
from funker.controller.retries import LOST_TRIES, delay
from funker.controller.snapshot import Observed
from funker.rpc import session
from funker.rpc.messages import Ack, Bye, Call, Error, Message, Ping, Pong, Result, decode
from funker.spec import CallPolicy, ScalePolicy
from funker_runtime import events as served
from funker_runtime.replica import State
from tests.unit.simulated import SimulatedMachine, Time

FUNCTIONS = ("add", "sub")
#: Errors of a handler, which may be tried again.
FAILURES = ("function_error", "function_crashed", "function_timeout")


class World(Time):
    def __init__(
        self,
        seed: int,
        *,
        trouble: float,
        deadline: float,
        hang: bool = True,
        router_wait: float = float("inf"),
        rules: Mapping[str, tables.Rules] | None = None,
        failures: float | None = None,
    ) -> None:
        super().__init__(seed, trouble=trouble)
        # What may be done with functions' calls, and how likely a handler fails.
        self.rules = rules or {}
        self.failures = 0.1 * trouble if failures is None else failures
        # Replicas that shall run, and those places of theirs that somebody has or will have.
        self.wanted: Counter[str] = Counter()
        self.places: defaultdict[str, set[int]] = defaultdict(set)
        self.reconciler: SimulatedReconciler | None = None
        # Routers that ever were; calls of a function that came through one and run, and that ever
        # did at once.
        self.lives = 0
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.deadline = deadline
        self.hang = hang
        # Seconds that callers wait for a router to appear.
        self.router_wait = router_wait
        self.epochs = itertools.count(1)
        self.births = itertools.count(1)
        self.routers: list[SimulatedRouter] = []
        self.replicas: list[SimulatedReplica] = []
        self.callers: list[SimulatedCaller] = []
        self.visitors: dict[bytes, Visitor] = {}
        self.visits: set[str] = set()
        self.started: Counter[str] = Counter()
        # The lives of routers that handed a call out, and the calls of the known hole.
        self.given: defaultdict[str, set[str]] = defaultdict(set)
        self.holes: set[str] = set()

    def latency(self) -> float:
        return self.random.choice([0.0002, 0.001, 0.001, 0.02, 0.3 * self.trouble])

    def some(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def has_rules(self, call: Call) -> tables.Rules:
        rules = self.rules.get(call.function, tables.Rules())
        return rules._replace(idempotent=rules.idempotent or call.idempotent)

    def scale(self, function: str, replicas: int) -> None:
        """Have so many replicas run: the engine starts some, or ends those of the last places."""
        self.wanted[function] = replicas
        places = self.places[function]
        while len(places) < replicas:
            place = next(n for n in itertools.count(1) if n not in places)
            places.add(place)
            self.after(self.some(0.02, 0.3), lambda p=place: self.bear(function, p))  # type: ignore[misc]
        for place in sorted(places, reverse=True)[: len(places) - replicas]:
            places.remove(place)
            for replica in self.replicas:
                if (replica.function, replica.place) == (function, place):
                    self.after(self.latency(), lambda r=replica: r.feed(served.Terminate()))  # type: ignore[misc]

    def bear(self, function: str, place: int) -> None:
        there = {r.place for r in self.replicas if r.function == function}
        if place in self.places[function] and place not in there:
            SimulatedReplica(self, function, place)

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
        # What is to be sent, and the tries that it would be too early for.
        self._outbox: list[tables.Send] = []
        self._not_before: dict[str, float] = {}
        self._observed = Observed()
        self._demand_at = 0.0
        self._sleeps_until = 0.0
        self._wake_at = float("inf")
        world.routers.append(self)
        world.lives += 1
        if world.rules and world.reconciler is None:
            told = tables.Catalogue(dict.fromkeys(FUNCTIONS, ()), rules=world.rules)
            wait = 0.0 if world.lives == 1 else world.some(0, 1)
            world.after(wait, lambda: self._feed(told))
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
        if isinstance(message, Error) and message.code in FAILURES and message.id is not None:
            self._note_backoff(message.id)

    def told(self, body: bytes) -> dict[str, Any] | None:
        """A snapshot, and the status that it is answered with."""
        if not self.alive or self.world.now < self._sleeps_until:
            return None
        self._feed(self._observed.learn(body, self.world.now))
        functions = self.machine.status(self.world.now)
        for name, about in self._observed.functions.items():
            functions[name] |= about
        return {"epoch": self.epoch, "functions": functions}

    def sleep(self, seconds: float) -> None:
        self._sleeps_until = self.world.now + seconds

    def die(self) -> None:
        if self.alive:
            self.alive = False
            self.world.routers.remove(self)
            for wire in list(self.wires.values()):
                wire.break_off()

    def _feed(self, event: tables.Event) -> None:
        """What follows is sent a moment later, after whatever else arrives until then."""
        if not self.alive:
            return
        was_empty = not self._outbox
        self._happened(event)
        if self._outbox and was_empty:
            self.world.after(self.world.random.choice([0, 0, 0.0003, 0.002]), self._flush)
        if self.machine.is_demanding:
            self.world.after(max(0.0, self._demand_at - self.world.now), self._tell_demand)
        if (due := self.machine.wakeup()) < self._wake_at:
            self._wake_at = due
            self.world.after(max(due - self.world.now, 0), self._tick)

    def _happened(self, event: tables.Event) -> None:
        for action in self.machine.on(event, self.world.now):
            if isinstance(action, tables.Send):
                self._outbox.append(action)

    def _flush(self) -> None:
        """What can't be sent is known when all the rest has been."""
        while self.alive and self._outbox:
            outbox, self._outbox = self._outbox, []
            for action in [action for action in outbox if not self._send(action)]:
                self._happened(tables.Unreachable(action.peer, action.call))

    def _tell_demand(self) -> None:
        if self.alive and self.machine.is_demanding and self.world.now >= self._demand_at:
            self._demand_at = self.world.now + 0.1
            about = self.machine.demanding(self.world.now)
            if (reconciler := self.world.reconciler) is not None and not self.world.strikes(0.3):
                self.world.after(self.world.latency(), lambda: reconciler.demanded(about))

    def _note_backoff(self, id: str) -> None:
        """An error was followed by another try: it isn't due before its backoff is over."""
        call = self.machine._ledger.open.get(id)
        if call is not None and call.phase is tables.Phase.RETRYING:
            rules = self.world.rules[call.function]
            wait = delay(id, call.attempt - 1, rules.backoff)
            self._not_before.setdefault(f"{id}.{call.attempt}", self.world.now + wait)

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
            assert isinstance(message, Call)
            due = self._not_before.get(f"{message.id}.{message.attempt}", 0.0)
            assert self.world.now >= due - 1e-6, "tried again too early"
        wire.send("down", cast(Message, message))
        return True


class SimulatedReplica(SimulatedMachine):
    def __init__(self, world: World, function: str, place: int) -> None:
        number = next(world.births)
        name = f"{function}.{place}.{number}"
        super().__init__(world, served.Identity(function, (function,), name, f"5e55{number:028x}"))
        self.world, self.function, self.place = world, function, place
        # Calls that came through a router, by slot.
        self._running = Counter[int]()
        self.dealer = Dealer(
            world,
            b"R%d" % number,
            immediate=True,
            connected=lambda: self.feed(served.Linked()),
            receive=lambda message: self.feed(served.Received(served.ROUTER, message)),
        )
        if world.strikes(0.1):
            failed = served.LoadFailed("ImportError: no", "Traceback")
            world.after(world.some(0.02, 0.3), lambda: self.feed(failed))
        else:
            for slot in range(self._slots or 1):
                world.after(world.some(0.02, 0.3), lambda slot=slot: self.load(slot))  # type: ignore[misc]
        if self._slots and world.strikes(0.2):
            world.after(world.some(0, 5), lambda: self.feed(served.Barren("is dead", "")))
        if world.strikes(0.4):
            world.after(world.some(0, 5), lambda: self.feed(served.Terminate()))
        if world.strikes(0.15):
            world.after(world.some(0, 5), lambda: self._end(flushed=False))
        world.replicas.append(self)

    def _send(self, peer: bytes, message: Message) -> bool:
        if peer == served.ROUTER:
            return self.dealer.send(message)
        self.world.visitors[peer].hear(message)
        return True

    def _relink(self) -> None:
        self.dealer.redial()
        self.feed(served.Gone(served.ROUTER))

    def _over(self, slot: int) -> None:
        self._count(slot, -1)

    def _count(self, slot: int, change: int) -> None:
        """A call that came through a router runs in this slot (1), or no call does any more."""
        running = self._running[slot]
        self._running[slot] = max(0, running + change)
        self.world.running[self.function] += self._running[slot] - running

    def _handle(self, call: Call, slot: int) -> None:
        world = self.world
        world.started[call.id] += 1
        assert call.function == self.function
        if call.id not in world.visits:
            self._count(slot, 1)
        most = max(world.most[self.function], world.running[self.function])
        world.most[self.function] = most
        took = world.random.choice([0.001, 0.01, 0.3, 1.5])
        event: served.Answered | served.Raised | served.Died
        event = served.Answered("text/plain", call.body or b"", slot)
        if world.random.random() < world.failures:
            event = served.Died("exited with status 3", "", slot)
        elif world.random.random() < world.failures:
            event = served.Raised("ValueError: no", "ValueError", "Traceback", slot)
        elif world.hang and world.strikes(0.05):
            return
        self.later(took, event)
        self.later(took + 0.003, served.Died("exited with status 0", "said", slot))

    def _end(self, *, flushed: bool) -> None:
        if self.alive:
            self.alive = False
            self.dealer.close(flushed=flushed)
            world = self.world
            world.replicas.remove(self)
            world.running[self.function] -= self._running.total()
            world.after(world.some(0.02, 0.3), lambda: world.bear(self.function, self.place))


class SimulatedReconciler:
    """Looks at the replicas, tells a router of them, and does what its plan says."""

    def __init__(self, world: World, policies: Mapping[str, ScalePolicy]) -> None:
        self.world, self.policies = world, policies
        self.plan = Plan()
        world.reconciler = self
        self.look()

    def look(self) -> None:
        world = self.world
        self._ask(self.plan.see([self._observed(name) for name in FUNCTIONS], world.now))
        world.after(0.5 if self.plan.is_short or not world.routers else 2.0, self.look)

    def demanded(self, about: Mapping[str, Mapping[str, Any]]) -> None:
        if self._obey(self.plan.demanded(about, self.world.now)):
            self._report()

    def _observed(self, function: str) -> Function:
        world = self.world
        rules = world.rules.get(function, tables.Rules())
        return Function(
            name=function,
            wanted=world.wanted[function],
            running=sum(replica.function == function for replica in world.replicas),
            scale=self.policies.get(function),
            calls=CallPolicy(**rules._asdict()),
        )

    def _ask(self, commands: Sequence[Command]) -> None:
        if self._obey([*commands, *self.plan.hear(self._report(), self.world.now)]):
            self._report()

    def _report(self) -> dict[str, Any] | None:
        world = self.world
        if not world.routers or world.strikes(0.1):
            return None
        return world.random.choice(world.routers).told(self.plan.snapshot(world.now, world.now))

    def _obey(self, commands: Sequence[Command]) -> bool:
        scaled = False
        for command in commands:
            if isinstance(command, Scale) and self.world.strikes(0.1):
                self.plan.not_scaled(command.name, "the engine is away", self.world.now)
            elif isinstance(command, Scale):
                self.world.scale(command.name, command.replicas)
                self.plan.scaled(command.name, command.replicas, self.world.now)
                scaled = True
        return scaled


class Visitor:
    """Makes one direct call, to any replica, and may leave before its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.id = f"d1{number:030x}"
        world.visits.add(self.id)
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
    rules: Mapping[str, tables.Rules] | None = None,
    failures: float | None = None,
    policies: Mapping[str, ScalePolicy] | None = None,
    over: float = 3.0,
) -> World:
    """A world with its calls, made in the first `over` seconds, run until all is over.

    With `policies` the number of replicas is the reconciler's to choose, from `replicas` on.
    """
    world = World(
        seed,
        trouble=trouble,
        deadline=deadline,
        hang=hang,
        router_wait=router_wait,
        rules=rules,
        failures=failures,
    )
    routers(world)
    for n, function in enumerate(FUNCTIONS):
        world.scale(function, len(range(n, replicas, len(FUNCTIONS))))
    if policies is not None:
        SimulatedReconciler(world, policies)
    for n in range(callers):
        SimulatedCaller(world, n)
        if world.strikes(0.1):
            world.after(world.some(0, 4), world.callers[-1].die)
    for n in range(number):
        caller = world.random.choice(world.callers)
        served_ones = len(FUNCTIONS) if policies else min(replicas, len(FUNCTIONS))
        function = FUNCTIONS[world.random.randrange(served_ones)]
        idempotent = world.random.random() < 0.3
        world.after(
            world.some(0, over),
            lambda c=caller, n=n, f=function, i=idempotent: c.call(f"{n:032x}", f, idempotent=i),  # type: ignore[misc]
        )
    for n in range(world.random.choice([0, 3])):
        world.after(world.some(0, 4), lambda n=n: Visitor(world, n))  # type: ignore[misc]
    world.run(until=over)
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
            rules = world.has_rules(call)
            assert rules.idempotent or starts <= 1 or id in world.holes, (id, starts)
            tries = max(1 + rules.retries, LOST_TRIES)
            assert starts <= tries * world.lives, "tried again and again"
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
    # A pool that is just being made smaller isn't quiet: those that leave have a moment to do so.
    gone_by = world.now + 5
    while world.now < gone_by and any(r.machine.state is State.LEAVING for r in world.replicas):
        world.run(until=world.now + 0.5)
    (router,) = world.routers
    machine = router.machine
    assert not machine._ledger.open
    rows = machine._replicas
    assert rows.budget.used == 0
    assert not rows._orphans
    assert all(pool.inflight == 0 for pool in rows.pools.values())
    assert not [row.describe(world.now) for row in rows if row.calls or row.orphans]
    for replica in world.replicas:
        assert replica.machine.state in (State.IDLE, State.BOOT, State.FAILED)
    free = {peer for pool in rows.pools.values() for peer in pool.free}
    idle = [r for r in world.replicas if r.machine.state is State.IDLE]
    assert {replica.dealer.peer for replica in idle} <= free, "an idle replica is forgotten"
    for replica in idle:
        places = sum(slot.is_free for slot in replica.machine._slots)
        assert rows.row(replica.dealer.peer).free == places, "a free place is forgotten"
