"""The example stack: `docker stack deploy` alone makes functions, and a web app that calls them."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from docker import DockerClient

#: Seconds that a web app may take from its service's creation to its first answer.
START = 60.0

#: Another stack with a function `price`, on the network of the first. It says little.
RIVAL = """
version: "3.8"
services:
  price:
    image: ${PRICE_IMAGE}
    networks: [shop]
    deploy:
      endpoint_mode: dnsrr
      labels: {funker.function: "true"}
      restart_policy: {condition: any, delay: 0s}
networks:
  shop: {external: true, name: "${NETWORK}"}
"""

CALL = """
import json, sys, funker

name, arguments = map(json.loads, sys.argv[1:])
try:
    print(json.dumps(funker.function(name, deadline=30)(**arguments)))
except funker.CallError as error:
    print(json.dumps({"code": error.code, "message": error.message}))
"""

#: Ends when each function has a replica that waits.
UNTIL_IDLE = """
import json, sys, time
from funker.rpc.direct import Direct

direct = Direct()
for name in json.loads(sys.argv[1]):
    while direct.probe(name, patience=1).state != "idle":
        time.sleep(0.05)
print("true")
"""

Names = Callable[..., str]


@dataclass(frozen=True)
class Shop:
    """The stack, deployed."""

    name: str
    address: str
    images: dict[str, str]

    @property
    def network(self) -> str:
        return f"{self.name}_default"

    def get(self, path: str, **query: object) -> tuple[int, str]:
        """Status and text of a page of the web app."""
        url = f"http://{self.address}{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def shop(
    funker: Any,
    examples: Path,
    engine: DockerClient,
    docker_command: Callable[..., None],
    module_names: Names,
) -> Shop:
    name, stack = module_names("shop"), examples / "stack"
    images = {each: f"test/{module_names(each)}:1" for each in ("price", "receipt", "web")}
    for each in ("price", "receipt"):
        funker.ok("build", stack / each, "--name", module_names(each), "-t", images[each])
    docker_command("build", "-t", images["web"], stack / "web")
    variables = {f"{each.upper()}_IMAGE": image for each, image in images.items()}
    # Port 0: any that is free on the node.
    docker_command(
        "stack", "deploy", "-c", stack / "compose.yaml", name, **variables, SHOP_PORT="0"
    )
    return Shop(name, web_address(engine, f"{name}_web"), images)


@pytest.fixture(scope="module")
def caller(shop: Shop, start_caller: Callable[..., Any]) -> Any:
    return start_caller(shop.network)


@pytest.fixture
def rival(
    shop: Shop, caller: Any, docker_command: Callable[..., None], names: Names
) -> Iterator[str]:
    """Another stack's name, while its function is up on the shop's network."""
    name = names("rival")
    variables = {"PRICE_IMAGE": shop.images["price"], "NETWORK": shop.network}
    docker_command("stack", "deploy", "-c", "-", name, stdin=RIVAL, **variables)
    caller.run(UNTIL_IDLE, [f"{name}_price", f"{shop.name}_price"])
    yield name
    docker_command("stack", "rm", name)


def web_address(engine: DockerClient, service: str) -> str:
    """HOST:PORT of the web app, once it answers."""
    node = engine.info()["Swarm"]["NodeAddr"]
    give_up = time.monotonic() + START
    pause = threading.Event()
    while time.monotonic() < give_up:
        for container in engine.containers.list(filters={"name": f"{service}."}):
            (binding, *_) = container.ports.get("8000/tcp") or [None]
            if binding is not None and answers(address := f"{node}:{binding['HostPort']}"):
                return address
        pause.wait(0.1)
    raise TimeoutError(f"{service} doesn't answer")


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def test_a_web_app_calls_two_functions_by_their_short_names(shop: Shop) -> None:
    assert shop.get("/receipt", item="tea", count=3) == (200, "3 x tea            9.60\n")
    assert shop.get("/receipt", item="cake", count=12) == (200, "12 x cake          49.50\n")


def test_visitors_at_the_same_time_get_each_their_own_receipt(shop: Shop) -> None:
    counts = range(1, 5)
    with ThreadPoolExecutor(len(counts)) as visitors:
        receipts = visitors.map(lambda n: shop.get("/receipt", item="coffee", count=n), counts)

    assert [text.split() for _, text in receipts] == [
        [str(n), "x", "coffee", f"{2.8 * n:.2f}"] for n in counts
    ]


def test_what_a_function_raises_reaches_the_web_apps_visitor(shop: Shop) -> None:
    assert shop.get("/receipt", item="rum") == (
        400,
        "ValueError: there is no rum; there is cake, coffee, tea\n",
    )


def test_the_command_line_lists_calls_and_inspects_a_stacks_functions(
    shop: Shop, funker: Any
) -> None:
    listed = {item["name"]: item for item in funker.ok("ls", "-o", "json").json}
    assert {f"{shop.name}_price", f"{shop.name}_receipt"} <= listed.keys()
    assert f"{shop.name}_web" not in listed
    assert listed[f"{shop.name}_price"]["stack"] == shop.name
    assert listed[f"{shop.name}_price"]["warnings"] == []

    assert funker.ok("call", f"{shop.name}_price", "item=tea").stdout == "320\n"
    assert funker.ok("call", "price", "item=tea", "count=2").stdout == "640\n"

    (shown,) = funker.ok("inspect", "price").json
    assert shown["name"] == f"{shop.name}_price"
    assert shown["networks"] == [shop.network]
    # Its image is in no registry, so it has no digest. Else the file lacks nothing.
    assert [advice["lines"] for advice in shown["advice"]] == [
        f"image: {shop.images['price']}@sha256:..."
    ]


def test_the_command_line_leaves_a_stacks_function_to_its_stack(shop: Shop, funker: Any) -> None:
    refused = funker("rm", "-y", f"{shop.name}_price")

    assert refused.code == 2
    assert f"docker stack rm {shop.name}" in refused.stderr


def test_callers_use_the_full_name_or_the_short_one(shop: Shop, caller: Any) -> None:
    for name in ("price", f"{shop.name}_price"):
        assert caller.run(CALL, name, {"item": "cake", "count": 2}) == 900


def test_a_short_name_that_fits_two_functions_is_ambiguous_and_the_full_ones_are_not(
    shop: Shop, rival: str, caller: Any, funker: Any
) -> None:
    full_names = sorted([f"{shop.name}_price", f"{rival}_price"])

    refused = funker("call", "price", "item=tea")
    assert refused.code == 2
    assert f'ambiguous_function: "price" fits {", ".join(full_names)}' in refused.stderr
    answer = caller.run(CALL, "price", {"item": "tea"})
    assert answer["code"] == "ambiguous_function"
    assert all(name in answer["message"] for name in full_names)
    status, text = shop.get("/receipt", item="tea")
    assert (status, text[:20]) == (503, "ambiguous_function: ")

    for name in full_names:
        assert funker.ok("call", name, "item=tea").stdout == "320\n"
        assert caller.run(CALL, name, {"item": "tea"}) == 320


def test_inspect_says_what_a_bare_stack_file_lacks(rival: str, funker: Any) -> None:
    (shown,) = funker.ok("inspect", f"{rival}_price").json

    lines = "\n".join(advice["lines"] for advice in shown["advice"])
    assert "stop_grace_period: 105s" in lines
    assert "order: start-first" in lines
    assert 'FUNKER_FUNCTION: "{{.Service.Name}}"' in lines
