"""The examples, each deployed as its README says and called with real input."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.services import Service
from docker.types import (
    EndpointSpec,
    NetworkAttachmentConfig,
    RestartPolicy,
    SecretReference,
)

from funker.images.builder import DEFAULT_BASE

BASE = os.environ.get("FUNKER_BASE") or DEFAULT_BASE

REDIS = f"""
FROM {BASE}
RUN apt-get update && apt-get install -y --no-install-recommends redis-server
"""
#: Its data is nobody's: the container is gone after the test.
SERVE = (
    'exec redis-server --save "" --dir /tmp --bind 0.0.0.0 '
    '--requirepass "$(cat /run/secrets/guestbook_password)"'
)

WORDS = ["the", "Sea", "sea", "wind", "naïve", "Straße", "don't", "1851", "пила", "whale"]

Names = Callable[..., str]
Pixel = tuple[int, int, int]


class Example:
    """An example that is deployed."""

    def __init__(self, name: str, funker: Any) -> None:
        self.name = name
        self._funker = funker

    def __call__(self, *words: str | Path, **options: Any) -> Any:
        """What `funker call NAME WORDS` does, which has to succeed."""
        return self._funker.ok("call", self.name, *words, **options)


@pytest.fixture(scope="module")
def deploy(funker: Any, examples: Path, module_names: Names) -> Callable[..., Example]:
    def run(example: str, *flags: str) -> Example:
        name = module_names(example)
        funker.ok("deploy", examples / example, name, *flags)
        return Example(name, funker)

    return run


@pytest.fixture(scope="module")
def wordcount(deploy: Callable[..., Example]) -> Example:
    return deploy("wordcount", "--replicas", "4")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A text of 4 MiB in a file, and what there is to count in it."""
    chance = random.Random(1851)
    lines, counts, size = [], Counter[str](), 0
    while size < 4 * 1024 * 1024:
        words = chance.choices(WORDS, weights=range(1, 11), k=12)
        counts.update(word.casefold() for word in words)
        lines.append(", ".join(words) + ".\n")
        size += len(lines[-1].encode())
    path = tmp_path_factory.mktemp("books") / "book.txt"
    path.write_text("".join(lines))
    return path, {"lines": len(lines), "words": 12 * len(lines), "counts": counts}


def test_add_adds(deploy: Callable[..., Example]) -> None:
    add = deploy("add")

    assert add("x=1", "y=2").stdout == "3\n"
    assert add("x=0.5", "y=-2").stdout == "-1.5\n"


def test_wordcount_counts_the_words_of_megabytes(
    wordcount: Example, book: tuple[Path, dict[str, Any]]
) -> None:
    path, expected = book

    answer = wordcount("-d", f"@{path}").json

    assert answer == expected
    assert list(answer["counts"])[:3] == [word for word, _ in expected["counts"].most_common(3)]


def test_wordcount_takes_what_comes_through_a_pipe(wordcount: Example) -> None:
    answer = wordcount("-H", "text/plain", stdin=b"to be\nor not to be\n").json

    assert answer == {"lines": 2, "words": 6, "counts": {"be": 2, "to": 2, "not": 1, "or": 1}}


def test_thumbnail_turns_a_large_jpeg_into_a_small_png(
    deploy: Callable[..., Example], examples: Path
) -> None:
    picture = examples / "thumbnail" / "picture.jpg"
    assert picture.read_bytes()[:3] == b"\xff\xd8\xff"

    png = deploy("thumbnail")("-d", f"@{picture}").stdout_bytes

    rows = pixels(png)
    # It was taken upright, 720 by 960, and lies on its side in the file.
    assert (len(rows[0]), len(rows)) == (96, 128)
    red, green, blue = rows[5][48]
    assert blue > 180 > green > red, "the sky is above"
    red, green, blue = rows[122][48]
    assert green > max(red, blue) + 20, "the grass is below"
    red, green, blue = rows[52][67]
    assert red > green > blue > 100, "the sun is on the right"


def test_fanout_has_a_text_counted_in_parts_by_another_function(
    deploy: Callable[..., Example], wordcount: Example, book: tuple[Path, dict[str, Any]]
) -> None:
    path, expected = book
    fanout = deploy("fanout", "--env", f"WORDCOUNT={wordcount.name}", "--env", "PARTS=6")

    assert fanout("-d", f"@{path}").json == expected


