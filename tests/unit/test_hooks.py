"""What a handler's module wants done before each call."""

from __future__ import annotations

import pytest

import funker
from funker_runtime import hooks


def test_hooks_run_in_their_order_and_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_hooks", [])
    ran = []

    @funker.after_fork
    def connect() -> None:
        ran.append("connect")

    funker.after_fork(lambda: ran.append("seed"))
    hooks.run()
    assert ran == ["connect", "seed"]
    connect()
    assert ran == ["connect", "seed", "connect"]


def test_what_a_hook_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_hooks", [lambda: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        hooks.run()
