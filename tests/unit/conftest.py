"""How hypothesis runs here: no deadline for one example, since CI machines stall at will.

And the command line in this process, over the backend in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from funker.backends.memory import Memory
from funker.cli import main, session

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs a command line as a user would and gives (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main.run(main.hoisted(words))
        out, err = capsys.readouterr()
        assert not any(line.startswith("Traceback") for line in err.splitlines())
        return code, out, err

    return run


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """The backend of every command that is typed."""
    backend = Memory({"add": lambda x, y: x + y, "echo": lambda body: body})
    monkeypatch.setattr(session, "open_backend", lambda *_, **__: backend)
    return backend
