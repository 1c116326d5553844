"""What a handler may be, what it is given, and what it may return."""

from __future__ import annotations

import contextlib
import sys

import pytest

import funker
from funker.rpc.messages import BYTES, JSON, TEXT, Accept, Ack, Error, Result

LIMIT = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def repeats(serve_all):
    """Answers with the arguments that it is given."""
    return serve_all("def handle(*args, **kwargs): return f'{args} {kwargs}'", name="repeats")


@pytest.fixture(scope="module")
def returns(serve_all):
    """Returns the value of an expression."""
    code = """
        self_containing = []
        self_containing.append(self_containing)
        nested = []
        for _ in range(100_000):
            nested = [nested]

        def handle(expression):
            return eval(expression)
        """
    return serve_all(code, name="returns")


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"x": 1, "y": [None, True]}, "() {'x': 1, 'y': [None, True]}"),
        ({}, "() {}"),
        ([1, 2], "([1, 2],) {}"),
        ("text", "('text',) {}"),
        (7.5, "(7.5,) {}"),
        (False, "(False,) {}"),
        (b"\x00\xff", "(b'\\x00\\xff',) {}"),
        (b"", "(b'',) {}"),
    ],
)
def test_objects_become_keywords_other_json_one_argument_and_bytes_bytes(repeats, given, seen):
    assert repeats.function()(given) == seen


def test_null_is_an_argument_too(repeats):
    assert repeats.function()(None) == "(None,) {}"


def test_keywords_that_the_client_itself_might_want_go_to_the_handler(serve):
    served = serve("def handle(**kwargs): return kwargs")
    keywords = {"name": 1, "value": 2, "self": 3, "timeout": 4, "address": 5}
    assert served.function()(keywords) == keywords
    assert funker.function(served.name, address=served.address)(name=1, timeout=4) == {
        "name": 1,
        "timeout": 4,
    }


@pytest.mark.parametrize(
    ("content_type", "body", "seen"),
    [
        ("application/json; charset=utf-8", b'{"x": 1}', "() {'x': 1}"),
        (JSON, b"", "() {}"),
        (JSON, None, "() {}"),
        ("image/jpeg", b"{}", "(b'{}',) {}"),
        (BYTES, None, "(b'',) {}"),
    ],
)
def test_the_content_type_decides(repeats, peer, content_type, body, seen):
    caller = peer(repeats)
    call = caller.call(body, content_type=content_type)
    answer = caller.receive(Result, Error)
    assert (answer.content_type, answer.body) == (TEXT, seen.encode())
    caller.send(Ack(id=call.id))


def test_a_body_that_is_not_the_json_it_claims_to_be_is_the_function_s_error(repeats, peer):
    caller = peer(repeats)
    call = caller.call(b'{"x": ')
    error = caller.receive(Error)
    assert (error.id, error.code, error.exception_type) == (call.id, "function_error", "ValueError")
    caller.send(Ack(id=call.id))
    assert repeats() == "() {}"


@pytest.mark.parametrize(
    ("returned", "answer"),
    [
        ("None", None),
        ("{'a': [1, 2.5, 'ä', None]}", {"a": [1, 2.5, "ä", None]}),
        ("'grüße'", "grüße"),
        ("''", ""),
        ("b'\\x00\\xff'", b"\x00\xff"),
        ("bytearray(b'array')", b"array"),
        ("memoryview(b'view')", b"view"),
        ("b''", b""),
        ("(1, 2)", [1, 2]),
    ],
)
def test_json_values_text_and_bytes_come_back_as_they_are(returns, returned, answer):
    assert returns(expression=returned) == answer


