"""A campaign: a schedule of faults under a steady load, and the judgement of its ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from funker.rpc.errors import FunkerError
from funker.spec import CallPolicy, ScalePolicy
from tests.faults import schedule
from tests.faults.checker import Verdict, check
from tests.faults.ground import PATIENCE, RECONCILER, ROUTER, Ground
from tests.faults.ledger import Injected
from tests.faults.schedule import Fault, Target

#: Of all calls, those that a campaign's faults may cost.
HARM = 0.005


class Campaign:
    """Faults of one seed, on one ground."""

    def __init__(
        self, ground: Ground, seed: int, seconds: float, say: Callable[[str], None]
    ) -> None:
        self._ground = ground
        self._seed = seed
        self._seconds = seconds
        self._say = say
        most = ground.replicas
        once = Target(f"once-{seed}", idempotent=False, replicas=most)
        again = Target(f"again-{seed}", idempotent=True, replicas=most)
        auto = Target(f"auto-{seed}", idempotent=False, replicas=most, scaled=True)
        pool = Target(f"pool-{seed}", idempotent=False, replicas=2, slots=2)
        self._targets = [once, again, auto, pool]
        self._specs: dict[str, dict[str, Any]] = {
            once.name: {"replicas": most},
            again.name: {"replicas": most, "calls": CallPolicy(idempotent=True, retries=5)},
            auto.name: {"scale": ScalePolicy(min=1, max=most)},
            pool.name: {"replicas": 2, "isolation": "process", "slots": 2},
        }
        self._generation = 0
        self._began = 0.0
        self.injected: list[Injected] = []

    def run(self) -> Verdict:
        """All of it; removes its functions."""
        ground = self._ground
        harm = round(ground.rate * self._seconds * HARM)
        faults = schedule.schedule(
            self._seed, self._seconds, self._targets, kinds=ground.kinds, harm=harm
        )
        self._say(f"seed {self._seed}: {len(faults)} faults in {self._seconds:g} s")
        try:
            for target in self._targets:
                ground.deploy(target.name, **self._specs[target.name])
            ground.wipe()
            names = [(target.name, target.idempotent) for target in self._targets]
            ground.call(ground.order(names, seconds=self._seconds, seed=self._seed))
            ground.until_written("made", 1)
            self._inject(faults)
            ground.until_over(self._seconds - self._now() + PATIENCE)
            self._until_calm()
        finally:
            with ThreadPoolExecutor() as threads:
                list(threads.map(self._remove, self._targets))
        return check(ground.ledger(), self.injected)

    def _inject(self, faults: tuple[Fault, ...]) -> None:
        self._began = time.monotonic()
        # What takes long, like a deploy, goes on beside the next faults: one for each function.
        changes: dict[str, Future[None]] = {}
        with ThreadPoolExecutor() as threads:
            for fault in faults:
                time.sleep(max(0.0, fault.at - self._now()))
                if fault.kind in (schedule.REDEPLOY, schedule.SCALE):
                    with contextlib.suppress(KeyError):
                        changes.pop(fault.target).result()
                    changes[fault.target] = threads.submit(self._change, fault)
                else:
                    self._break(fault)
            for change in changes.values():
                change.result()

    def _break(self, fault: Fault) -> None:
        ground = self._ground
        replica = ""
        with self._written_down(fault) as note:
            match fault.kind:
                case "front":
                    victim = ground.kill(lambda: ground.front(fault.target, fault.pick))
                    replica = victim.variables.get("FUNKER_REPLICA", "")
                case "worker":
                    victim = ground.kill(lambda: ground.worker(fault.target, fault.pick))
                    replica = victim.variables.get("FUNKER_REPLICA", "")
                case "router":
                    ground.kill_module(ROUTER)
                case "reconciler":
                    ground.kill_module(RECONCILER)
                case schedule.OUTAGE:
                    ground.hold_down(fault.amount, ROUTER)
                case schedule.ENGINE:
                    ground.stop_engine(fault.amount)
            note["replica"] = replica
            note["calls"] = {it.name: it.slots for it in self._targets}.get(fault.target, 1)

    def _change(self, fault: Fault) -> None:
        with self._written_down(fault) as note:
            try:
                if fault.kind == schedule.SCALE:
                    self._ground.backend.scale(fault.target, int(fault.amount))
                else:
                    self._generation += 1
                    spec = dict(self._specs[fault.target])
                    if "replicas" in spec:
                        spec["replicas"] = self._ground.backend.find(fault.target).wanted
                    self._ground.deploy(fault.target, generation=self._generation, **spec)
            except FunkerError as error:
                note["failed"] = f"{type(error).__name__}: {error.message}"

    @contextlib.contextmanager
    def _written_down(self, fault: Fault) -> Iterator[dict[str, Any]]:
        began, note = time.time(), dict[str, Any]()
        told = f"{fault.kind} {fault.target}".strip() + (f" {fault.amount:g}" * bool(fault.amount))
        yield note
        injected = Injected(
            kind=fault.kind, target=fault.target, began=began, ended=time.time(), **note
        )
        self.injected.append(injected)
        more = " ".join(filter(None, [injected.replica, injected.failed]))
        self._say(f"{self._now():7.2f} s: {told} {more}".rstrip())

    def _until_calm(self) -> None:
        """After all that, each function has its replicas again, and no call is left anywhere."""
        for target in self._targets:
            self._ground.until_calm(target.name)

    def _remove(self, target: Target) -> None:
        if target.name in {function.name for function in self._ground.backend.functions()}:
            self._ground.backend.remove(target.name)

    def _now(self) -> float:
        return time.monotonic() - self._began
