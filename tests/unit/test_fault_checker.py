"""The judge of fault campaigns, on ledgers written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.checker import ALLOWED, UNLOADED_S, check
from tests.faults.ledger import Ended, Finished, Injected, Ledger, Made, Started, answer

KILLED = Injected(kind="front", target="once", began=1.2, ended=1.3, replica="once.1.x")


class Written:
    """A ledger in the making: a call of `once` at 1 s, whose run takes until 2 s."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def made(self, key: str = "a", **more: Any) -> Written:
        fields = {"function": "once", "idempotent": False, "text": "abc", "at": 1.0, **more}
        self.ledger.made.append(Made(key=key, **fields))
        return self

    def ran(self, key: str = "a", run: str = "r1", *, end: float | None = 2.0) -> Written:
        self.ledger.started.append(Started(key=key, run=run, at=1.1))
        if end is not None:
            self.ledger.finished.append(Finished(key=key, run=run, at=end))
        return self

    def answered(self, key: str = "a", **more: Any) -> Written:
        fields = {"code": "ok", "value": answer(key, "abc"), "at": 2.1, **more}
        self.ledger.ended.append(Ended(key=key, **fields))
        return self

    def failed(self, code: str, key: str = "a", **more: Any) -> Written:
        return self.answered(key, code=code, value=None, **more)

    def right(self, count: int) -> Written:
        """So many calls without any trouble."""
        for n in range(count):
            self.made(f"right-{n}").ran(f"right-{n}").answered(f"right-{n}")
        return self

    def problems(self, *faults: Injected) -> list[str]:
        return check(self.ledger, faults).problems


def test_calls_that_ran_once_and_have_their_answers_are_fine() -> None:
    verdict = check(Written().right(3).ledger, [])
    assert verdict.problems == []
    assert (verdict.calls, verdict.outcomes, verdict.lost) == (3, {"ok": 3}, 0)


def test_no_calls_at_all_prove_nothing() -> None:
    assert Written().problems() == ["nobody made a call"]


def test_a_call_without_an_outcome_is_lost() -> None:
    verdict = check(Written().right(200).made().ran().ledger, [])
    assert verdict.problems == ["a of once at 1.00: 0 outcomes, not one"]
    assert verdict.lost == 1


def test_two_outcomes_are_one_too_many() -> None:
    written = Written().made().ran().answered().answered()
    assert written.problems() == ["a of once at 1.00: 2 outcomes, not one"]


def test_a_call_may_run_twice_only_if_it_is_idempotent() -> None:
    written = Written().made().ran(end=None).ran(run="r2").answered()
    assert written.problems() == ["a of once at 1.00: ran 2 times: ['r1', 'r2']"]
    again = Written().made(idempotent=True).ran(end=None).ran(run="r2").answered()
    verdict = check(again.ledger, [])
    assert (verdict.problems, verdict.repeated) == ([], 1)


@pytest.mark.parametrize("value", [None, "", answer("b", "abc"), answer("a", "abd")])
def test_another_answer_than_its_own_is_wrong(value: object) -> None:
    assert "wrong answer" in Written().made().ran().answered(value=value).problems()[0]


@pytest.mark.parametrize("end", [None, 2.2])
def test_an_answer_needs_a_run_that_was_finished_before(end: float | None) -> None:
    assert "answered by no run" in Written().made().ran(end=end).answered().problems()[0]


@pytest.mark.parametrize("missing", ["made", "ran"])
def test_what_has_no_beginning_is_told(missing: str) -> None:
    if missing == "made":
        assert Written().right(1).ran().problems() == ["a: nobody made this call"]
    else:
        written = Written().made().answered()
        written.ledger.finished.append(Finished(key="a", run="r1", at=2.0))
        assert "without having started" in written.problems()[0]


def test_keys_have_to_be_the_calls_own() -> None:
    written = Written().made().made().ran().answered()
    assert any("same key" in problem for problem in written.problems())


def test_an_error_that_says_it_did_not_start_must_be_right() -> None:
    lost = Written().right(100).made().failed("replica_lost", retry_safe=True)
    assert lost.problems(KILLED) == []
    assert lost.ran(end=None).problems(KILLED) == [
        "a of once at 1.00: replica_lost says that it did not start, but it did"
    ]


def test_a_fault_allows_the_error_that_it_leads_to() -> None:
    written = Written().right(100).made().ran(end=None).failed("replica_lost", replica="once.1.x")
    verdict = check(written.ledger, [KILLED])
    assert (verdict.problems, verdict.lost) == ([], 0)
    assert verdict.outcomes == {"ok": 100, "replica_lost": 1}


