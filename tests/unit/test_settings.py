"""What a replica is told by its environment, and who it says it is."""

from __future__ import annotations

import importlib
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker_runtime import dns, kernel
from funker_runtime.settings import SettingError, Settings, identity, settings

# The package has a function of the same name.
read = importlib.import_module("funker_runtime.settings")

NAMES = ["FUNKER_TIMEOUT", "FUNKER_MAX_BODY", "FUNKER_HANDLER", "FUNKER_ISOLATION", "FUNKER_LOG"]


@pytest.fixture
def dns_knows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what the network's DNS calls this container."""

    def say(name: str) -> None:
        monkeypatch.setattr(dns, "own_name", lambda: name)

    say("")
    return say


def test_an_empty_environment_gives_the_defaults() -> None:
    assert settings({}) == Settings(listen=settings({}).listen)
    assert settings({}).handler == "handler:handle"
    assert settings({}).timeout == 60
    assert settings({}).max_body == 16 * 1024 * 1024


@pytest.mark.parametrize("name", [*NAMES, "FUNKER_LISTEN"])
def test_an_empty_variable_is_no_variable(name: str) -> None:
    assert settings({name: ""}) == settings({})


@pytest.mark.parametrize(
    ("in_container", "listen"), [(True, "tcp://*:5570"), (False, "tcp://127.0.0.1:5570")]
)
def test_only_in_a_container_it_listens_to_everyone(
    in_container: bool, listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_in_container", lambda: in_container)
    assert settings({}).listen == listen
    assert settings({"FUNKER_LISTEN": "tcp://*:1"}).listen == "tcp://*:1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("0.5", 0.5),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("5m", 300),
        ("1h", 3600),
        (" 2 s ", 2),
    ],
)
def test_times_are_understood(text: str, seconds: float) -> None:
    assert settings({"FUNKER_TIMEOUT": text}).timeout == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "x",
        "5d",
        "s",
        ".",
        "1.2.3",
        "1m30s",
        "nan",
        "inf",
        "1e3",
        "9" * 400,
        "1 000",
        "½",
    ],
)
def test_a_time_that_isnt_understood_is_named_with_what_would_be(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        settings({"FUNKER_TIMEOUT": text})
    assert str(caught.value) == (
        f"FUNKER_TIMEOUT: expected a time such as 500ms, 30s or 5m, got {text!r}"
    )


def test_a_limit_for_bodies_is_understood() -> None:
    assert settings({"FUNKER_MAX_BODY": "1000"}).max_body == 1000
    assert settings({"FUNKER_MAX_BODY": " 1000\n"}).max_body == 1000


@pytest.mark.parametrize("text", ["0", "-1", "16m", "1.5", "x", "²", "٣", "9" * 19, "9" * 5000])
def test_a_limit_that_isnt_understood_is_named_with_what_would_be(text: str) -> None:
    with pytest.raises(
        SettingError, match=r"^FUNKER_MAX_BODY: expected a number of bytes such as 16777216, got "
    ):
        settings({"FUNKER_MAX_BODY": text})


def test_containers_are_the_default_and_have_one_slot() -> None:
    assert settings({"FUNKER_ISOLATION": "container", "FUNKER_SLOTS": "7"}) == settings({})
    assert (settings({}).isolation, settings({}).slots) == ("container", 1)


def test_processes_have_as_many_slots_as_there_are_cpus_or_as_told() -> None:
    told = settings({"FUNKER_ISOLATION": "process"})
    assert told.isolation == "process"
    assert 1 <= told.slots <= len(os.sched_getaffinity(0))
    assert settings({"FUNKER_ISOLATION": "process", "FUNKER_SLOTS": "7"}).slots == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1025", "9" * 5000, "²"])
def test_slots_that_arent_understood_are_named(text: str) -> None:
    with pytest.raises(SettingError, match="FUNKER_SLOTS: expected a number from 1 to 1024"):
        settings({"FUNKER_ISOLATION": "process", "FUNKER_SLOTS": text})


def test_another_isolation_is_refused() -> None:
    with pytest.raises(SettingError, match="expected container or process, got 'vm'"):
        settings({"FUNKER_ISOLATION": "vm"})


def test_processes_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LINUX", False)
    with pytest.raises(SettingError, match="`process` needs Linux"):
        settings({"FUNKER_ISOLATION": "process"})


def test_limits_are_understood_or_named() -> None:
    assert settings({"FUNKER_ULIMITS": "as=1000,nofile=20"}).ulimits == {"as": 1000, "nofile": 20}
    with pytest.raises(SettingError, match=r"FUNKER_ULIMITS: .*'core=1'"):
        settings({"FUNKER_ULIMITS": "core=1"})


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters())))
def test_no_environment_gives_anything_but_settings_or_a_setting_error(
    environ: dict[str, str],
) -> None:
    try:
        told = settings(environ)
    except SettingError:
        return
    assert told.timeout > 0
    assert 0 < told.max_body < 2**63


# Who it is


def test_it_is_who_its_environment_says_whatever_the_dns_knows(dns_knows: Any) -> None:
    dns_knows("other.1.xyz.net")
    me = identity({"FUNKER_FUNCTION": "add", "FUNKER_REPLICA": "add.1"}, "default")
    assert (me.function, me.names, me.replica) == ("add", ("add",), "add.1")


@pytest.mark.parametrize(
    ("known", "function", "replica"),
    [
        ("shop_add.2.kx3v9.shop_default", "shop_add", "shop_add.2.kx3v9"),
        ("shop_add.2.kx3v9.net.with.dots", "shop_add", "shop_add.2.kx3v9"),
        ("add.bridge-of-mine", "add", None),
        ("add", "add", None),
        ("", "default", None),
    ],
)
def test_without_a_name_it_is_what_the_dns_calls_it(
    known: str, function: str, replica: str | None, dns_knows: Any
) -> None:
    dns_knows(known)
    me = identity({}, "default")
    assert me.function == function
    assert me.replica == (replica or socket.gethostname())


@pytest.mark.parametrize(
    ("function", "aliases", "names"),
    [
        ("add", "", ("add",)),
        ("shop_add", "", ("shop_add", "add")),
        ("big_shop_add", "", ("big_shop_add", "shop_add", "add")),
        ("shop_add", "plus, sum ,,", ("shop_add", "add", "plus", "sum")),
        ("shop_add", "add,shop_add", ("shop_add", "add")),
        ("odd_", "", ("odd_",)),
        ("_odd", "", ("_odd", "odd")),
    ],
)
def test_callers_may_use_its_name_its_short_names_and_its_aliases(
    function: str, aliases: str, names: tuple[str, ...], dns_knows: Any
) -> None:
    me = identity({"FUNKER_FUNCTION": function, "FUNKER_ALIASES": aliases}, "default")
    assert me.names == names


def test_every_life_has_a_session_of_its_own(dns_knows: Any) -> None:
    sessions = {identity({"FUNKER_FUNCTION": "add"}, "").session for _ in range(100)}
    assert len(sessions) == 100
    assert all(len(session) == 32 and int(session, 16) >= 0 for session in sessions)
