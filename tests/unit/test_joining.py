"""Whether a service's replicas can join the router, and what its owner is told if they can't."""

from __future__ import annotations

from typing import Any

import pytest

from funker.backends.swarm.advice import advise_joining, aliases, is_routed
from funker.backends.swarm.surroundings import with_key
from funker.spec import FunctionSpec, Secret

OURS = ["id-of-funker"]
KEY = {"SecretName": "funker-client-key", "File": {"Name": "funker-client-key"}}
STACK = {"com.docker.stack.namespace": "shop"}


def service(
    *,
    networks: tuple[str, ...] = ("id-of-funker",),
    secrets: tuple[dict[str, Any], ...] = (KEY,),
    env: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
    **aliased: list[str],
) -> dict[str, Any]:
    return {
        "Name": "add",
        "Labels": labels or {},
        "TaskTemplate": {
            "ContainerSpec": {"Secrets": list(secrets), "Env": list(env)},
            "Networks": [{"Target": each, "Aliases": aliased.get(each, [])} for each in networks],
        },
    }


@pytest.mark.parametrize(
    ("spec", "routed"),
    [
        (service(), True),
        (service(networks=("other", "id-of-funker")), True),
        (service(networks=("other",)), False),
        (service(secrets=()), False),
        (service(secrets=(), env=("FUNKER_KEY_FILE=/key",)), True),
        (service(secrets=({"File": {"Name": "/run/secrets/funker-client-key"}},)), True),
        (service(secrets=({"SecretName": "funker-client-key", "File": {"Name": "x"}},)), False),
        (service(env=("FUNKER_ROUTER=direct",)), False),
        (service(env=("FUNKER_ROUTER=router:5571",)), True),
    ],
)
def test_replicas_join_the_router_with_its_key_on_its_network(
    spec: dict[str, Any], routed: bool
) -> None:
    assert is_routed(spec, OURS) is routed


def test_networks_of_old_services_are_in_the_spec_itself() -> None:
    spec = service()
    spec["Networks"] = spec["TaskTemplate"].pop("Networks")
    assert is_routed(spec, OURS)


@pytest.mark.parametrize("spec", [service(), service(secrets=(), env=("FUNKER_ROUTER=direct",))])
def test_who_can_join_or_was_told_not_to_gets_no_advice(spec: dict[str, Any]) -> None:
    assert advise_joining(spec, OURS) == []


def test_a_stack_file_gets_lines_for_the_service_and_for_its_end() -> None:
    (item,) = advise_joining(service(secrets=(), labels=STACK), OURS)
    assert item.problem == "replicas can't join the router: they lack its key"
    assert item.lines == (
        "secrets: [funker-client-key]\n"
        "# and at the end of the file\n"
        "secrets:\n  funker-client-key:\n    external: true"
    )
    (both,) = advise_joining(service(secrets=(), networks=(), labels=STACK), OURS)
    assert both.problem.endswith("they lack its network and its key")
    assert both.lines.startswith("networks: [funker]\nsecrets: [funker-client-key]\n")
    assert "networks:\n  funker:\n    external: true" in both.lines


def test_a_service_of_no_stack_gets_the_command_that_changes_it() -> None:
    (item,) = advise_joining(service(secrets=()), OURS)
    assert item.lines == "docker service update --secret-add funker-client-key add"
    (both,) = advise_joining(service(secrets=(), networks=("other",)), OURS)
    assert both.lines == (
        "docker service update --network-add funker --secret-add funker-client-key add"
    )


def test_aliases_are_those_of_networks_and_those_that_replicas_are_told() -> None:
    spec = service(
        networks=("one", "two"), one=["a"], two=["b", "a"], env=("FUNKER_ALIASES=b, c,",)
    )
    assert aliases(spec) == {"a", "b", "c"}


MINE = Secret(source="mine", target="funker-client-key")


@pytest.mark.parametrize(
    ("settings", "there", "sources"),
    [
        ({}, ["db", "funker-client-key"], ["funker-client-key"]),
        ({}, ["db"], []),
        ({"env": {"FUNKER_ROUTER": "direct"}}, ["funker-client-key"], []),
        ({"secrets": [MINE]}, ["mine", "funker-client-key"], ["mine"]),
        (
            {"secrets": [Secret(source="db", target="db")]},
            ["db", "funker-client-key"],
            ["db", "funker-client-key"],
        ),
    ],
)
def test_a_deployed_function_gets_the_key_that_the_swarm_has(
    settings: dict[str, Any], there: list[str], sources: list[str]
) -> None:
    spec = with_key(FunctionSpec(name="add", image="sha256:0", **settings), there)
    assert [secret.source for secret in spec.secrets] == sources
    assert all(secret.mode == 0o444 for secret in spec.secrets)
    assert with_key(spec, there) == spec
