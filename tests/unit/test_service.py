"""A spec as a service, what services lack, where they may run, what their names mean. No engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from funker.backends.base import DeployFailed, ImageMissing, NoNodeFits
from funker.backends.names import choose
from funker.backends.swarm.advice import advise
from funker.backends.swarm.placement import place
from funker.backends.swarm.report import with_image
from funker.backends.swarm.rollout import Rollout
from funker.backends.swarm.service import Surroundings, same, service_spec
from funker.rpc.errors import AmbiguousFunction, FunctionNotFound
from funker.spec import Config, FunctionSpec, Mount, Network, Secret

ID = "sha256:" + "a" * 64
DIGEST = "registry.example/add@sha256:" + "b" * 64


def spec(**fields: Any) -> FunctionSpec:
    return FunctionSpec(**{"name": "add", "image": ID, **fields})


def made(around: Surroundings | None = None, **fields: Any) -> dict[str, Any]:
    return service_spec(spec(**fields), around or Surroundings(networks={"funker": "n0"}))


def container(service: dict[str, Any]) -> dict[str, Any]:
    return dict(service["TaskTemplate"]["ContainerSpec"])


# --- a spec as a service -------------------------------------------------------------------------


def test_every_service_has_the_settings_that_a_one_shot_function_needs() -> None:
    service = made(timeout=60)
    template = service["TaskTemplate"]
    assert template["RestartPolicy"] == {"Condition": "any", "Delay": 0, "MaxAttempts": 0}
    assert service["EndpointSpec"] == {"Mode": "dnsrr"}
    assert container(service)["Image"] == ID
    assert container(service)["StopGracePeriod"] == 105_000_000_000
    assert container(service)["DNSConfig"] == {"Options": ["ndots:1"]}
    assert container(service)["Healthcheck"] == {"Test": ["NONE"]}
    assert service["UpdateConfig"]["Order"] == "start-first"
    assert service["UpdateConfig"]["FailureAction"] == "continue"
    assert "LogDriver" not in template
    assert "ForceUpdate" not in template


def test_another_image_changes_nothing_else_of_a_service() -> None:
    before = made(image_name="funker/add:1", labels={"team": "blue"}, limit_cpu=0.5)
    kept = copy.deepcopy(before)
    after = with_image(before, DIGEST, "funker/add:2")
    assert before == kept
    assert container(after)["Image"] == DIGEST
    assert after["Labels"]["funker.image"] == "funker/add:2"
    assert after == made(
        image=DIGEST, image_name="funker/add:2", labels={"team": "blue"}, limit_cpu=0.5
    )


def test_a_replica_is_told_who_and_where_it_is() -> None:
    service = made(
        env={"COLOUR": "red"},
        timeout="1m30s",
        handler="app:run",
        max_body="64m",
        networks=(Network(name="shop", aliases=("prices", "cost")),),
        around=Surroundings(networks={"funker": "n0", "shop": "n1"}),
    )
    assert container(service)["Env"] == [
        "COLOUR=red",
        "FUNKER_ALIASES=cost,prices",
        "FUNKER_FUNCTION={{.Service.Name}}",
        "FUNKER_HANDLER=app:run",
        "FUNKER_MAX_BODY=67108864",
        "FUNKER_NODE={{.Node.Hostname}}",
        "FUNKER_REPLICA={{.Task.Name}}",
        "FUNKER_TIMEOUT=90",
    ]
    assert service["TaskTemplate"]["Networks"] == [
        {"Target": "n0"},
        {"Target": "n1", "Aliases": ["cost", "prices"]},
    ]


def test_labels_and_replicas_leave_the_task_template_alone() -> None:
    one = made(labels={"team": "a"}, replicas=1, image_name="add:1")
    other = made(labels={"team": "b"}, replicas=9, image_name="add:2")
    assert one["TaskTemplate"] == other["TaskTemplate"]
    assert one["Labels"] == {"funker.function": "true", "funker.image": "add:1", "team": "a"}
    assert other["Mode"] == {"Replicated": {"Replicas": 9}}


def test_the_order_in_which_things_are_given_makes_no_other_template() -> None:
    around = Surroundings(
        networks={"funker": "n0"}, secrets={"a": "1", "b": "2"}, configs={"c": "3", "d": "4"}
    )
    given: dict[str, Any] = {
        "secrets": (Secret.parse("a"), Secret.parse("b")),
        "configs": (Config.parse("c"), Config.parse("d")),
        "mounts": (Mount(target="/m"), Mount(target="/n")),
        "constraints": ("node.role==worker", "node.labels.x==y"),
        "env": {"A": "1", "B": "2"},
    }
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else tuple(reversed(value))
        for key, value in given.items()
    }
    assert made(around, **given) == made(around, **turned)


def test_attachments_and_limits_arrive_as_the_api_spells_them() -> None:
    service = made(
        around=Surroundings(networks={"funker": "n0"}, secrets={"db": "s1"}, node="node1"),
        secrets=(Secret.parse("source=db,target=pw,uid=10001,mode=0400"),),
        mounts=(Mount.parse("type=tmpfs,target=/scratch,tmpfs-size=1m"),),
        read_only=True,
        limit_cpu=0.5,
        limit_memory="64m",
        reserve_memory="32m",
        constraints=("node.labels.disk == ssd",),
        platform="linux/amd64",
    )
    assert container(service)["Secrets"] == [
        {
            "SecretID": "s1",
            "SecretName": "db",
            "File": {"Name": "pw", "UID": "10001", "GID": "0", "Mode": 0o400},
        }
    ]
    assert container(service)["Mounts"] == [
        {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1 << 20}},
        {"Type": "tmpfs", "Target": "/tmp"},
    ]
    assert container(service)["ReadOnly"] is True
    assert service["TaskTemplate"]["Resources"] == {
        "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20},
        "Reservations": {"MemoryBytes": 32 << 20},
    }
    assert service["TaskTemplate"]["Placement"] == {
        "Constraints": ["node.id==node1", "node.labels.disk==ssd"],
        "Platforms": [{"OS": "linux", "Architecture": "amd64"}],
    }


def test_what_the_engine_adds_to_a_spec_is_no_difference() -> None:
    service = made()
    stored = copy.deepcopy(service)
    stored["TaskTemplate"] |= {"ForceUpdate": 3, "Runtime": "container"}
    stored["TaskTemplate"]["ContainerSpec"] |= {"Isolation": "default", "Privileges": None}
    stored["TaskTemplate"]["Resources"] = {"Limits": {}, "Reservations": {}}
    stored["UpdateConfig"] |= {"Monitor": 5_000_000_000}
    assert same(service, stored)
    stored["TaskTemplate"]["ContainerSpec"]["Env"].append("X=1")
    assert not same(service, stored)


# --- advice --------------------------------------------------------------------------------------


def test_a_service_that_deploy_made_needs_no_advice() -> None:
    assert advise(made(timeout=600)) == []


def test_dockers_defaults_get_the_lines_that_make_a_good_function() -> None:
    bare = {
        "TaskTemplate": {
            "ContainerSpec": {"Image": "add:1", "Env": ["FUNKER_TIMEOUT=2m"]},
            "Networks": [{"Target": "n", "Aliases": ["add"]}],
        }
    }
    given = {item.lines: item for item in advise(bare)}
    assert given["stop_grace_period: 165s"].serious
    assert given["deploy:\n  restart_policy:\n    condition: any\n    delay: 0s"].serious
    assert "deploy:\n  endpoint_mode: dnsrr" in given
    assert "image: add:1@sha256:..." in given
    assert any('  FUNKER_FUNCTION: "{{.Service.Name}}"' in lines for lines in given)
    assert any('  FUNKER_ALIASES: "add"' in lines for lines in given)
    assert any("start-first" in lines for lines in given)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ({"Condition": "none"}, "isn't replaced"),
        ({"Condition": "on-failure", "Delay": 0}, "isn't replaced"),
        ({"Condition": "any"}, "waits 5s"),
        ({"Condition": "any", "Delay": 1_000_000_000}, "waits 1s"),
        ({"Condition": "any", "Delay": 0, "MaxAttempts": 3}, "after 3 attempts"),
    ],
)
def test_a_wrong_restart_policy_is_told_by_what_it_does(
    policy: dict[str, Any], problem: str
) -> None:
    service = made()
    service["TaskTemplate"]["RestartPolicy"] = policy
    (item,) = advise(service)
    assert problem in item.problem


# --- names ---------------------------------------------------------------------------------------

STACKS = {"shop_add": "shop", "shop_price": "shop", "desk_price": "desk", "sub": ""}


@pytest.mark.parametrize(
    ("name", "full"), [("shop_add", "shop_add"), ("add", "shop_add"), ("sub", "sub")]
)
def test_a_full_name_or_a_short_one_that_is_unique_means_a_function(name: str, full: str) -> None:
    assert choose(name, STACKS) == full


def test_a_full_name_wins_over_a_short_one() -> None:
    assert choose("add", {**STACKS, "add": ""}) == "add"


def test_a_short_name_of_several_functions_lists_them() -> None:
    with pytest.raises(AmbiguousFunction, match="desk_price, shop_price"):
        choose("price", STACKS)


@pytest.mark.parametrize(
    ("name", "meant"), [("ad", "shop_add"), ("Sub", "sub"), ("shopadd", "shop_add")]
)
def test_an_unknown_name_gets_the_nearest_one(name: str, meant: str) -> None:
    with pytest.raises(FunctionNotFound) as caught:
        choose(name, STACKS)
    assert caught.value.hint == f"Did you mean {meant}?"
    assert caught.value.function == name


def test_where_nothing_is_near_the_way_on_is_told() -> None:
    with pytest.raises(FunctionNotFound) as caught:
        choose("zzz", STACKS)
    assert "funker ls" in caught.value.hint
    with pytest.raises(FunctionNotFound) as caught:
        choose("add", {})
    assert "funker deploy" in caught.value.hint


# --- placement -----------------------------------------------------------------------------------


def node(number: int, **labels: str) -> dict[str, Any]:
    return {
        "ID": f"id{number}",
        "Spec": {"Role": "manager" if number == 1 else "worker", "Labels": labels},
        "Description": {
            "Hostname": f"node{number}",
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
        },
    }


def test_a_swarm_of_one_binds_nothing() -> None:
    assert place(spec(), [node(1)], builder="id1", pinned=False).node == ""


def test_a_local_image_binds_its_function_to_its_node_and_says_so() -> None:
    placement = place(spec(), [node(1), node(2)], builder="id1", pinned=False)
    assert placement.node == "id1"
    assert "node1 only" in placement.warning
    assert "--registry" in placement.warning


def test_a_pushed_image_runs_everywhere() -> None:
    assert place(spec(image=DIGEST), [node(1), node(2)], builder="id1", pinned=False).node == ""


def test_a_bound_function_stays_bound_when_the_other_nodes_leave() -> None:
    assert place(spec(), [node(1)], builder="id1", pinned=True).node == "id1"


def test_a_local_image_can_t_run_where_it_is_not() -> None:
    wish = spec(constraints=("node.role==worker",))
    with pytest.raises(ImageMissing, match=r"node1 alone.*only run on node2"):
        place(wish, [node(1), node(2)], builder="id1", pinned=False)


@pytest.mark.parametrize(
    "wish",
    [
        {"constraints": ("node.labels.disk==ssd",)},
        {"constraints": ("node.hostname!=node1", "node.hostname!=node2")},
        {"platform": "linux/arm64"},
    ],
)
def test_a_wish_that_no_node_meets_is_told_before_anything_is_made(wish: dict[str, Any]) -> None:
    with pytest.raises(NoNodeFits, match="no node"):
        place(spec(**wish), [node(1), node(2)], builder="id1", pinned=False)


def test_architectures_have_several_names() -> None:
    nodes = [node(1, disk="SSD")]
    wish = spec(platform="linux/amd64", constraints=("node.labels.disk==ssd",))
    assert place(wish, nodes, builder="id1", pinned=False).node == ""


# --- rollout -------------------------------------------------------------------------------------

TEMPLATE = made()["TaskTemplate"]


def task(identity: str, state: str, *, slot: int = 1, error: str = "", old: bool = False) -> Any:
    template = {**TEMPLATE, "RestartPolicy": {}} if old else TEMPLATE
    status = {"State": state, "Err": error}
    return {"ID": identity, "Slot": slot, "Spec": template, "Status": status}


def rollout(wanted: int = 2) -> Rollout:
    return Rollout(name="add", template=TEMPLATE, wanted=wanted, started=0)


def test_a_slot_that_was_up_once_stays_counted_though_its_replica_answered_a_call() -> None:
    watched = rollout()
    assert not watched.look([task("a", "running"), task("b", "starting", slot=2)], now=1)
    assert watched.look([task("a", "complete"), task("b", "running", slot=2)], now=2)


def test_tasks_of_another_version_or_of_long_ago_don_t_count() -> None:
    watched = rollout(1)
    assert not watched.look([task("old", "running", old=True), task("past", "complete")], now=1)
    assert watched.look([task("new", "running")], now=2)


def test_the_scheduler_is_believed_when_it_keeps_finding_no_node() -> None:
    watched = rollout(1)
    stuck = task("a", "pending", error="no suitable node (insufficient resources on 1 node)")
    assert not watched.look([stuck], now=1)
    with pytest.raises(NoNodeFits, match="insufficient resources") as caught:
        watched.look([stuck], now=10)
    assert "--reserve-memory" in caught.value.hint


def test_an_image_that_a_node_lacks_is_told_at_once() -> None:
    watched = rollout(1)
    watched.look([task("a", "preparing")], now=1)
    with pytest.raises(ImageMissing, match="No such image") as caught:
        watched.look([task("a", "rejected", error="No such image: sha256:aa")], now=2)
    assert "--registry" in caught.value.hint


def test_replicas_that_end_again_and_again_are_given_up() -> None:
    watched = rollout(1)
    watched.look([], now=0)
    ended = [task(name, "failed", error="task: non-zero exit (1)") for name in "abc"]
    with pytest.raises(DeployFailed, match="non-zero exit"):
        watched.look(ended, now=1)


def test_patience_ends() -> None:
    watched = rollout(2)
    with pytest.raises(DeployFailed, match="only 1 of 2 replicas"):
        watched.look([task("a", "running"), task("b", "preparing", slot=2)], now=1000)
