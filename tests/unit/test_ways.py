"""When a call goes through the router, when directly, and what is then said of it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from funker.rpc.messages import Call, Error, Message, Result
from funker.rpc.routed import Routed
from funker.rpc.ways import Ways

CALL = Call(id="1d" * 16, function="add", deadline_ms=10_000, body=b"{}")
ABSENT = Error(
    id=CALL.id, code="router_unavailable", message="no router", hint="up?", retry_safe=True
)


class Way:
    """Gives what it was told to, and keeps what it was given."""

    def __init__(self, outcome: Message) -> None:
        self.outcome = outcome
        self.calls: list[tuple[Call, threading.Event | None]] = []

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Any:
        self.calls.append((call, cancel))
        return self.outcome


def run(first: Message, second: Message, call: Call = CALL) -> tuple[Message, Way, threading.Event]:
    ways = Ways(cast(Routed, Way(first)), max_body=1000)
    direct = Way(second)
    ways._direct = cast(Any, direct)
    cancel = threading.Event()
    return ways.run(call, cancel=cancel), direct, cancel


@pytest.mark.parametrize(
    "outcome",
    [
        Result(id=CALL.id),
        ABSENT.replace(retry_safe=False),
        ABSENT.replace(code="unauthorized"),
        ABSENT.replace(code="cancelled"),
        ABSENT.replace(code="queue_full"),
        ABSENT.replace(code="function_not_found"),
        ABSENT.replace(code="deadline_exceeded"),
    ],
    ids=lambda outcome: getattr(outcome, "code", "result"),
)
def test_what_the_router_says_is_the_outcome(outcome: Message) -> None:
    got, direct, _ = run(outcome, Result(id=CALL.id, body=b"direct"))
    assert got is outcome
    assert direct.calls == []


def test_a_call_that_no_router_has_goes_directly_with_what_is_left_of_it() -> None:
    result = Result(id=CALL.id, body=b"direct")
    got, direct, cancel = run(ABSENT, result)
    assert got is result
    ((call, passed_on),) = direct.calls
    assert passed_on is cancel
    assert call.deadline_ms is not None
    assert 9_000 < call.deadline_ms <= 10_000
    assert call.replace(deadline_ms=10_000) == CALL


def test_a_call_without_a_deadline_has_the_usual_one_left() -> None:
    _, direct, _ = run(ABSENT, Result(id=CALL.id), CALL.replace(deadline_ms=None))
    ((call, _),) = direct.calls
    assert call.deadline_ms == pytest.approx(120_000, abs=1000)


def test_a_call_whose_time_is_over_goes_nowhere() -> None:
    got, direct, _ = run(ABSENT, Result(id=CALL.id), CALL.replace(deadline_ms=0))
    assert got is ABSENT
    assert direct.calls == []


def test_a_name_that_isnt_found_directly_doesnt_hide_that_the_router_is_gone() -> None:
    missing = Error(
        id=CALL.id, code="function_not_found", message="no function 'add'", hint="name?",
        retry_safe=True,
    )  # fmt: skip
    got, _, _ = run(ABSENT, missing)
    assert got == ABSENT.replace(
        message="no router; and directly: no function 'add'", hint="up?; name?"
    )


def test_a_direct_call_that_finds_nobody_free_says_why_it_was_direct() -> None:
    late = Error(id=CALL.id, code="deadline_exceeded", message="none free", retry_safe=True)
    got, _, _ = run(ABSENT, late)
    assert got == late.replace(message="none free (called directly: no router)")


@pytest.mark.parametrize(
    "outcome",
    [
        Error(id=CALL.id, code="deadline_exceeded", message="it ran", retry_safe=False),
        Error(id=CALL.id, code="init_failed", message="no module", retry_safe=True),
        Error(id=CALL.id, code="function_error", message="ValueError"),
        Error(id=CALL.id, code="cancelled", message="cancelled", retry_safe=True),
    ],
    ids=lambda outcome: outcome.code,
)
def test_what_a_replica_says_directly_is_the_outcome(outcome: Error) -> None:
    got, _, _ = run(ABSENT, outcome)
    assert got is outcome
