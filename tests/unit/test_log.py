"""What became of calls: bounded, newest first, with the output that arrives behind."""

from __future__ import annotations

from typing import Any

from funker.controller.log import OUTPUT, CallLog
from funker.controller.tables import Record


def a_record(id: str, function: str = "add", outcome: str = "ok", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "id": id,
        "function": function,
        "outcome": outcome,
        "replica": "add.1",
        "at": 0.0,
        "queue_ms": 1,
        "start_ms": 2,
        "run_ms": 3,
        "attempt": 1,
        "output_tail": "",
        "message": "",
    }
    return Record(**values | fields)


def a_log(*records: Record, calls: int = 10) -> CallLog:
    log = CallLog(calls)
    for at, record in enumerate(records):
        log.add(record, at=float(at))
    return log


def ids(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["id"] for entry in entries]


def test_a_call_is_found_by_its_id_with_its_times_and_the_wall_clocks_time() -> None:
    log = CallLog()
    log.add(a_record("a", message="no", outcome="function_error"), at=1234.56789)
    assert log.find("a") == {
        "id": "a",
        "function": "add",
        "outcome": "function_error",
        "replica": "add.1",
        "at": 1234.568,
        "queue_ms": 1,
        "start_ms": 2,
        "run_ms": 3,
        "attempt": 1,
        "message": "no",
        "output": "",
    }
    assert log.find("b") is None


def test_the_last_calls_come_newest_first() -> None:
    log = a_log(a_record("a"), a_record("b", "sub"), a_record("c"))
    assert ids(log.last("add")) == ["c", "a"]
    assert ids(log.last()) == ["c", "b", "a"]
    assert ids(log.last(limit=2)) == ["c", "b"]
    assert log.last("mul") == []


def test_of_each_function_only_the_last_calls_are_kept() -> None:
    log = a_log(*(a_record(str(n)) for n in range(5)), a_record("x", "sub"), calls=2)
    assert ids(log.last("add")) == ["4", "3"]
    assert log.find("2") is None
    assert log.find("x") is not None


def test_the_totals_go_on_counting() -> None:
    records = [a_record(str(n), outcome="ok" if n % 2 else "function_error") for n in range(5)]
    assert a_log(*records, calls=1).totals == {"add": (5, 3)}


def test_output_that_arrives_behind_the_outcome_is_added() -> None:
    log = a_log(a_record("a"))
    log.printed("a", "hello\n")
    log.printed("unknown", "hello\n")
    assert log.last()[0]["output"] == "hello\n"


def test_the_end_of_a_long_output_is_kept() -> None:
    log = a_log(a_record("a", output_tail="x" * OUTPUT + "end"))
    assert log.last()[0]["output"] == "x" * (OUTPUT - 3) + "end"
    log.printed("a", "y" * OUTPUT + "END")
    assert log.last()[0]["output"] == "y" * (OUTPUT - 3) + "END"


def test_a_call_that_ends_twice_is_there_as_it_ended_last() -> None:
    log = a_log(a_record("a", outcome="replica_lost"), a_record("a"), calls=1)
    found = log.find("a")
    assert found is not None
    assert found["outcome"] == "ok"


def test_the_function_that_was_quiet_longest_is_forgotten() -> None:
    log = CallLog(functions=2)
    for at, (id, function) in enumerate([("a", "add"), ("b", "sub"), ("c", "add"), ("d", "mul")]):
        log.add(a_record(id, function), at=float(at))
    assert ids(log.last()) == ["d", "c", "a"]
    assert (log.find("b"), log.last("sub")) == (None, [])
    assert log.totals.keys() == {"add", "mul"}


def test_the_oldest_calls_go_where_all_together_are_too_large() -> None:
    log = CallLog(size=20_000)
    for n in range(10):
        log.add(a_record(str(n), f"f{n % 3}"), at=float(n))
        log.printed(str(n), "x" * OUTPUT)
    log.add(a_record("last"), at=10.0)
    assert ids(log.last()) == ["last", "9", "8"]
    assert log.totals["f0"] == (4, 0)
    for id in ("9", "8"):
        log.printed(id, "")
    assert log._size < 3000
