"""What a spec accepts, and how it says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from funker.rpc.errors import FunkerError
from funker.spec import (
    Config,
    FunctionSpec,
    Mount,
    Network,
    Secret,
    SpecError,
    check_name,
    parse_duration,
    parse_env,
    parse_env_file,
    parse_size,
)

ID = "sha256:" + "a" * 64


def test_a_spec_needs_only_a_name_and_an_image() -> None:
    spec = FunctionSpec(name="add", image=ID)
    assert spec.replicas == 1
    assert spec.timeout == 60
    assert spec.stop_grace == 105
    assert spec.aliases == ()


def test_a_spec_is_frozen_and_can_be_changed_into_another() -> None:
    spec = FunctionSpec(name="add", image=ID, secrets=(Secret.parse("db"),))
    with pytest.raises(ValidationError, match="frozen"):
        spec.replicas = 3
    more = spec.changed(replicas=3)
    assert (spec.replicas, more.replicas, more.secrets) == (1, 3, spec.secrets)


@pytest.mark.parametrize("name", ["add", "a", "shop_add", "add-2", "0add", "a" * 63])
def test_names_of_services_are_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Add", "like `add`"),
        ("my function", "like `my-function`"),
        ("-add-", "like `add`"),
        ("shop.add", "like `shop-add`"),
        ("a" * 64, "like `" + "a" * 63 + "`"),
        ("", "like `add`"),
        ("---", "lower-case"),
    ],
)
def test_other_names_are_refused_with_one_that_would_do(name: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        FunctionSpec(name=name, image=ID)
    assert caught.value.field == "name"
    assert hint in caught.value.hint


@given(st.text(max_size=80))
def test_a_suggested_name_is_itself_a_good_one(text: str) -> None:
    try:
        check_name(text)
    except SpecError as error:
        if "like `" in error.hint:
            check_name(error.hint.rsplit("like `", 1)[1].rstrip("`."))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), (".5", 0.5), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), (3, 3)],
)
def test_durations_are_read_as_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "1m 30s", "-1", "10d", "1s1", "inf", "nan", True, -1])
def test_what_is_no_duration_is_refused_with_an_example(text: str | float) -> None:
    with pytest.raises(SpecError, match="timeout") as caught:
        parse_duration(text, field="timeout")
    assert caught.value.field == "timeout"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("100KiB", 102400),
        ("2GB", 2 << 30),
        (7, 7),
    ],
)
def test_sizes_are_read_as_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1x", "m", True])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="limit-memory"):
        parse_size(text, field="limit-memory")


@given(st.text())
def test_no_text_makes_the_parsers_raise_anything_else(text: str) -> None:
    for parse in (
        parse_duration,
        parse_size,
        Secret.parse,
        Config.parse,
        Mount.parse,
        Network.parse,
    ):
        try:
            parse(text)
        except SpecError:
            continue


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("db_pass", Secret(source="db_pass", target="db_pass")),
        ("source=db,target=pw", Secret(source="db", target="pw")),
        (
            "src=db,target=/run/pw,uid=10001,gid=5,mode=0400",
            Secret(source="db", target="/run/pw", uid="10001", gid="5", mode=0o400),
        ),
    ],
)
def test_secrets_are_read_in_dockers_spelling(text: str, secret: Secret) -> None:
    assert Secret.parse(text) == secret


def test_a_config_lands_at_its_name_below_the_root_unless_it_says_where() -> None:
    assert Config.parse("settings").target == "/settings"
    assert Config.parse("source=settings,target=/etc/s.toml").target == "/etc/s.toml"


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        (
            "type=tmpfs,target=/tmp,tmpfs-size=64m,tmpfs-mode=1777",
            Mount(type="tmpfs", target="/tmp", tmpfs_size=64 << 20, tmpfs_mode=0o1777),
        ),
        (
            "type=bind,src=/srv,dst=/data,ro",
            Mount(type="bind", source="/srv", target="/data", read_only=True),
        ),
        (
            'type=volume,source=v,target=/v,volume-driver=local,"volume-opt=o=addr=a,rw"',
            Mount(
                source="v", target="/v", volume_driver="local", volume_options={"o": "addr=a,rw"}
            ),
        ),
    ],
)
def test_mounts_are_read_in_dockers_spelling(text: str, mount: Mount) -> None:
    assert Mount.parse(text) == mount


def test_networks_are_read_in_dockers_spelling_and_give_the_function_aliases() -> None:
    shop = Network.parse("name=shop,alias=prices,alias=cost")
    assert shop == Network(name="shop", aliases=("prices", "cost"))
    assert Network.parse("shop") == Network(name="shop")
    spec = FunctionSpec(name="add", image=ID, networks=(shop, Network.parse("name=b,alias=cost")))
    assert spec.aliases == ("cost", "prices")


@pytest.mark.parametrize(
    ("parse", "text", "names"),
    [
        (Secret.parse, "target=x", "source"),
        (Secret.parse, "source=x,mode=rw", "mode"),
        (Secret.parse, "source=x,colour=red", "colour"),
        (Config.parse, "", "source"),
        (Mount.parse, "type=tmpfs", "target"),
        (Mount.parse, "type=disk,target=/x", "type"),
        (Mount.parse, "target=x", "absolute"),
        (Mount.parse, "type=bind,target=/x", "bind"),
        (Mount.parse, "type=tmpfs,source=a,target=/x", "tmpfs"),
        (Mount.parse, "target=/x,ro=perhaps", "ro"),
        (Network.parse, "alias=x", "name"),
        (Network.parse, "name=x,colour=red", "colour"),
    ],
)
def test_a_wrong_attachment_is_refused_by_what_is_wrong_with_it(
    parse: object, text: str, names: str
) -> None:
    with pytest.raises(SpecError, match=names):
        parse(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"replicas": -1}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "never"}, "timeout"),
        ({"limit_memory": "1k"}, "limit-memory"),
        ({"limit_memory": "8m", "reserve_memory": "9m"}, "reserve-memory"),
        ({"limit_cpu": 0}, "limit_cpu"),
        ({"image": "funker/add:latest"}, "image"),
        ({"platform": "linux"}, "platform"),
        ({"env": {"FUNKER_TIMEOUT": "3"}}, "env"),
        ({"env": {"": "x"}}, "env"),
        ({"labels": {"funker.function": "no"}}, "label"),
        ({"labels": {"com.docker.stack.namespace": "x"}}, "label"),
        ({"constraints": ("node.labels.disk=ssd",)}, "constraint"),
        ({"mounts": (Mount(target="/a"), Mount(target="/a"))}, "mount"),
        ({"colour": "red"}, "colour"),
        ({"max_body": "0"}, "max_body"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        FunctionSpec(**{"name": "add", "image": ID, **fields})
    assert caught.value.field == field
    assert caught.value.message.startswith(field)
    assert isinstance(caught.value, FunkerError)


def test_variables_are_pairs_or_names_of_ones_own() -> None:
    here = {"HOME": "/root", "LANG": "C"}
    assert parse_env(["A=1", "B=x=y", "HOME", "NONE"], here) == {
        "A": "1",
        "B": "x=y",
        "HOME": "/root",
    }
    with pytest.raises(SpecError, match="env"):
        parse_env(["=x"], here)


def test_a_file_of_variables_has_comments_and_takes_values_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text('# first\n\nA=1\nB="quoted"\n  C=#no comment\nHOME\n')
    assert parse_env_file(file, {"HOME": "/h"}) == {
        "A": "1",
        "B": '"quoted"',
        "C": "#no comment",
        "HOME": "/h",
    }


def test_a_wrong_line_in_a_file_of_variables_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nB C=2\n")
    with pytest.raises(SpecError, match=r"env:2"):
        parse_env_file(file)
    with pytest.raises(SpecError, match="no-such-file"):
        parse_env_file(tmp_path / "no-such-file")
