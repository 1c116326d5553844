from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.report import Report, at_least, at_most, main, percentile


def measure(report: Report) -> None:
    report.add(
        "recycle", 200, "ms", floor=100, floor_is="sleep", target=at_most(220, "floor + 120 ms")
    )
    report.add("starts", 1.0, "1/s", floor=2.0, floor_is="sleep", target=at_least(1.7, "0.85"))
    report.add("memory", 25, "MB")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main("sample", measure)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_missed_target_fails_the_run_only_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch) == 0
    assert run(monkeypatch, "--check") == 1


def test_figures_are_printed_beside_their_floors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch)
    printed = capsys.readouterr().out
    assert "recycle: 200 ms\n    floor 100 ms (sleep), ratio 2.00\n" in printed
    assert "target at most 220 ms (floor + 120 ms): met" in printed
    assert "target at least 1.7 1/s (0.85): MISSED" in printed
    assert printed.endswith("3 figures, 1 targets missed\n")


def test_the_json_has_figures_floors_and_targets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    run(monkeypatch, "--json", str(file))
    written = json.loads(file.read_text())
    assert written["benchmark"] == "sample"
    assert written["met"] is False
    assert [figure["met"] for figure in written["figures"]] == [True, False, True]
    assert written["figures"][0]["ratio"] == 2.0
    assert written["figures"][0]["target"] == {
        "kind": "at most",
        "bound": 220,
        "rule": "floor + 120 ms",
    }


def test_a_run_with_other_options_is_no_full_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    arguments = ["bench", "--seconds", "2", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    given: dict[str, float] = {}
    with pytest.raises(SystemExit):
        main("sample", lambda _, **options: given.update(options), seconds=300.0, calls=200)
    assert given == {"seconds": 2.0, "calls": 200}
    assert "not a full run: --seconds is 2.0, not 300.0" in capsys.readouterr().out
    assert json.loads(file.read_text())["changed"] == {"seconds": 2.0}


def test_either_choice_is_a_full_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    arguments = ["bench", "--backend", "local", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    given: dict[str, str] = {}
    with pytest.raises(SystemExit):
        main("sample", lambda _, **options: given.update(options), backend=("swarm", "local"))
    assert given == {"backend": "local"}
    assert "not a full run" not in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert (written["chosen"], written["changed"]) == ({"backend": "local"}, {})


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert percentile([4, 1, 3, 2], share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
