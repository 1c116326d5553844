"""From a handler's name to a callable, and from bytes to its arguments and back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.rpc.messages import BYTES, JSON, TEXT
from funker_runtime import loader
from funker_runtime.loader import Handler, HandlerError, load

WriteModule = Callable[..., None]


def invoke(handler: Handler, content_type: str, body: bytes) -> tuple[str, bytes]:
    return loader.invoke(handler, {"content_type": content_type}, body)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write modules into the directory in which the replica runs; all are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    known, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, *, name: str = "handler.py") -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) is None or str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    sys.path_importer_cache.clear()


# Names


def test_a_handler_is_found_in_the_working_directory(module: WriteModule) -> None:
    module("def handle(x, y): return x + y")
    assert load("handler:handle")(1, 2) == 3


def test_a_handler_may_be_in_a_package_and_an_attribute_of_an_object(module: WriteModule) -> None:
    module("", name="shop/__init__.py")
    module("class Api:\n  def add(self, x): return x\napi = Api()", name="shop/web.py")
    assert load("shop.web:api.add")(5) == 5


def test_a_handler_may_be_a_class_or_another_callable_object(module: WriteModule) -> None:
    module(
        "class Handler:\n  def __call__(self, x): return x * 2\nhandle = Handler()\nmake = dict\n"
    )
    assert load("handler:handle")(4) == 8
    assert load("handler:make")(x=1) == {"x": 1}


@pytest.mark.parametrize("name", ["", "handler", ":", "handler:", ":handle", "handler.handle"])
def test_a_name_of_another_form_is_explained(name: str) -> None:
    with pytest.raises(HandlerError, match=f"handler '{name}' isn't of the form module:callable"):
        load(name)


def test_a_module_that_isnt_there_is_named_with_the_directory(
    module: WriteModule, tmp_path: Path
) -> None:
    with pytest.raises(HandlerError) as caught:
        load("handler:handle")
    assert str(caught.value) == (
        f"handler 'handler:handle': there is no module 'handler' in {tmp_path}"
    )


def test_a_package_that_lacks_the_module_is_told_apart(module: WriteModule) -> None:
    module("", name="shop/__init__.py")
    with pytest.raises(HandlerError, match=r"there is no module 'shop\.web'"):
        load("shop.web:handle")


def test_a_module_that_the_handler_lacks_is_the_handlers_own_error(module: WriteModule) -> None:
    module("import no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        load("handler:handle")


def test_whatever_the_module_raises_is_passed_on(module: WriteModule) -> None:
    module("raise RuntimeError('no licence')")
    with pytest.raises(RuntimeError, match="no licence"):
        load("handler:handle")
    module("def handle(:", name="broken.py")
    with pytest.raises(SyntaxError):
        load("broken:handle")


def test_an_attribute_that_isnt_there_is_named(module: WriteModule) -> None:
    module("api = object()")
    with pytest.raises(HandlerError, match="handler 'handler:handel': handler has no 'handel'"):
        load("handler:handel")
    with pytest.raises(HandlerError, match=r"handler has no 'api\.handle'"):
        load("handler:api.handle")


def test_what_cant_be_called_is_no_handler(module: WriteModule) -> None:
    module("handle = 3")
    with pytest.raises(HandlerError, match="handler 'handler:handle' is a int, not callable"):
        load("handler:handle")


# Arguments


def seen(*args: Any, **kwargs: Any) -> list[Any]:
    """A handler that answers what it was given."""
    return [[repr(arg) for arg in args], kwargs]


def given_to_handler(content_type: str, body: bytes) -> Any:
    answered, answer = invoke(seen, content_type, body)
    assert answered == JSON
    return json.loads(answer)


@pytest.mark.parametrize(
    ("content_type", "body", "args", "kwargs"),
    [
        (JSON, b'{"x":1,"y":[2]}', [], {"x": 1, "y": [2]}),
        (JSON, b"{}", [], {}),
        (JSON, b"", [], {}),
        (JSON, b'{"not an identifier":1}', [], {"not an identifier": 1}),
        (JSON, b"3", ["3"], {}),
        (JSON, b"[1,2]", ["[1, 2]"], {}),
        (JSON, b'"text"', ["'text'"], {}),
        (JSON, b"null", ["None"], {}),
        ("application/json; charset=utf-8", '"ü"'.encode(), ["'ü'"], {}),
        (BYTES, b"{}", ["b'{}'"], {}),
        (BYTES, b"", ["b''"], {}),
        (TEXT, b"text", ["b'text'"], {}),
        ("image/jpeg", b"\xff\xd8", ["b'\\xff\\xd8'"], {}),
        ("", b"x", ["b'x'"], {}),
    ],
)
def test_a_body_becomes_arguments(
    content_type: str, body: bytes, args: list[str], kwargs: dict[str, Any]
) -> None:
    assert given_to_handler(content_type, body) == [args, kwargs]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"{'x':1}", b"[" * 10])
def test_a_body_that_isnt_the_json_that_it_claims_to_be_is_explained(body: bytes) -> None:
    with pytest.raises(ValueError, match="the body isn't valid JSON: "):
        invoke(seen, JSON, body)


def test_arguments_that_the_handler_doesnt_take_are_its_own_error() -> None:
    def add(x: int, y: int) -> int:
        return x + y

    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        invoke(add, JSON, b'{"x":1,"y":2,"z":3}')


def test_what_the_handler_raises_is_passed_on() -> None:
    def handle() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        invoke(handle, JSON, b"{}")


# Answers


@pytest.mark.parametrize(
    ("answer", "content_type", "body"),
    [
        (3, JSON, b"3"),
        (None, JSON, b"null"),
        (True, JSON, b"true"),
        (1.5, JSON, b"1.5"),
        ({"a": [1, None]}, JSON, b'{"a":[1,null]}'),
        ((1, 2), JSON, b"[1,2]"),
        ("Grüße", TEXT, "Grüße".encode()),
        ("", TEXT, b""),
        (b"\x00\xff", BYTES, b"\x00\xff"),
        (bytearray(b"x"), BYTES, b"x"),
        (memoryview(b"xyz")[1:], BYTES, b"yz"),
        (b"", BYTES, b""),
    ],
)
def test_an_answer_becomes_bytes_of_a_type(answer: object, content_type: str, body: bytes) -> None:
    assert invoke(lambda: answer, JSON, b"{}") == (content_type, body)


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({1, 2}, id="a set"),
        pytest.param(object(), id="an object"),
        pytest.param({"at": Path("/")}, id="an object inside"),
        pytest.param({(1, 2): 3}, id="a key that is a tuple"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param([float("inf")], id="infinity"),
        pytest.param(circular(), id="a list in itself"),
        pytest.param(deep(), id="lists nested too deep"),
        pytest.param("\udcff", id="a text that isn't Unicode"),
        pytest.param(iter([1]), id="a generator"),
    ],
)
def test_an_answer_that_cant_be_sent_is_a_type_error_that_says_what_can(answer: object) -> None:
    with pytest.raises(
        TypeError, match=r"^the answer can't be sent \(.*\): return JSON values, str or bytes$"
    ):
        invoke(lambda: answer, JSON, b"{}")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(JSON_VALUES)
def test_any_json_value_goes_in_and_comes_out_the_same(value: Any) -> None:
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [args[0] if args else kwargs]

    content_type, body = invoke(echo, JSON, json.dumps(value).encode())
    assert content_type == JSON
    assert json.loads(body) == [value]


# Coroutines


def test_a_coroutine_function_is_run_to_its_end() -> None:
    async def handle(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert invoke(handle, JSON, b'{"x":1}') == (JSON, b"2")


def test_any_awaitable_answer_is_awaited() -> None:
    class Later:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return b"later"

    assert invoke(lambda: Later(), JSON, b"{}") == (BYTES, b"later")


def test_what_a_coroutine_raises_is_passed_on() -> None:
    async def handle() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        invoke(handle, JSON, b"{}")


def test_tasks_that_a_coroutine_leaves_behind_are_cancelled() -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def handle() -> str:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return task.get_name() and "done"

    assert invoke(handle, JSON, b"{}") == (TEXT, b"done")
    assert cancelled == [True]
