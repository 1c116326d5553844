"""How a function scales, and what its calls may do, as flags of `deploy` and with `scale`."""

from __future__ import annotations

import pytest

from funker.spec import CallPolicy, ScalePolicy


@pytest.fixture
def deploy(typed, memory):
    """Deploys `add` with these flags."""
    return lambda *flags: typed("deploy", "--image", "add:1", "add", *flags)


@pytest.mark.parametrize(
    ("flags", "scale", "wanted"),
    [
        ([], ScalePolicy(), 1),
        (["--min", "3"], ScalePolicy(min=3), 3),
        (["--min", "0", "--idle", "90s"], ScalePolicy(min=0, idle=90), 1),
        (["--max", "5", "--headroom", "0.5"], ScalePolicy(max=5, headroom=0.5), 1),
        (["--replicas", "4"], None, 4),
    ],
)
def test_a_deploy_says_how_a_function_scales(deploy, memory, flags, scale, wanted):
    code, _, err = deploy(*flags)
    assert code == 0, err
    function = memory.find("add")
    assert (function.scale, function.wanted) == (scale, wanted)
    told = f" ({scale.min} to {scale.max} as needed)" if scale else ""
    assert f"{wanted} replica{'' if wanted == 1 else 's'} of add:1{told}. Call it:" in err


def test_a_deploy_says_what_may_be_done_with_calls(deploy, memory):
    assert deploy("--retries", "3", "--retry-backoff", "1s", "--idempotent")[0] == 0
    assert memory.find("add").calls == CallPolicy(idempotent=True, retries=3, backoff=1.0)
    assert deploy("--max-inflight", "2")[0] == 0
    assert memory.find("add").calls == CallPolicy(max_inflight=2)


def test_a_deploy_says_what_is_fresh_for_each_call(deploy, memory):
    code, _, _ = deploy("--isolation", "process", "--slots", "4", "--ulimit", "as=64m")
    assert code == 0
    assert memory.find("add").isolation == "process"
    settings = memory.inspect("add")["settings"]
    assert (settings["slots"], settings["ulimits"]) == (4, {"as": 64 << 20})


@pytest.mark.parametrize(
    ("flags", "error", "hint"),
    [
        (["--replicas", "2", "--max", "5"], "--replicas and --max exclude", "--min 2"),
        (["--replicas", "2", "--min", "0", "--idle", "1m"], "--min and --idle exclude", ""),
        (["--min", "30"], "min: 30 is more than the maximum of 20", "larger maximum"),
        (["--idle", "soon"], 'idle: "soon" is no duration', "`90`"),
        (["--max", "0"], "--max", ""),
        (["--retry-backoff", "0"], "retry-backoff: has to be more than nothing", ""),
        (["--slots", "2"], "slots: a replica with isolation `container`", "--isolation process"),
        (["--isolation", "vm"], "--isolation", ""),
        (["--ulimit", "core=1"], 'ulimit: no limit "core"', "nofile"),
        (["--label", "funker.scale.min=1"], "label: funker.scale.min is set by", "--min"),
    ],
)
def test_flags_that_don_t_fit_are_refused_by_name(deploy, memory, flags, error, hint):
    before = memory.find("add")
    code, _, err = deploy(*flags)
    assert code == 2
    assert error in err
    assert hint in err
    assert memory.find("add") == before


def test_a_number_pins_and_auto_lets_go(typed, deploy, memory):
    deploy("--max", "5")
    code, out, err = typed("scale", "add=8")
    assert (code, out) == (0, "add\n")
    assert "scaled to 8 replicas, and pinned there; `funker scale add=auto` lets it go" in err
    assert (memory.find("add").pinned, memory.find("add").wanted) == (True, 8)

    code, _, err = typed("scale", "add", "auto")
    assert code == 0
    assert "add is scaled by load, between 1 and 5 replicas" in err
    assert not memory.find("add").pinned


def test_a_deploy_lets_go_and_says_so(typed, deploy, memory):
    deploy()
    typed("scale", "add=8")
    code, _, err = deploy()
    assert code == 0
    assert "add was pinned to a number of replicas, and is scaled by itself again" in err
    assert (memory.find("add").pinned, memory.find("add").wanted) == (False, 8)


def test_nothing_is_changed_if_one_of_them_has_no_policy(typed, deploy, memory):
    deploy()
    code, _, err = typed("scale", "add=3", "echo=auto")
    assert code == 2
    assert "echo has a fixed number of replicas, and no policy" in err
    assert "Deploy it without `--replicas`" in err
    assert memory.find("add").wanted == 1
