"""`funker up`, `down` and `keys` over the backend in memory."""

from __future__ import annotations

import json

import pytest

from funker.backends.base import ControlPlane, NoController
from funker.backends.memory import Memory
from funker.cli import main
from funker.cli.failures import ENGINE_TROUBLE, OK, USAGE

KEY = "ROUTER_PUBLIC=r\nCLIENT_PUBLIC=c=\nROUTER_ADDRESS=10.0.0.1:5571\n"


@pytest.fixture
def asked(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> list[ControlPlane]:
    """What `up` was asked for."""
    asked: list[ControlPlane] = []
    up = memory.up

    def note(options: ControlPlane, **rest: object) -> list[str]:
        asked.append(options)
        return up(options)

    monkeypatch.setattr(memory, "up", note)
    return asked


def test_up_prints_what_was_changed_and_says_when_nothing_was(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["up"]) == OK
    assert capsys.readouterr().out == "the controller is up\n"
    assert main.run(["up"]) == OK
    assert "nothing was changed" in capsys.readouterr().out
    assert main.run(["up", "--json"]) == OK
    assert json.loads(capsys.readouterr().out) == {"changes": []}


def test_options_of_up_reach_the_backend(asked: list[ControlPlane]) -> None:
    words = ["--image", "funker:1", "--subnet", "10.9.0.0/16", "--publish", "5571"]
    assert main.run(["up", *words]) == OK
    (options,) = asked
    assert (options.image, options.subnet, options.publish) == ("funker:1", "10.9.0.0/16", 5571)


def test_nothing_is_published_unless_it_is_asked_for(asked: list[ControlPlane]) -> None:
    assert main.run(["up"]) == OK
    assert asked[0].publish == 0


def test_variables_stand_for_options(
    asked: list[ControlPlane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNKER_IMAGE", "funker:2")
    monkeypatch.setenv("FUNKER_PUBLISH", "6000")
    assert main.run(["up"]) == OK
    assert (asked[0].image, asked[0].publish) == ("funker:2", 6000)


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--image", "a", "--registry", "b"],
        ["up", "--publish", "0"],
        ["up", "--publish", "65536"],
        ["up", "--publish", "http"],
        ["keys", "--show", "router"],
        ["down"],  # nobody to ask here
    ],
)
def test_what_can_t_be_meant_is_refused(
    memory: Memory, asked: list[ControlPlane], words: list[str]
) -> None:
    assert main.run(words) == USAGE
    assert asked == []


def test_down_prints_what_was_changed_and_says_when_nothing_was(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["up"]) == OK
    capsys.readouterr()
    assert main.run(["down", "-y"]) == OK
    assert capsys.readouterr().out == "the controller is down\n"
    assert main.run(["down", "-y"]) == OK
    assert "nothing was changed" in capsys.readouterr().out
    with pytest.raises(NoController):
        memory.controller()


def test_the_clients_key_is_printed_as_a_file_and_for_programs(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "client_key", lambda: KEY)
    assert main.run(["keys", "--show", "client"]) == OK
    assert capsys.readouterr().out == KEY
    assert main.run(["keys", "--show", "client", "--json"]) == OK
    assert json.loads(capsys.readouterr().out) == {
        "ROUTER_PUBLIC": "r",
        "CLIENT_PUBLIC": "c=",
        "ROUTER_ADDRESS": "10.0.0.1:5571",
    }


def test_without_a_controller_there_is_no_key_to_show(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["keys"]) == OK
    assert "nothing was changed" in capsys.readouterr().out
    assert main.run(["keys", "--show", "client"]) == ENGINE_TROUBLE
