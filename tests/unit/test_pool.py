"""Which replicas of a local function are started and stopped."""

from __future__ import annotations

import itertools
import random

import pytest

from funker.backends.local.pool import BACKOFF_MAX_S, PATIENCE, STEADY_S, Pool, Start, Stop


class Machine:
    """Does what the pool asks for, and nothing happens by itself."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.now = 100.0
        self.ids = (str(number) for number in itertools.count(1))

    def work(self) -> list[Start | Stop]:
        done: list[Start | Stop] = []
        while plan := self.pool.plan(self.now):
            done += plan
            for step in plan:
                match step:
                    case Start():
                        self.pool.started(next(self.ids), step)
                    case Stop(id):
                        self.pool.stopping(id)
        return done

    def up(self, revision: str, replicas: int) -> None:
        self.pool.want(revision, replicas)
        self.work()
        self.ready()

    def ready(self) -> None:
        for replica in list(self.pool.replicas.values()):
            if replica.state == "starting":
                self.pool.ready(replica.id, self.now)
        self.work()

    def exit(self, id: str, how: str = "") -> list[Start | Stop]:
        self.pool.exited(id, how, self.now)
        return self.work()

    def alive(self) -> dict[int, str]:
        alive = [r for r in self.pool.replicas.values() if r.state != "stopping"]
        assert len({(r.slot, r.revision) for r in alive}) == len(alive)
        return {r.slot: r.revision for r in alive}


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_every_slot_gets_one_replica(machine: Machine) -> None:
    machine.pool.want("a", 3)
    assert machine.work() == [Start(1, "a"), Start(2, "a"), Start(3, "a")]


def test_one_that_has_answered_is_replaced_at_once(machine: Machine) -> None:
    machine.up("a", 2)
    assert machine.exit("2") == [Start(2, "a")]


def test_scaling_down_stops_the_highest_slots(machine: Machine) -> None:
    machine.up("a", 3)
    machine.pool.want("a", 1)
    assert machine.work() == [Stop("2"), Stop("3")]
    assert machine.exit("2") == []


def test_a_removed_function_has_no_replicas(machine: Machine) -> None:
    machine.up("a", 2)
    machine.pool.want("", 0)
    assert machine.work() == [Stop("1"), Stop("2")]


def test_an_older_replica_is_stopped_when_its_slots_new_one_is_ready(machine: Machine) -> None:
    machine.up("a", 2)
    machine.pool.want("b", 2)
    assert machine.work() == [Start(1, "b"), Start(2, "b")]
    machine.pool.ready("4", machine.now)
    assert machine.work() == [Stop("2")]
    assert machine.pool.settled == {2}


def test_what_works_is_kept_up_while_its_update_is_broken(machine: Machine) -> None:
    machine.up("a", 1)
    machine.pool.want("b", 1)
    machine.work()
    machine.pool.failed("2", "ImportError", "")
    assert machine.exit("1") == [Start(1, "a")]
    assert machine.pool.failure is not None
    machine.pool.want("a", 1)
    assert machine.work() == [Stop("2")]
    assert machine.pool.failure is None


def test_an_update_of_what_never_worked_doesnt_bring_it_back(machine: Machine) -> None:
    machine.pool.want("a", 1)
    machine.work()
    machine.pool.failed("1", "ImportError", "")
    machine.pool.want("b", 1)
    assert machine.work() == [Stop("1"), Start(1, "b")]


def test_what_is_never_ready_is_started_later_and_later(machine: Machine) -> None:
    machine.pool.want("a", 1)
    machine.work()
    waits = []
    for number in range(1, 12):
        started = machine.exit(str(number), "exited with status 1")
        waits.append(0.0 if started else machine.pool.wakeup(machine.now) - machine.now)
        machine.now += waits[-1]
        machine.work()
    assert waits[:4] == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert waits[-1] == BACKOFF_MAX_S


def test_one_that_is_ready_resets_the_wait(machine: Machine) -> None:
    machine.pool.want("a", 1)
    machine.work()
    for number in range(1, 4):
        machine.exit(str(number), "exited with status 1")
        machine.now += BACKOFF_MAX_S
        machine.work()
    machine.ready()
    assert machine.exit("4") == [Start(1, "a")]
    assert machine.exit("5", "exited with status 1") == [Start(1, "a")]


def test_several_that_die_early_are_a_failure(machine: Machine) -> None:
    machine.pool.want("a", 1)
    machine.work()
    for number in range(1, PATIENCE + 1):
        assert machine.pool.failure is None
        machine.exit(str(number), "was killed by SIGSEGV")
        machine.now += BACKOFF_MAX_S
        machine.work()
    assert machine.pool.failure is not None
    assert machine.pool.failure.message == "its process was killed by SIGSEGV"


def test_one_that_dies_as_soon_as_it_is_ready_counts_as_never_ready(machine: Machine) -> None:
    machine.up("a", 1)
    for number in range(1, 4):
        machine.exit(str(number), "exited with status 1")
        machine.now += BACKOFF_MAX_S
        machine.work()
        machine.ready()
    machine.now += STEADY_S
    assert machine.exit("4", "was killed by SIGKILL") == [Start(1, "a")]


def test_what_has_failed_is_tried_at_once_if_it_is_asked_for(machine: Machine) -> None:
    machine.pool.want("a", 1)
    machine.work()
    machine.pool.failed("1", "ImportError", "")
    assert machine.work() == []
    machine.pool.retry()
    assert machine.work() == [Stop("1"), Start(1, "a")]
    assert machine.pool.failure is None


def test_whatever_happens_the_pool_comes_to_what_is_wanted() -> None:
    chance = random.Random(7)
    for _ in range(200):
        machine = Machine()
        for _ in range(60):
            alive = list(machine.pool.replicas.values())
            match chance.randrange(5):
                case 0:
                    machine.pool.want(chance.choice("abc"), chance.randrange(4))
                case 1 if alive:
                    machine.pool.exited(
                        chance.choice(alive).id, chance.choice(["", "died"]), machine.now
                    )
                case 2 if alive:
                    machine.pool.ready(chance.choice(alive).id, machine.now)
                case 3 if alive:
                    machine.pool.failed(chance.choice(alive).id, "ImportError", "")
                case _:
                    machine.now += chance.random()
            machine.work()
            machine.alive()
        for _ in range(4):
            machine.now += BACKOFF_MAX_S
            machine.work()
            for replica in list(machine.pool.replicas.values()):
                if replica.state in ("stopping", "failed"):
                    machine.pool.exited(replica.id, "", machine.now)
            machine.work()
            machine.ready()
        target, wanted = machine.pool.target, machine.pool.wanted
        assert machine.alive() == dict.fromkeys(range(1, wanted + 1), target)
        assert machine.pool.settled == set(range(1, wanted + 1))
