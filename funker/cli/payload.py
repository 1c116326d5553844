"""From the words of `funker call` to a body and its content type, and back to a terminal.

    x=1 name=Ada tags='["a"]'   a JSON object: each value JSON where it parses, else a string
    text=@notes.txt             the value is read from a file, by the same rule
    -d DATA, -d @FILE, -d -     the body itself; `-` and a pipe without arguments are stdin

A body that was given whole is JSON where it parses as JSON (the handler then gets the value), else
text where it is UTF-8, else bytes; a file's suffix decides before its content does.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from funker.cli.failures import UsageError
from funker.rpc.messages import BYTES, JSON, TEXT


class Payload(NamedTuple):
    """A call's body with the content type that tells the runtime how to hand it to the handler."""

    body: bytes
    content_type: str


#: A call without arguments: no keywords.
NOTHING = Payload(b"{}", JSON)


def from_words(words: Sequence[str]) -> Payload:
    """`x=1 y=2` as a JSON object. Raises UsageError for a word that isn't NAME=VALUE."""
    arguments: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(
                f"the argument {word!r} is not NAME=VALUE",
                hint="Name each argument (x=1 y=2), or send one whole value with -d",
            )
        if name in arguments:
            raise UsageError(f"the argument {name!r} was given twice")
        arguments[name] = _value(name, text)
    return Payload(json.dumps(arguments, ensure_ascii=False).encode(), JSON)


def from_data(data: str, *, content_type: str | None = None) -> Payload:
    """The body for `-d DATA` or `-d @FILE`. Raises UsageError for a file that can't be read."""
    if not data.startswith("@"):
        return from_bytes(data.encode("utf-8", "surrogateescape"), content_type=content_type)
    path = Path(data[1:])
    body = _read(path, hint="`-d @FILE` reads a file; `-d DATA` sends the text itself.")
    return from_bytes(body, content_type=content_type or _type_of(path))


def from_bytes(body: bytes, *, content_type: str | None = None) -> Payload:
    """A body as it is; its content type from its content where none is given."""
    return Payload(body, content_type or sniff(body))


def sniff(body: bytes) -> str:
    """JSON where it parses as JSON, else text where it is UTF-8, else bytes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return BYTES
    try:
        _parse_json(text)
    except ValueError:
        return TEXT
    return JSON


def header_type(value: str) -> str:
    """The content type in `-H VALUE`: a bare type, or a header line as curl has it."""
    name, colon, rest = value.partition(":")
    if not colon:
        bare = value.strip()
    elif name.strip().lower() == "content-type":
        bare = rest.strip()
    else:
        raise UsageError(
            f"the header {name.strip()!r} can't be sent: a call has a content type only",
            hint="Write -H image/png, or -H 'Content-Type: image/png'",
        )
    if "/" not in bare:
        raise UsageError(f"{bare!r} is not a content type", hint="For example: -H text/plain")
    return bare


def is_json(content_type: str) -> bool:
    essence = content_type.partition(";")[0].strip().lower()
    return essence == JSON or essence.endswith("+json")


def for_terminal(body: bytes, content_type: str) -> str | None:
    """An answer as a person reads it, ending with a line end; None if it isn't text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    if is_json(content_type):
        text = _pretty(text)
    elif "\x00" in text:
        return None
    return text if text.endswith("\n") else text + "\n"


def for_pipe(body: bytes, content_type: str) -> bytes:
    """An answer as a program reads it: the bytes as they are; JSON is a line."""
    if is_json(content_type) and not body.endswith(b"\n"):
        return body + b"\n"
    return body


def as_value(body: bytes, content_type: str) -> object:
    """An answer as a value for `-o json|yaml`. Raises UsageError if it is neither JSON nor text."""
    try:
        text = body.decode()
        return json.loads(text) if is_json(content_type) else text
    except ValueError:
        raise UsageError(
            f"the answer is {len(body)} bytes of {content_type}, which JSON and YAML can't hold",
            hint="Leave out -o and redirect it to a file",
        ) from None


def _value(name: str, text: str) -> object:
    if text.startswith("@"):
        literal = json.dumps(text, ensure_ascii=False)
        body = _read(Path(text[1:]), hint=f"For the text itself: {name}='{literal}'")
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise UsageError(
                f"{name}={text}: the file is not UTF-8 text",
                hint=f"Send bytes as the whole body: -d {text}",
            ) from None
    try:
        return _parse_json(text)
    except ValueError:
        return text


def _parse_json(text: str) -> object:
    """Standard JSON only: Python's parser would take NaN and Infinity too."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _read(path: Path, *, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {str(path)!r}: {error.strerror}", hint=hint) from error


def _type_of(path: Path) -> str | None:
    # Python's own table only: the machine's mime.types would make answers differ by machine.
    known, encoding = mimetypes.MimeTypes().guess_type(path.name)
    return None if encoding else known