def test_guestbook_reaches_a_database_on_another_network_with_a_secret(
    deploy: Callable[..., Example], engine: DockerClient, module_names: Names
) -> None:
    secret, network = module_names("password"), module_names("guestbook")
    engine.secrets.create(name=secret, data=b"open sesame\n")
    engine.networks.create(network, driver="overlay", scope="swarm")
    database = start_redis(engine, module_names("redis"), secret, network)

    guestbook = deploy(
        *("guestbook", "--secret", f"source={secret},target=guestbook_password"),
        *("--network", network, "--env", f"REDIS_HOST={database.name}"),
    )

    assert guestbook().json == []
    assert guestbook("name=Ada", "text=Nice place!").json == ["Ada: Nice place!"]
    assert guestbook("name=Alan").json == ["Alan: was here", "Ada: Nice place!"]


def test_program_serves_with_its_own_dockerfile(deploy: Callable[..., Example]) -> None:
    add = deploy("program")

    assert [add(f"x={x}", "y=2").stdout for x in (1, 2)] == ["3\n", "4\n"]


def test_exec_wc_is_a_program_whose_log_tells_its_call(
    funker: Any, deploy: Callable[..., Example]
) -> None:
    count = deploy("exec-wc")

    answer = count("-H", "text/plain", stdin=b"to be\nor not\n").json

    assert answer == {"lines": 2, "words": 4, "bytes": 13}
    (line,) = (
        json.loads(line) for line in funker.ok("logs", count.name, "--json").stdout.splitlines()
    )
    assert line["text"] == f"counting text/plain for the call {line['call']}"
    assert funker.ok("logs", count.name, "--call", line["call"]).stdout == f"{line['text']}\n"


def test_node_markdown_uses_its_library(deploy: Callable[..., Example]) -> None:
    markdown = deploy("node-markdown")

    assert markdown("markdown=*hello*").stdout == "<p><em>hello</em></p>\n"


def start_redis(engine: DockerClient, name: str, secret: str, network: str) -> Service:
    """The database, as Debian has it, under its name on the network."""
    recipe = io.BytesIO(REDIS.encode())
    image, _ = engine.images.build(fileobj=recipe, tag=f"test/{name}:1", rm=True)
    (found,) = engine.secrets.list(filters={"name": secret})
    service: Service = engine.services.create(
        image.id,
        command=["sh", "-c", SERVE],
        name=name,
        networks=[NetworkAttachmentConfig(network)],
        secrets=[SecretReference(found.id, secret, filename="guestbook_password")],
        endpoint_spec=EndpointSpec(mode="dnsrr"),
        restart_policy=RestartPolicy(condition="any"),
        stop_grace_period=0,
    )
    return service


def pixels(png: bytes) -> list[list[Pixel]]:
    """The rows of a PNG with 8-bit RGB pixels, after its own specification."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, *kind = struct.unpack(">2I5B", png[16:29])
    assert kind == [8, 2, 0, 0, 0]
    data, at = b"", 8
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        assert zlib.crc32(name + body) == struct.unpack(">I", png[at + 8 + length :][:4])[0]
        data += body if name == b"IDAT" else b""
        at += 12 + length
    raw, stride = zlib.decompress(data), 3 * width
    assert len(raw) == height * (1 + stride)
    rows, above = [], [0] * stride
    for start in range(0, len(raw), 1 + stride):
        row: list[int] = []
        for i, byte in enumerate(raw[start + 1 : start + 1 + stride]):
            left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            row.append((byte + predicted(raw[start], left, above[i], corner)) % 256)
        rows.append([(row[i], row[i + 1], row[i + 2]) for i in range(0, stride, 3)])
        above = row
    return rows


def predicted(how: int, left: int, above: int, corner: int) -> int:
    """What a PNG's filter number `how` expects a byte to be."""
    paeth = min((left, above, corner), key=lambda neighbour: abs(left + above - corner - neighbour))
    return (0, left, above, (left + above) // 2, paeth)[how]
