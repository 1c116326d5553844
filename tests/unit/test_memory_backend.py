"""The backend for users' tests: same answers, same errors, nothing running."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from funker.backends.base import Backend, ControlPlane, DeployFailed, NoController
from funker.backends.memory import Memory
from funker.rpc.client import invoke
from funker.rpc.errors import (
    Cancelled,
    DeadlineExceeded,
    FunctionError,
    FunctionNotFound,
    FunctionTimeout,
)
from funker.spec import FunctionSpec

ID = "sha256:" + "a" * 64


def add(x: int, y: int) -> int:
    return x + y


async def later(x: int) -> dict[str, int]:
    return {"x": x}


def test_a_callable_is_called_by_name_and_remembered() -> None:
    backend = Memory({"add": add})
    assert backend.call("add", x=1, y=2) == 3
    assert backend.calls == [("add", {"x": 1, "y": 2})]


def test_it_is_a_backend_like_the_others() -> None:
    backend: Backend = Memory({"add": add})
    assert [status.name for status in backend.functions()] == ["add"]
    assert backend.find("add").running == 1
    assert backend.inspect("add")["name"] == "add"
    assert list(backend.logs("add")) == []
    backend.remove("add")
    assert backend.functions() == []


@pytest.mark.parametrize(
    ("handler", "kwargs", "answer"),
    [
        (lambda text: text.upper(), {"text": "a"}, "A"),
        (lambda: b"\x00", {}, b"\x00"),
        (later, {"x": 1}, {"x": 1}),
        (lambda: None, {}, None),
        (lambda: (1, 2), {}, [1, 2]),  # as after a journey over the wire
    ],
)
def test_values_are_what_a_real_function_would_give(
    handler: Any, kwargs: dict[str, Any], answer: Any
) -> None:
    assert Memory({"f": handler}).call("f", **kwargs) == answer


def test_bytes_and_json_that_is_no_object_are_the_one_argument() -> None:
    backend = Memory({"echo": lambda value: value})
    with backend.transport() as transport:
        raw = invoke(transport, "echo", b"\x01", "application/octet-stream")
        listed = invoke(transport, "echo", b"[1]", "application/json")
    assert (raw.body, listed.body) == (b"\x01", b"[1]")


def test_what_a_handler_raises_arrives_typed_with_its_traceback() -> None:
    with pytest.raises(FunctionError, match="division by zero") as caught:
        Memory({"div": lambda x: 1 / x}).call("div", x=0)
    assert caught.value.exception_type == "ZeroDivisionError"
    assert "Traceback" in caught.value.traceback
    assert caught.value.retry_safe is False


def test_an_answer_that_can_t_be_sent_is_the_handler_s_error() -> None:
    with pytest.raises(FunctionError):
        Memory({"f": lambda: object()}).call("f")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(FunctionNotFound) as caught:
        Memory({"add": add}).call("ad", x=1, y=2)
    assert caught.value.hint == "Did you mean add?"


def test_time_outs_deadlines_and_cancelling_end_a_call() -> None:
    release, cancel = threading.Event(), threading.Event()
    backend = Memory({"wait": lambda: release.wait(10)})
    try:
        with backend.transport() as transport:
            with pytest.raises(FunctionTimeout):
                invoke(transport, "wait", b"{}", timeout=0.01, deadline=5)
            with pytest.raises(DeadlineExceeded):
                invoke(transport, "wait", b"{}", deadline=0.01)
            cancel.set()
            with pytest.raises(Cancelled):
                invoke(transport, "wait", b"{}", cancel=cancel)
    finally:
        release.set()


def test_deploying_says_what_changed_and_what_restarts() -> None:
    backend = Memory()
    spec = FunctionSpec(name="add", image=ID)
    with pytest.raises(DeployFailed, match="no handler"):
        backend.deploy(spec)
    backend.provide("add", add)
    said: list[str] = []
    steps = [spec, spec, spec.changed(replicas=3), spec.changed(replicas=3, timeout=5)]
    done = [backend.deploy(step, progress=said.append) for step in steps]
    assert [deployment.outcome for deployment in done] == [
        "created",
        "unchanged",
        "updated",
        "updated",
    ]
    assert [deployment.restarted for deployment in done] == [True, False, False, True]
    assert said
    assert backend.find("add").wanted == 3


def test_a_ping_tells_whether_there_is_a_function() -> None:
    with Memory({"add": add}).transport() as transport:
        assert transport.ping("add").state == "idle"
        assert transport.ping("sub").state == "absent"


def test_scaling_and_another_image_change_nothing_else() -> None:
    backend = Memory({"add": add})
    before = backend.inspect("add")["settings"]
    backend.scale("add", 3)
    deployment = backend.set_image("add", ID, "funker/add:1")
    assert (deployment.outcome, deployment.image) == ("updated", "funker/add:1")
    after = backend.inspect("add")["settings"]
    assert isinstance(before, dict)
    assert after == before | {"replicas": 3, "image": ID, "image_name": "funker/add:1"}
    with pytest.raises(FunctionNotFound):
        backend.scale("ad", 1)


def test_the_controller_answers_between_up_and_down() -> None:
    backend = Memory({"add": add})
    with pytest.raises(NoController):
        backend.controller()
    assert backend.down() == []
    assert backend.up(ControlPlane()) != []
    assert backend.up(ControlPlane()) == []
    with backend.controller() as controller:
        assert controller.query("status")["functions"]["add"]["free"] == 1
    assert backend.down() != []
    with pytest.raises(NoController):
        backend.controller()


def test_the_controller_tells_what_became_of_calls() -> None:
    backend = Memory({"div": lambda x: 1 / x, "add": add})
    backend.call("div", x=1)
    backend.call("add", x=1, y=2)
    with pytest.raises(FunctionError) as caught:
        backend.call("div", x=0)
    backend.up(ControlPlane())
    with backend.controller() as controller:
        newest, *_ = records = controller.query("calls", function="div")
        assert [record["outcome"] for record in records] == ["function_error", "ok"]
        assert newest["id"] == caught.value.id
        assert newest["message"] == "ZeroDivisionError: division by zero"
        assert controller.query("call", id=newest["id"]) == newest
        assert controller.query("call", id="none") is None
        assert len(controller.query("calls")) == 3
        assert len(controller.query("calls", limit=2)) == 2
        div = controller.query("status")["functions"]["div"]
        assert (div["calls"], div["errors"]) == (2, 1)


def test_a_call_that_runs_is_told_as_such() -> None:
    started, release = threading.Event(), threading.Event()

    def wait() -> bool:
        started.set()
        return release.wait(10)

    backend = Memory({"wait": wait})
    backend.up(ControlPlane())
    caller = threading.Thread(target=backend.call, args=("wait",))
    caller.start()
    try:
        assert started.wait(10)
        with backend.controller() as controller:
            state = controller.query("status")["functions"]["wait"]
            assert (state["free"], state["busy"]) == (0, 1)
            (replica,) = state["replicas"]
            (id,) = replica["calls"]
            assert controller.query("call", id=id)["outcome"] == "running"
    finally:
        release.set()
        caller.join()
