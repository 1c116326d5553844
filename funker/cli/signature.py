"""How to call a function, read from its handler's source without running it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from funker.images.source import Source


class Example(NamedTuple):
    """One call, as a command and as a line of Python."""

    command: str
    python: str


def example(name: str, source: Source | None) -> Example:
    """An example call of the function `name`; a general one where the source doesn't tell."""
    arguments = _arguments(source) if source else None
    takes_a_body = source is not None and source.runtime == "exec"
    if arguments is None and not takes_a_body:
        return Example(f"funker call {name} x=1 y=2", f'funker.call("{name}", x=1, y=2)')
    if arguments is None or _takes_a_body(arguments):
        return Example(f"funker call {name} -d @FILE", f'funker.function("{name}")(b"...")')
    required = _required(arguments)
    words = "".join(f" {argument}=..." for argument in required)
    keywords = "".join(f", {argument}=..." for argument in required)
    return Example(f"funker call {name}{words}", f'funker.call("{name}"{keywords})')


def _arguments(source: Source) -> ast.arguments | None:
    """What the handler takes, if it is a function of its module."""
    function = source.handler.partition(":")[2]
    for file in source.files:
        if file.path == source.handler_file:
            return _arguments_in(file.location.read_bytes(), function)
    return None


def _arguments_in(text: bytes, function: str) -> ast.arguments | None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # another Python's syntax: the build judges, not we
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            return node.args
    return None


def _takes_a_body(arguments: ast.arguments) -> bool:
    """Whether the handler takes one value that can't be a keyword or is bytes."""
    positional = arguments.posonlyargs + arguments.args
    if len(positional) != 1 or arguments.kwonlyargs:
        return False
    annotation = positional[0].annotation
    is_bytes = isinstance(annotation, ast.Name) and annotation.id == "bytes"
    return is_bytes or bool(arguments.posonlyargs)


def _required(arguments: ast.arguments) -> list[str]:
    positional = arguments.posonlyargs + arguments.args
    names = [argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None:
            names.append(argument.arg)
    return names
