"""The few requests of the Docker API that the lab needs, over an engine's socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from private_engine.errors import LabError

#: Seconds without a byte. Importing an image says nothing until it is done.
TIMEOUT = 300


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    engine: Path,
    method: str,
    path: str,
    body: dict[str, Any] | IO[bytes] | http.client.HTTPResponse | None = None,
    **query: str,
) -> bytes:
    """The answer's body. Raises LabError if the engine refuses, OSError if there is none."""
    with_query = f"{path}?{urlencode(query)}" if query else path
    if isinstance(body, dict):
        data: Any = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
    else:
        data, headers = body, {"Content-Type": "application/x-tar"}
    connection = _Connection(engine, TIMEOUT)
    try:
        streamed = data is not None and not isinstance(data, bytes)
        connection.request(method, with_query, data, headers, encode_chunked=streamed)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        raise LabError(f"the engine at {engine} refused {method} {path}: {answer.decode()}")
    return answer


def get(engine: Path, path: str) -> Any:
    return json.loads(request(engine, "GET", path))


def answers(engine: Path) -> bool:
    """Whether an engine listens there."""
    connection = _Connection(engine, timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def copy_image(image: str, source: Path, target: Path) -> None:
    """From engine to engine, so that the image has the same ID on both."""
    connection = _Connection(source, TIMEOUT)
    try:
        connection.request("GET", f"/images/{image}/get")
        response = connection.getresponse()
        if response.status != 200:
            raise LabError(f"the engine at {source} doesn't give {image}: {response.read()!r}")
        request(target, "POST", "/images/load", response)
    finally:
        connection.close()
