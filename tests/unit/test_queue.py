"""What waits for a replica: in order, within its bounds, and each operation at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.controller.queue import Budget, Queue, QueueFullError

MIB = 1 << 20


def a_queue(*ids: str, limit: int = 10, bytes: int = 10 * MIB) -> Queue[str]:
    queue: Queue[str] = Queue(limit=limit, budget=Budget(bytes))
    for id in ids:
        queue.push(id, id.upper(), 1)
    return queue


def drained(queue: Queue[str]) -> list[str]:
    return list(iter(queue.pop, None))


def test_who_came_first_goes_first() -> None:
    assert drained(a_queue("a", "b", "c")) == ["A", "B", "C"]


def test_an_empty_queue_has_nothing() -> None:
    queue = a_queue()
    assert queue.pop() is None
    assert len(queue) == queue.size == 0


def test_what_goes_back_goes_to_the_head() -> None:
    queue = a_queue("a", "b")
    queue.push_front("c", "C", 1)
    assert drained(queue) == ["C", "A", "B"]


def test_one_is_taken_out_wherever_it_stands() -> None:
    queue = a_queue("a", "b", "c")
    assert queue.remove("b")
    assert not queue.remove("b")
    assert "b" not in queue
    assert "c" in queue
    assert drained(queue) == ["A", "C"]


def test_the_number_is_bounded_and_the_error_tells_it() -> None:
    queue = a_queue("a", "b", limit=2)
    with pytest.raises(QueueFullError, match="2 calls are waiting, the limit"):
        queue.push("c", "C", 1)
    queue.pop()
    queue.push("c", "C", 1)
    assert drained(queue) == ["B", "C"]


def test_the_bytes_of_all_queues_together_are_bounded() -> None:
    budget = Budget(3 * MIB)
    one: Queue[str] = Queue(limit=10, budget=budget)
    two: Queue[str] = Queue(limit=10, budget=budget)
    one.push("a", "A", 2 * MIB)
    with pytest.raises(QueueFullError, match="would have 2 MiB, and 1 MiB are left of 3 MiB"):
        two.push("b", "B", 2 * MIB)
    assert len(two) == 0
    one.remove("a")
    two.push("b", "B", 3 * MIB)
    assert (one.size, two.size, budget.used) == (0, 3 * MIB, 3 * MIB)


def test_one_queue_alone_leaves_room_for_others() -> None:
    budget = Budget(8 * MIB)
    hog: Queue[int] = Queue(limit=100, budget=budget)
    for n in range(4):
        hog.push(str(n), n, MIB)
    with pytest.raises(QueueFullError, match="would have 5 MiB, and 4 MiB are left of 8 MiB"):
        hog.push("e", 5, MIB)
    assert hog.size == 4 * MIB
    for n in range(10):  # each takes what is left for it, and there is something for the next
        other: Queue[int] = Queue(limit=100, budget=budget)
        other.push("a", n, (budget.limit - budget.used) // 2)
        assert budget.used < budget.limit


def test_one_item_may_have_all_bytes_if_none_are_used() -> None:
    queue = a_queue(bytes=MIB)
    queue.push("a", "A", MIB)
    assert queue.first() == "A"


def test_what_has_waited_before_is_taken_back_whatever_the_bounds() -> None:
    queue = a_queue("a", limit=1, bytes=1)
    queue.push_front("b", "B", 5)
    queue.push_back("c", "C", 5)
    assert queue.size == 11
    assert drained(queue) == ["B", "A", "C"]
    assert queue.size == 0


@given(st.lists(st.tuples(st.sampled_from(["push", "front", "pop", "remove"]), st.integers(0, 9))))
def test_its_bytes_are_always_those_of_what_waits(steps: list[tuple[str, int]]) -> None:
    budget = Budget(1 << 30)
    queue: Queue[int] = Queue(limit=100, budget=budget)
    model: list[int] = []
    for n, (step, size) in enumerate(steps):
        match step:
            case "push":
                queue.push(str(n), n, size)
                model.append(n)
            case "front":
                queue.push_front(str(n), n, size)
                model.insert(0, n)
            case "pop":
                assert queue.pop() == (model.pop(0) if model else None)
            case _:
                assert queue.remove(str(size)) == (size in model)
                model = [m for m in model if m != size]
        assert queue.size == budget.used == sum(steps[m][1] for m in model)
        assert len(queue) == len(model)
