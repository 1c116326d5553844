"""Policies as labels and back, and what a deploy makes of them. No engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.backends import policies
from funker.backends.policies import Policies
from funker.backends.swarm import placement, report
from funker.backends.swarm.service import Surroundings, service_spec
from funker.spec import CallPolicy, FunctionSpec, ScalePolicy, SpecError, parse_ulimits

ID = "sha256:" + "a" * 64
CORE = 1_000_000_000


def spec(**fields: Any) -> FunctionSpec:
    return FunctionSpec(**{"name": "add", "image": ID, **fields})


def seconds(top: float) -> st.SearchStrategy[float]:
    return st.integers(1, int(top * 1000)).map(lambda milliseconds: milliseconds / 1000)


SCALES = st.builds(
    lambda low, more, idle, headroom: ScalePolicy(
        min=low, max=max(1, low + more), idle=idle, headroom=headroom / 100
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    seconds(1e6),
    st.integers(0, 10_000),
)
CALLS = st.builds(
    CallPolicy,
    idempotent=st.booleans(),
    retries=st.integers(0, 100),
    backoff=seconds(60),
    max_inflight=st.none() | st.integers(1, 10_000),
)


@given(scale=st.none() | SCALES, calls=CALLS)
def test_what_is_written_as_labels_is_read_from_them(
    scale: ScalePolicy | None, calls: CallPolicy
) -> None:
    labels = policies.labels(spec(scale=scale, calls=calls))
    assert policies.read({**labels, "team": "blue"}) == Policies(scale=scale, calls=calls)


def test_a_function_without_policies_has_no_labels_of_them() -> None:
    assert policies.labels(spec()) == {}
    assert policies.read({"funker.function": "true"}) == Policies()


def test_labels_are_written_as_people_write_them() -> None:
    scale = ScalePolicy(min=0, idle="5m")
    calls = CallPolicy(idempotent=True, retries=2, backoff="1.5s", max_inflight=8)
    assert policies.labels(spec(scale=scale, calls=calls, isolation="process")) == {
        "funker.scale.min": "0",
        "funker.scale.max": "20",
        "funker.scale.idle": "300s",
        "funker.scale.headroom": "1",
        "funker.idempotent": "true",
        "funker.retries": "2",
        "funker.retry-backoff": "1.5s",
        "funker.max-inflight": "8",
        "funker.isolation": "process",
    }


def test_one_label_of_scaling_is_enough_and_the_rest_has_defaults() -> None:
    assert policies.read({"funker.scale.max": "5"}).followed == ScalePolicy(max=5)


@pytest.mark.parametrize("word", ["true", "True", "1", "yes"])
def test_a_pinned_function_has_a_policy_that_isn_t_followed(word: str) -> None:
    told = policies.read({"funker.scale.max": "5", "funker.scale.pinned": word})
    assert (told.scale, told.pinned, told.followed) == (ScalePolicy(max=5), True, None)


def test_a_pin_alone_is_no_policy() -> None:
    assert policies.read({"funker.scale.pinned": "true"}) == Policies()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"funker.scale.min": "two"}, ("label funker.scale.min: ", "valid integer")),
        ({"funker.scale.min": "5", "funker.scale.max": "2"}, ("funker.scale.min: 5 is more",)),
        ({"funker.scale.max": "-1"}, ("label funker.scale.max: ", "greater than or equal to 1")),
        ({"funker.scale.idle": "soon"}, ('label funker.scale.idle: "soon"', "Write seconds")),
        ({"funker.scale.idle": "0"}, ("label funker.scale.idle: ", "more than nothing")),
        ({"funker.scale.headroom": "x"}, ("label funker.scale.headroom: ",)),
        ({"funker.scale.maximum": "5"}, ("label funker.scale.maximum: no such", "There are")),
        ({"funker.retries": "many"}, ("label funker.retries: ",)),
        ({"funker.retry-backoff": "0s"}, ("label funker.retry-backoff: ",)),
        ({"funker.retry-backoff": "1h"}, ("label funker.retry-backoff: ", "60")),
        ({"funker.max-inflight": "0"}, ("label funker.max-inflight: ",)),
        ({"funker.idempotent": "perhaps"}, ("label funker.idempotent: ", "perhaps")),
    ],
)
def test_a_wrong_label_is_named_and_counts_as_no_policy(
    labels: dict[str, str], told: tuple[str, ...]
) -> None:
    read = policies.read(labels)
    assert (read.scale, read.calls) == (None, CallPolicy())
    (problem,) = read.problems
    assert all(words in problem for words in told), problem


def test_a_wrong_label_of_scaling_leaves_those_of_calls_alone() -> None:
    read = policies.read({"funker.scale.min": "x", "funker.retries": "3"})
    assert (read.scale, read.calls.retries, len(read.problems)) == (None, 3, 1)


# --- in a service ---------------------------------------------------------------------------------


def service(mode: str = "Replicated", **labels: str) -> dict[str, Any]:
    made = service_spec(spec(), Surroundings(networks={"funker": "n0"}))
    made["Labels"] |= labels
    made["Mode"] = {mode: made["Mode"]["Replicated"]}
    times = {"CreatedAt": "2026-01-02T03:04:05.1Z", "UpdatedAt": "2026-01-02T03:04:05.1Z"}
    return {"ID": "s1", "Spec": made, **times}


def test_policies_change_no_task_and_isolation_does() -> None:
    def template(**fields: Any) -> Any:
        return service_spec(spec(**fields), Surroundings(networks={"funker": "n0"}))["TaskTemplate"]

    assert template() == template(scale=ScalePolicy(), calls=CallPolicy(retries=3))
    one = template(isolation="process", slots=4, ulimits={"nproc": 64, "as": 1 << 30})
    added = set(one["ContainerSpec"]["Env"]) - set(template()["ContainerSpec"]["Env"])
    assert added == {
        "FUNKER_ISOLATION=process",
        "FUNKER_SLOTS=4",
        "FUNKER_ULIMITS=as=1073741824,nproc=64",
    }


def test_a_list_shows_the_policies_and_what_is_wrong_with_them() -> None:
    status = report.status(service(**{"funker.scale.max": "5", "funker.retries": "x"}))
    assert (status.scale, status.pinned) == (ScalePolicy(max=5), False)
    assert any("label funker.retries: " in warning for warning in status.warnings)


def test_a_service_of_another_mode_can_t_be_scaled_by_itself_and_is_told_so() -> None:
    status = report.status(service("Global", **{"funker.scale.max": "5"}))
    assert status.scale is None
    assert any("its mode is global" in warning for warning in status.warnings)


# --- deploys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "present", "replicas"),
    [
        ({"scale": ScalePolicy(min=0)}, None, 1),
        ({"scale": ScalePolicy(min=3)}, None, 3),
        ({"scale": ScalePolicy(min=0)}, 0, 1),
        ({"scale": ScalePolicy()}, 7, 7),
        ({"scale": ScalePolicy(max=5)}, 7, 5),
        ({"scale": ScalePolicy(min=8)}, 7, 8),
        ({"replicas": 2}, 7, 2),
        ({"replicas": 0}, None, 0),
    ],
)
def test_a_deploy_keeps_the_number_that_the_autoscaler_has_chosen(
    fields: dict[str, Any], present: int | None, replicas: int
) -> None:
    assert policies.beginning(spec(**fields), present).replicas == replicas


# --- where it may run -----------------------------------------------------------------------------


def node(identity: str, cores: float, **fields: Any) -> dict[str, Any]:
    return {
        "ID": identity,
        "Spec": {"Availability": "active", "Labels": {"disk": "ssd"}, **fields},
        "Status": {"State": "ready"},
        "Description": {
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
            "Resources": {"NanoCPUs": int(cores * CORE)},
        },
    }


@pytest.mark.parametrize(
    ("placed", "cores"),
    [
        ({}, 6),
        ({"Constraints": ["node.id==n1"]}, 4),
        ({"Constraints": ["node.id != n1"]}, 2),
        ({"Constraints": ["node.labels.disk==ssd"]}, 6),
        ({"Constraints": ["node.labels.disk==tape"]}, 1),
        ({"Platforms": [{"OS": "linux", "Architecture": "amd64"}]}, 6),
        ({"Platforms": [{"OS": "linux", "Architecture": "arm64"}]}, 1),
    ],
)
def test_cores_are_those_of_the_nodes_where_replicas_may_run(
    placed: dict[str, Any], cores: int
) -> None:
    drained = node("n3", 8, Availability="drain")
    down = node("n4", 8) | {"Status": {"State": "down"}}
    nodes = [node("n1", 4), node("n2", 2.5), drained, down]
    assert placement.cores({"Placement": placed}, nodes) == cores


# --- limits ---------------------------------------------------------------------------------------


def test_limits_are_spelled_as_docker_s() -> None:
    limits = parse_ulimits(["as=256m", "cpu=1m", "fsize=1k", "nofile=64", "nproc=8", "cpu=2"])
    assert limits == {"as": 256 << 20, "cpu": 2, "fsize": 1024, "nofile": 64, "nproc": 8}
    assert spec(ulimits=limits).ulimits == limits


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nofile", "is no pair"),
        ("core=1", 'no limit "core"'),
        ("nofile=many", "is no number"),
        ("nofile=1:2", "two limits"),
        ("cpu=1.5", "no whole number"),
        ("as=lots", "is no size"),
        ("nproc=0", "more than nothing"),
    ],
)
def test_a_limit_that_can_t_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=r"^ulimit") as caught:
        parse_ulimits([text])
    assert told in caught.value.message


def test_funker_s_own_labels_aren_t_given_by_hand() -> None:
    with pytest.raises(SpecError, match=r"funker\.scale\.min is set by deploying"):
        spec(labels={"funker.scale.min": "2"})
