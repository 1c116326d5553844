"""Killing things: a fault gives its caller the right typed error, and the next call is served.

Each of these holds for direct calls and through the router. What holds on every backend is tested
in tests/contract, through the router; here it is for direct calls.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.types import EndpointSpec, RestartPolicy

from funker.backends.base import Transport
from funker.backends.swarm.backend import Swarm
from funker.backends.swarm.engine import connect
from funker.rpc import errors
from funker.rpc.client import decode_value, encode_value, invoke
from funker.rpc.messages import BYTES, MAX_BODY, Call, Error

PROGRAMS = Path(__file__).parent / "programs"
FUNKER = Path(sys.executable).with_name("funker")
#: Seconds. Proves that something ends; a lone replica takes about one to be replaced.
PATIENCE = 60.0
#: Seconds in which a caller hears that its replica has crashed or was lost, and a replica that its
#: caller has. Far below any deadline here.
SOON = 6.0

#: With a client's key file in the variable KEY it goes through the router.
CALL = """
import json, os, sys, funker

if os.environ.get("KEY"):
    os.environ["FUNKER_KEY_FILE"] = "/tmp/client-key"
    with open("/tmp/client-key", "w") as file:
        file.write(os.environ["KEY"])
name, arguments = map(json.loads, sys.argv[1:])
print(json.dumps(funker.call(name, **arguments)))
"""

Names = Callable[..., str]
Events = Callable[..., Iterator[dict[str, Any]]]


class Function:
    """A deployed function, called over one relay that the tests of this module share.

    `key` is the client's key file where calls go through the router, else empty.
    """

    def __init__(
        self, name: str, transport: Transport, engine: DockerClient, *, key: str = ""
    ) -> None:
        self.name = name
        self.transport = transport
        self.key = key
        self._engine = engine

    def __call__(self, value: Any = None, /, **given: Any) -> Any:
        """One call, with options of `invoke` among the handler's keywords."""
        options = {k: given.pop(k) for k in ("timeout", "deadline", "idempotent") if k in given}
        content_type, body = encode_value(given if value is None else value)
        options.setdefault("deadline", PATIENCE)
        result = invoke(self.transport, self.name, body, content_type, **options)
        return decode_value(result.content_type, result.body or b"")

    def until_idle(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while (pong := self.transport.ping(self.name)).state != "idle":
            assert time.monotonic() < give_up, f"still {pong.state}"
            threading.Event().wait(0.05)

    @contextmanager
    def failing(self, expected: type[errors.CallError], *, within: float) -> Iterator[Any]:
        """The body's call raises this error within seconds, and the next call has its answer."""
        self.until_idle()
        started = time.monotonic()
        with pytest.raises(expected) as caught:
            yield caught
        assert time.monotonic() - started < within
        assert caught.value.function == self.name
        self.serves_the_next_call()

    def serves_the_next_call(self) -> None:
        number = secrets.randbelow(1000)
        assert self(act="echo", number=number)["number"] == number

    def where(self, mark: str) -> str:
        """The ID of the container in which the call with this `mark` runs, once it does."""
        label = f"com.docker.swarm.service.name={self.name}"
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            for container in self._engine.containers.list(
                filters={"label": label}, ignore_removed=True
            ):
                if f"{mark} in {container.id[:12]}".encode() in container.logs():
                    return str(container.id)
            threading.Event().wait(0.05)
        raise TimeoutError(f"nobody runs {mark}")


@pytest.fixture(scope="module", params=["direct", "routed"])
def function(
    request: pytest.FixtureRequest, funker: Any, engine: DockerClient, module_names: Names
) -> Iterator[Function]:
    key = ""
    if request.param == "routed":  # after all tests of direct calls: pytest keeps them together
        request.getfixturevalue("control_plane")
        key = funker.ok("keys", "--show", "client").stdout
    name = module_names("faults")
    funker.ok("deploy", PROGRAMS / "faults", name, "--replicas", "3")
    with closing(connect()) as connected, Swarm(connected).transport(name) as transport:
        yield Function(name, transport, engine, key=key)
    if key:
        known = funker.ok("calls", name, "--json").json
        assert known, "nothing went through the router"


directly = pytest.mark.parametrize("function", ["direct"], indirect=True)


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Start something in a thread; its outcome comes later."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


@directly
@pytest.mark.parametrize(
    ("act", "how"), [("abort", "was killed by SIGABRT"), ("exit", "exited with status 3")]
)
def test_a_process_that_dies_is_a_crash_with_its_last_output(
    function: Function, act: str, how: str
) -> None:
    with function.failing(errors.FunctionCrashed, within=SOON) as caught:
        function(act=act)

    assert how in caught.value.message
    assert re.fullmatch(rf"{act} in [0-9a-f]{{12}}\n", caught.value.output_tail)
    assert caught.value.replica.startswith(f"{function.name}.")
    assert not caught.value.retry_safe


@directly
def test_an_endless_loop_ends_at_its_time_out(function: Function) -> None:
    with function.failing(errors.FunctionTimeout, within=1 + SOON) as caught:
        function(act="loop", timeout=1)

    assert "1 s" in caught.value.message
    assert caught.value.output_tail.startswith("loop in ")


@directly
def test_an_endless_loop_ends_at_its_callers_deadline(function: Function) -> None:
    with function.failing(errors.DeadlineExceeded, within=2 + SOON) as caught:
        function(act="loop", deadline=2)

    assert not caught.value.retry_safe


def test_a_container_killed_in_mid_call_is_a_lost_replica(
    function: Function, engine: DockerClient, background: Callable[..., Future[Any]]
) -> None:
    call = background(function, act="sleep", seconds=PATIENCE, mark="doomed")
    engine.containers.get(function.where("doomed")).kill()

    error = call.exception(timeout=SOON)

    assert isinstance(error, errors.ReplicaLost)
    assert not error.retry_safe
    function.serves_the_next_call()


def test_an_idempotent_call_outlives_the_container_that_is_killed_under_it(
    function: Function, engine: DockerClient, background: Callable[..., Future[Any]]
) -> None:
    call = background(function, act="sleep", seconds=3, mark="twice", idempotent=True)
    first = function.where("twice")
    engine.containers.get(first).kill()

    assert call.result(timeout=PATIENCE)["where"] != first[:12]


def test_an_import_error_is_told_to_callers_until_it_is_mended(
    function: Function, engine: DockerClient, name: str
) -> None:
    template = engine.services.list(filters={"name": function.name})[0].attrs["Spec"]
    variables = ["FUNKER_FUNCTION={{.Service.Name}}", "FUNKER_REPLICA={{.Task.Name}}"]
    service = engine.services.create(
        template["TaskTemplate"]["ContainerSpec"]["Image"],
        name=name,
        labels={"funker.function": "true"},
        env=[*variables, "FUNKER_HANDLER=broken:handle"],
        networks=["funker"],
        endpoint_spec=EndpointSpec(mode="dnsrr"),
        restart_policy=RestartPolicy(condition="any", delay=0),
    )
    broken = Function(name, function.transport, engine)

    with pytest.raises(errors.InitFailed, match="a_library_that_is_missing") as caught:
        broken(act="echo", deadline=PATIENCE)

    assert 'File "/app/broken.py", line 3' in caught.value.traceback
    assert caught.value.retry_safe
    service.update(env=variables, fetch_current_spec=True)
    broken.until_idle()
    broken.serves_the_next_call()


@directly
def test_an_answer_that_cannot_be_sent_is_the_functions_error(function: Function) -> None:
    with function.failing(errors.FunctionError, within=SOON) as caught:
        function(act="object")

    assert caught.value.exception_type == "TypeError"
    assert "return JSON values, str or bytes" in caught.value.message


@directly
def test_a_body_at_the_limit_goes_there_and_back(function: Function) -> None:
    body = os.urandom(MAX_BODY)

    assert function(body) == body


@directly
def test_a_body_over_the_limit_is_not_even_sent(function: Function) -> None:
    with function.failing(errors.PayloadTooLarge, within=SOON) as caught:
        function(bytes(MAX_BODY + 1))

    assert caught.value.retry_safe
    assert not caught.value.replica


@directly
def test_a_body_over_the_limit_that_is_sent_all_the_same_is_refused(function: Function) -> None:
    function.until_idle()

    outcome = function.transport.run(
        Call(
            id=secrets.token_hex(16),
            function=function.name,
            deadline_ms=int(PATIENCE * 1000),
            content_type=BYTES,
            body=bytes(MAX_BODY + 1),
        )
    )

    assert isinstance(outcome, Error)
    assert (outcome.code, outcome.retry_safe) == ("payload_too_large", True)
    assert outcome.replica.startswith(f"{function.name}.")
    function.serves_the_next_call()


@directly
def test_an_answer_over_the_limit_is_an_error_instead(function: Function) -> None:
    assert len(function(act="bytes", count=MAX_BODY)) == MAX_BODY
    with function.failing(errors.PayloadTooLarge, within=SOON) as caught:
        function(act="bytes", count=MAX_BODY + 1)

    assert not caught.value.retry_safe


def test_an_unknown_function_is_an_error_with_a_suggestion(function: Function, funker: Any) -> None:
    unknown = function.name.replace("faults", "fault")

    typed = funker("call", unknown)
    assert typed.code == 127
    assert f"Did you mean {function.name}?" in typed.stderr

    started = time.monotonic()
    with pytest.raises(errors.FunctionNotFound, match=unknown) as caught:
        Function(unknown, function.transport, None)(deadline=2)
    assert time.monotonic() - started < 2 + SOON
    assert caught.value.retry_safe
    function.serves_the_next_call()


def test_malformed_frames_are_answered_as_such_and_hurt_nobody(
    function: Function, start_caller: Callable[..., Any]
) -> None:
    function.until_idle()

    seen = start_caller("funker").run((PROGRAMS / "break_rules.py").read_text(), function.name)

    assert seen
    for replica in seen:
        assert replica["states"] == ["idle", "idle"]
        assert replica["same"], "it was replaced"
        for way, answer in replica["answers"].items():
            assert answer == ["ERROR", "protocol_error", None], way
    function.serves_the_next_call()


@pytest.mark.parametrize("kind", ["container", "command"])
def test_a_call_ends_when_its_caller_vanishes(
    function: Function, start_caller: Callable[..., Any], events: Events, kind: str
) -> None:
    label = f"com.docker.swarm.service.name={function.name}"
    ends = events(event="die", label=label)
    with vanishing(kind, function, start_caller) as vanish:
        container = function.where(f"{kind}'s call")
        vanish()
    vanished = time.time()

    ended = next(event for event in ends if event["id"] == container)

    assert ended["time"] - vanished < SOON
    assert ended["Actor"]["Attributes"]["exitCode"] == "0", "it was not left to be killed"
    function.serves_the_next_call()


@contextmanager
def vanishing(
    kind: str, function: Function, start_caller: Callable[..., Any]
) -> Iterator[Callable[[], None]]:
    """A caller whose call sleeps, and the way to kill it."""
    arguments = {"act": "sleep", "seconds": PATIENCE, "mark": f"{kind}'s call"}
    if kind == "container":
        caller = start_caller("funker").container
        words = [json.dumps(word) for word in (function.name, arguments)]
        command = ["python3", "-c", CALL, *words]
        caller.exec_run(command, environment={"KEY": function.key}, detach=True)
        yield caller.kill
    else:
        words = [f"{name}={value}" for name, value in arguments.items()]
        command = [str(FUNKER), "call", function.name, *words]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as typed:
            yield typed.kill


@directly
def test_callers_at_the_same_time_get_each_their_own_outcome(
    function: Function, background: Callable[..., Future[Any]]
) -> None:
    expected = {"abort": errors.FunctionCrashed, "object": errors.FunctionError, "echo": None}
    calls = [
        (act, number, background(function, act=act, number=number))
        for number in range(3)
        for act in expected
    ]

    for act, number, call in calls:
        error = call.exception(timeout=PATIENCE)
        assert type(error) is (expected[act] or type(None))
        if error is None:
            assert call.result()["number"] == number