@pytest.mark.parametrize(
    "returned",
    [
        "object()",
        "float('nan')",
        "{1, 2}",
        "lambda: 0",
        "'\\ud800'",
        "self_containing",
        "{(1, 2): 3}",
        "nested",
    ],
)
def test_an_answer_that_can_t_be_sent_is_an_error_and_the_next_call_is_served(returns, returned):
    with pytest.raises(funker.FunctionError, match="can't be sent"):
        returns(expression=returned)
    assert returns(expression="'fine'") == "fine"


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        ("handler:handle", "async def handle(x):\n    await asyncio.sleep(0)\n    return x + 1"),
        ("handler:api.add", "class api:\n    @staticmethod\n    def add(x): return x + 1"),
        ("handler:Callable()", ""),
        ("handler:instance", "class C:\n    def __call__(self, x): return x + 1\ninstance = C()"),
        ("package.deep:run", ""),
        (
            "handler:handle",
            "class L: __await__ = asyncio.sleep(0, 42).__await__\n\ndef handle(x): return L()",
        ),
    ],
)
def test_any_callable_by_name_plain_or_async(serve, tmp_path, handler, code):
    package = tmp_path / "path" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "deep.py").write_text("def run(x): return x + 1")
    # A replica with its handler elsewhere: what its interpreter finds is what counts.
    path = f"import sys; sys.path.append({str(tmp_path / 'path')!r})"
    served = serve(
        f"import asyncio, sys\n{code}",
        FUNKER_HANDLER=handler,
        command=[sys.executable, "-c", f"{path}; import funker_runtime; funker_runtime.main()"],
    )
    if handler.endswith("()"):
        with pytest.raises(funker.InitFailed, match="has no 'Callable\\(\\)'"):
            served(x=41)
    else:
        assert served(x=41) == 42


def test_a_handler_may_start_threads_and_event_loops(serve):
    served = serve(
        """
        import asyncio, concurrent.futures, threading

        background = []

        async def count(n):
            return await asyncio.to_thread(lambda: n)

        def handle(n):
            thread = threading.Thread(target=threading.Event().wait)
            thread.start()  # and never joined: it ends with the process
            with concurrent.futures.ThreadPoolExecutor() as pool:
                squares = list(pool.map(lambda i: i * i, range(n)))
            return [asyncio.run(count(n)), sum(squares)]
        """
    )
    assert served(n=10) == [10, 285]
    assert served(n=3) == [3, 5]
    assert served.next_exit().status == 0


def test_a_function_may_call_functions(serve):
    add = serve("def handle(x, y): return x + y", name="add")
    total = serve(
        """
        import funker, os

        async def handle(numbers):
            add = funker.function("add", address=os.environ["ADD"])
            total = 0
            for number in numbers:
                total = await add.aio(x=total, y=number)
            return total
        """,
        name="total",
        ADD=add.address,
    )
    assert total(numbers=[1, 2, 3]) == 6
    assert total.next_exit().status == 0


def test_a_body_at_the_limit_goes_both_ways(serve):
    served = serve("def handle(body): return body[::-1]")
    body = b"a" + b"\0" * (LIMIT - 1)
    assert served(body) == body[::-1]


def test_a_body_over_the_limit_is_refused_before_it_is_sent(serve):
    served = serve("def handle(body): return len(body)")
    with pytest.raises(funker.PayloadTooLarge, match="16777217 bytes, the limit is 16777216") as e:
        served(b"\0" * (LIMIT + 1))
    assert e.value.retry_safe
    assert served(b"\0" * LIMIT) == LIMIT


def test_a_replica_refuses_a_body_over_its_limit_and_stays_free(serve, peer):
    served = serve("def handle(body): return len(body)", FUNKER_MAX_BODY="1000")
    caller = peer(served)
    session = caller.state("idle").session
    call = caller.call(b"\0" * 1001, content_type=BYTES)
    error = caller.receive(Error)
    assert (error.id, error.code, error.retry_safe) == (call.id, "payload_too_large", True)
    assert caller.state("idle").session == session
    caller.call(b"\0" * 1000, content_type=BYTES)
    assert caller.receive(Result).body == b"1000"


def test_a_message_far_over_the_limit_costs_its_sender_the_connection_only(serve, peer):
    served = serve("def handle(body): return len(body)", FUNKER_MAX_BODY="1000")
    caller, flooder = peer(served), peer(served)
    session = caller.state("idle").session
    flooder.call(b"\0" * (3 * 1024 * 1024), content_type=BYTES)
    assert flooder.quiet(0.2)
    assert caller.state("idle").session == session
    caller.call(b"\0" * 10, content_type=BYTES)
    caller.receive(Accept)
    assert caller.receive(Result).body == b"10"


def test_an_answer_over_the_limit_is_an_error_of_its_own(serve):
    served = serve("def handle(n): return b'0' * n", FUNKER_MAX_BODY="1000")
    with pytest.raises(funker.PayloadTooLarge, match="answer has 1001 bytes, the limit is 1000"):
        served(n=1001)
    with contextlib.suppress(funker.CallError):
        assert served(n=1000) == b"0" * 1000
    assert [served.next_exit().status for _ in range(2)] == [0, 0]
