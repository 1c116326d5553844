"""The router's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from funker.controller.settings import MAX_BODY, settings
from funker.controller.tables import Limits
from funker.rpc.errors import FunkerError
from funker.rpc.keys import make_keys

INSECURE = {"FUNKER_INSECURE": "1"}


def test_without_anything_said_it_has_its_defaults() -> None:
    chosen = settings(INSECURE)
    assert (chosen.listen, chosen.control) == ("tcp://*:5571", "tcp://*:5572")
    assert (chosen.keys, chosen.max_body, chosen.limits) == (None, MAX_BODY, Limits())
    assert MAX_BODY == 256 << 20


def test_all_of_it_can_be_said(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(make_keys()[0])
    environ = {
        "FUNKER_LISTEN": "ipc:///a",
        "FUNKER_CONTROL": "ipc:///b",
        "FUNKER_ROUTER_KEY_FILE": str(file),
        "FUNKER_MAX_BODY": "1000",
        "FUNKER_QUEUE_LIMIT": "10",
        "FUNKER_QUEUE_BYTES": "5000",
    }
    chosen = settings(environ)
    assert chosen.keys is not None
    assert chosen[:2] == ("ipc:///a", "ipc:///b")
    assert chosen.max_body == 1000
    assert chosen.limits == Limits()._replace(queue=10, queued_bytes=5000)


@pytest.mark.parametrize("value", ["-1", "0", "16m", "1.5", "\N{SUPERSCRIPT TWO}"])
@pytest.mark.parametrize("name", ["FUNKER_MAX_BODY", "FUNKER_QUEUE_LIMIT", "FUNKER_QUEUE_BYTES"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    with pytest.raises(FunkerError, match=f"{name}: expected a number above 0"):
        settings({**INSECURE, name: value})


def test_without_keys_it_doesnt_start_by_itself(tmp_path: Path) -> None:
    with pytest.raises(FunkerError, match="no router key") as caught:
        settings({"FUNKER_ROUTER_KEY_FILE": str(tmp_path / "none")})
    assert "funker up" in caught.value.hint
