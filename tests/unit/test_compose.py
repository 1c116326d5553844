"""Our stack files as service specs: the same as `docker stack deploy` makes of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from funker import packaged
from funker.backends.swarm import compose
from funker.backends.swarm.compose import Identities
from funker.rpc.errors import FunkerError
from funker.spec import SpecError

ROOT = Path(__file__).resolve().parents[2]
IDS = Identities(
    networks={"funker": "net1"},
    secrets={"funker-router-key": "secret1", "funker-client-key": "secret2"},
)
FILES = ("compose.yaml", "compose.publish.yaml")


def load(*names: str, **variables: str) -> dict[str, Any]:
    return compose.load([packaged.text(name) for name in names], variables)


def specs(*names: str, **variables: str) -> dict[str, dict[str, Any]]:
    made = compose.service_specs(load(*names, **variables), "funker", IDS)
    return {spec["Name"]: spec for spec in made}


def test_the_router_s_service_is_what_docker_s_own_command_writes() -> None:
    assert specs("compose.yaml", FUNKER_IMAGE="sha256:abc")["funker_router"] == {
        "Name": "funker_router",
        "Labels": {
            "com.docker.stack.namespace": "funker",
            "com.docker.stack.image": "sha256:abc",
        },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "sha256:abc",
                "Labels": {"com.docker.stack.namespace": "funker", "funker.control": "router"},
                "Command": ["python3", "-m", "funker.controller.router"],
                "User": "10001:10001",
                "Init": True,
                "ReadOnly": True,
                "CapabilityDrop": ["ALL"],
                "Privileges": {
                    "CredentialSpec": None,
                    "NoNewPrivileges": False,
                    "SELinuxContext": None,
                },
                "StopGracePeriod": 3_000_000_000,
                "Secrets": [
                    {
                        "SecretID": "secret1",
                        "SecretName": "funker-router-key",
                        "File": {
                            "Name": "funker-router-key",
                            "UID": "0",
                            "GID": "0",
                            "Mode": 0o444,
                        },
                    }
                ],
            },
            "Resources": {"Limits": {"MemoryBytes": 2 * 1024**3}},
            "RestartPolicy": {"Condition": "any", "Delay": 0},
            "Placement": {"Constraints": ["node.platform.os==linux"]},
            "Networks": [{"Target": "net1", "Aliases": ["funker-router", "router"]}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "continue", "Order": "stop-first"},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def test_the_reconciler_alone_has_the_docker_socket_and_is_on_a_manager() -> None:
    made = specs("compose.yaml", FUNKER_DOCKER_SOCKET="/run/other.sock")
    mounts = {name: _container(spec).get("Mounts") for name, spec in made.items()}
    assert mounts == {
        "funker_router": None,
        "funker_reconciler": [
            {"Type": "bind", "Source": "/run/other.sock", "Target": "/var/run/docker.sock"}
        ],
        "funker_anchor": None,
    }
    placement = made["funker_reconciler"]["TaskTemplate"]["Placement"]
    assert placement["Constraints"] == ["node.role==manager", "node.platform.os==linux"]


def test_each_part_holds_its_own_key_only() -> None:
    secrets = {
        name: [secret["SecretName"] for secret in _container(spec)["Secrets"]]
        for name, spec in specs("compose.yaml").items()
    }
    assert secrets == {
        "funker_router": ["funker-router-key"],
        "funker_reconciler": ["funker-router-key"],
        "funker_anchor": ["funker-client-key"],
    }


def test_the_anchor_is_on_every_node() -> None:
    assert specs("compose.yaml")["funker_anchor"]["Mode"] == {"Global": {}}


def test_nothing_is_published_without_the_second_file() -> None:
    assert all("Ports" not in spec["EndpointSpec"] for spec in specs("compose.yaml").values())


def test_the_second_file_publishes_the_router_on_its_node() -> None:
    made = specs(*FILES, FUNKER_PUBLISH="7000")
    assert made.pop("funker_router")["EndpointSpec"] == {
        "Mode": "dnsrr",
        "Ports": [
            {
                "Protocol": "tcp",
                "TargetPort": 5571,
                "PublishedPort": 7000,
                "PublishMode": "host",
            }
        ],
    }
    assert all("Ports" not in spec["EndpointSpec"] for spec in made.values())


def test_a_placement_is_of_all_parts() -> None:
    made = specs("compose.yaml", FUNKER_PLACEMENT="node.id==abc")
    for spec in made.values():
        assert "node.id==abc" in spec["TaskTemplate"]["Placement"]["Constraints"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("${A:-2}", "1"),
        ("${B:-2}", "2"),
        ("${EMPTY:-2}", "2"),
        ("${B:-}", ""),
        ("x${A}y${B:-/z}", "x1y/z"),
        ("$${A}", "${A}"),
        ("no $ at all", "no $ at all"),
    ],
)
def test_variables_are_filled_in_as_docker_does(text: str, expected: str) -> None:
    loaded = compose.load([f'services: "{text}"'], {"A": "1", "EMPTY": ""})
    assert loaded["services"] == expected


def test_a_variable_without_value_and_default_is_an_error() -> None:
    with pytest.raises(SpecError, match="FUNKER_X"):
        compose.load(["services: ${FUNKER_X}"], {})


@pytest.mark.parametrize(
    "addition",
    [
        "services: {router: {healthcheck: {}}}",
        "services: {router: {deploy: {labels_: {}}}}",
        "services: {router: {deploy: {resources: {reservations: {}}}}}",
        "configs: {}",
    ],
)
def test_what_isn_t_known_of_compose_files_is_refused_rather_than_left_out(addition: str) -> None:
    stack = compose.load([packaged.text("compose.yaml"), addition], {})
    with pytest.raises(ValueError, match="isn't known here"):
        compose.service_specs(stack, "funker", IDS)


def test_the_network_s_addresses_are_a_setting() -> None:
    assert compose.subnet(load("compose.yaml")) == "10.213.0.0/16"
    assert compose.subnet(load("compose.yaml", FUNKER_SUBNET="10.9.0.0/16")) == "10.9.0.0/16"


def test_the_dockerfile_installs_what_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split("[><=]", each)[0] for each in project["dependencies"]}
    (words,) = re.findall(r"constraints\.txt (docker [a-z .]+?) \\", packaged.text("Dockerfile"))
    assert set(words.split()) == declared


def test_a_file_that_isn_t_there_is_told() -> None:
    with pytest.raises(FunkerError, match=r"nothing\.yaml is missing from this installation"):
        packaged.text("nothing.yaml")


def _container(spec: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = spec["TaskTemplate"]["ContainerSpec"]
    return container
