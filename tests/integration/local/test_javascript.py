"""Functions in JavaScript on the local backend: the runtime, its library and theirs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from funker.backends.local.backend import Local
from funker.backends.local.environments import RequirementsFailed
from funker.backends.local.javascript import NodeMissing
from funker.images.source import read_source
from funker.rpc.errors import FunctionError

BUNDLED = Path(sys.executable).with_name("node")  # scripts/test installs it
NODE = str(BUNDLED) if BUNDLED.exists() else shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node: scripts/test installs it")


@pytest.fixture
def with_node(machine: Any) -> Any:
    """The machine with a Node.js on its PATH."""
    path = os.pathsep.join([str(Path(str(NODE)).parent), machine.environ["PATH"]])
    machine.environ["PATH"] = path
    machine.backend = Local(machine.environ)
    machine.up()
    return machine


def _write(machine: Any, name: str, **files: str) -> Path:
    place: Path = machine.sources / name
    place.mkdir()
    for file, text in files.items():
        (place / file.replace("_", ".")).write_text(text)
    return place


def test_a_handler_in_javascript_serves_and_its_log_tells_its_call(with_node: Any) -> None:
    source = _write(
        with_node,
        "add",
        handler_mjs="""
            export async function handle({x, y}) {
              console.log('adding', x)
              if (y === undefined) throw new RangeError('y is missing')
              return x + y
            }
        """,
    )
    with_node.deploy_source(source)
    assert with_node.call(x=1, y=2) == 3
    with pytest.raises(FunctionError, match="RangeError: y is missing"):
        raise with_node.call_later(x=4)()
    with_node.until(lambda: len(list(with_node.backend.logs("add"))) >= 2, "both lines")
    lines = list(with_node.backend.logs("add"))
    assert {"adding 1", "adding 4"} <= {line.text for line in lines}
    assert all(len(line.call) == 32 for line in lines if line.text.startswith("adding"))


def test_what_package_json_asks_for_is_installed(with_node: Any) -> None:
    library = _write(
        with_node,
        "twice",
        package_json=json.dumps({"name": "twice", "version": "1.0.0", "main": "index.js"}),
        index_js="module.exports = (value) => 2 * value\n",
    )
    source = _write(
        with_node,
        "double",
        handler_js="const twice = require('twice'); exports.handle = ({x}) => twice(x)\n",
        package_json=json.dumps({"dependencies": {"twice": f"file:{library}"}}),
    )
    with_node.deploy_source(source, "double")
    assert with_node.call("double", x=4) == 8

    (source / "package.json").write_text(json.dumps({"dependencies": {"no": "file:./no.tgz"}}))
    with pytest.raises(RequirementsFailed, match="can't be installed") as caught:
        with_node.backend.prepare(read_source(source))
    assert caught.value.output


def test_without_a_node_it_is_told(machine: Any, tmp_path: Path) -> None:
    backend = Local({**machine.environ, "PATH": str(tmp_path)})
    source = _write(machine, "add", handler_js="exports.handle = () => 1\n")
    with pytest.raises(NodeMissing, match="there is no `node` on PATH"):
        backend.prepare(read_source(source))
