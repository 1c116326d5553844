"""FUNKER_ULIMITS, and what it takes."""

from __future__ import annotations

import pytest

from funker_runtime import limits


def test_limits_are_read() -> None:
    assert limits.parse("") == {}
    assert limits.parse("as=268435456, cpu=10,nofile=64,") == {
        "as": 268435456,
        "cpu": 10,
        "nofile": 64,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory=1", "expected NAME=NUMBER with a NAME of as, cpu, fsize, nofile, nproc"),
        ("cpu", "got 'cpu'"),
        ("cpu=1.5", "cpu: expected a positive whole number, got '1.5'"),
        ("cpu=0", "got '0'"),
        ("cpu=-1", "got '-1'"),
        ("as=9223372036854775808", "got '9223372036854775808'"),
        ("as=²", "got '²'"),
    ],
)
def test_what_is_no_limit_is_refused_by_its_name(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        limits.parse(text)
    assert why in str(refused.value)