@pytest.mark.parametrize(
    ("code", "more", "fault"),
    [
        ("replica_lost", {}, {"kind": "router"}),
        ("function_crashed", {}, {}),
        ("replica_lost", {"replica": "once.2.y"}, {}),
        ("replica_lost", {}, {"target": "again"}),
        ("replica_lost", {}, {"began": 2.2, "ended": 2.3}),
        ("replica_lost", {}, {"began": 0.8, "ended": 0.9}),
        ("replica_lost", {"at": 1.3 + ALLOWED["front"]["replica_lost"] + 0.1}, {}),
    ],
    ids=["kind", "code", "replica", "function", "too early", "over before", "too late"],
)
def test_another_error_has_no_fault_that_allows_it(
    code: str, more: dict[str, Any], fault: dict[str, Any]
) -> None:
    written = Written().right(100).made().ran(end=None).failed(code, **more)
    injected = Injected(
        **{"kind": "front", "target": "once", "began": 1.2, "ended": 1.3, "replica": ""}
        | {"replica": "once.1.x"}
        | fault
    )
    verdict = check(written.ledger, [injected])
    assert verdict.lost == 1
    assert f"no fault allows {code}" in verdict.problems[0]


def test_nothing_allows_an_idempotent_call_an_error() -> None:
    written = Written().right(100).made(idempotent=True).ran(end=None).failed("replica_lost")
    assert "no fault allows replica_lost" in written.problems(KILLED)[0]


def test_an_idempotent_call_may_fail_if_the_controller_was_just_away_as_well() -> None:
    written = Written().right(100).made(idempotent=True).ran(end=None).failed("replica_lost")
    away = Injected(kind="outage", target="", began=-9, ended=-5)
    assert written.problems(KILLED, away) == []
    long_ago = Injected(kind="outage", target="", began=-90, ended=-50)
    assert len(written.problems(KILLED, long_ago)) == 1
    assert len(written.problems(away)) == 1


def test_one_fault_explains_one_error() -> None:
    written = Written().right(200)
    for key in ("a", "b"):
        written.made(key).ran(key, end=None).failed("replica_lost", key)
    assert len(written.problems(KILLED)) == 1
    other = Injected(kind="front", target="once", began=1.2, ended=1.3, replica="once.2.y")
    assert written.problems(KILLED, other) == []


def test_a_fault_explains_as_many_as_the_replica_had_calls() -> None:
    written = Written().right(300)
    for key in ("a", "b", "c"):
        written.made(key).ran(key, end=None).failed("replica_lost", key)
    two = Injected(kind="front", target="once", began=1.2, ended=1.3, calls=2)
    assert len(written.problems(two)) == 1


def test_while_a_killed_worker_looks_like_a_broken_handler_many_calls_may_be_told_so() -> None:
    killed = Injected(kind="worker", target="once", began=1.2, ended=1.3, replica="once.1.x")
    written = Written().right(500)
    for key in ("a", "b"):
        told = {"replica": "once.1.x", "retry_safe": True}
        written.made(key, idempotent=True).failed("init_failed", key, **told)
    assert written.problems(killed) == []
    assert len(written.problems(KILLED)) == 2
    late = {"replica": "once.1.x", "retry_safe": True, "at": 1.3 + UNLOADED_S + 0.1}
    assert len(written.made("c").failed("init_failed", "c", **late).problems(killed)) == 1
    ran = {"replica": "once.1.x", "retry_safe": False}
    assert len(written.made("d").failed("init_failed", "d", **ran).problems(killed)) == 2


def test_an_error_that_names_its_replica_has_the_first_choice() -> None:
    written = Written().right(200).made("a").ran("a", end=None).failed("replica_lost", "a")
    named = {"replica": "once.1.x", "at": 3.0}
    written.made("b").ran("b", end=None).failed("replica_lost", "b", **named)
    other = Injected(kind="front", target="once", began=1.2, ended=1.3, replica="once.2.y")
    assert written.problems(KILLED, other) == []


def test_too_few_successes_are_told() -> None:
    written = Written().right(50).made().ran(end=None).failed("replica_lost")
    assert written.problems(KILLED) == ["only 50 of 51 calls succeeded"]


def test_a_deploy_may_fail_only_while_the_engine_is_away_or_its_replica_is_killed() -> None:
    deploy = Injected(kind="redeploy", target="once", began=1, ended=4, failed="NoController")
    away = Injected(kind="engine", target="", began=2, ended=3)
    assert Written().right(1).problems(deploy) == ["redeploy of once failed: NoController"]
    assert Written().right(1).problems(deploy, away) == []
    killed = Injected(kind="worker", target="once", began=2, ended=3)
    assert Written().right(1).problems(deploy, killed) == []
    elsewhere = Injected(kind="worker", target="again", began=2, ended=3)
    assert len(Written().right(1).problems(deploy, elsewhere)) == 1


def test_a_verdict_is_a_table_with_what_is_wrong_below() -> None:
    shown = str(check(Written().right(1).made().ledger, [KILLED]))
    assert "calls                           2\n  ok                            1\n" in shown
    assert "  lost                          1\n" in shown
    assert "  front                         1\n" in shown
    assert "a of once at 1.00: 0 outcomes, not one" in shown
