"""The service in which a new version is tried. No engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from funker.backends.swarm.service import Surroundings, service_spec
from funker.backends.swarm.trial import trial_spec
from funker.spec import FunctionSpec, Network, check_name
from funker.spec.values import MAX_NAME

ID = "sha256:" + "a" * 64


def made(name: str = "add", **fields: Any) -> dict[str, Any]:
    spec = FunctionSpec(name=name, image=ID, replicas=5, **fields)
    return service_spec(spec, Surroundings(networks={"funker": "n0", "shop": "n1"}))


def test_it_is_the_same_version_with_one_replica_that_nobody_calls() -> None:
    shop = Network(name="shop", aliases=("sum",))
    wanted = made(env={"KEY": "value"}, networks=(shop,), limit_cpu=0.5, constraints=("a==b",))
    kept = copy.deepcopy(wanted)
    tried = trial_spec(wanted, "1f2e")
    assert wanted == kept
    assert (tried["Name"], tried["Mode"]) == ("add-trial-1f2e", {"Replicated": {"Replicas": 1}})
    assert tried["Labels"] == {"funker.trial": "add"}
    template = tried["TaskTemplate"]
    assert template["Networks"] == [{"Target": "n0"}, {"Target": "n1"}]
    changed = {"FUNKER_FUNCTION=add", "FUNKER_ALIASES=add-trial-1f2e", "FUNKER_ROUTER=direct"}
    theirs = set(wanted["TaskTemplate"]["ContainerSpec"]["Env"])
    assert set(template["ContainerSpec"]["Env"]) - theirs == changed
    assert "KEY=value" in template["ContainerSpec"]["Env"]
    for part in ("Resources", "Placement", "RestartPolicy"):
        assert template[part] == wanted["TaskTemplate"][part]


@pytest.mark.parametrize("name", ["a" * MAX_NAME, "a" * 51 + "-" * 11 + "b"])
def test_its_name_is_one_however_long_the_function_s_is(name: str) -> None:
    tried = trial_spec(made(name), "1f2e")
    assert check_name(tried["Name"]).endswith("a-trial-1f2e")
    assert tried["Labels"] == {"funker.trial": name}
