"""A function in JavaScript, from its source to its answers on the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.swarm

HANDLER = """
import {left} from 'pad'

export async function handle({x, y}) {
  console.log('adding', x)
  if (y === undefined) throw new RangeError('y is missing')
  return {sum: x + y, shown: left(x)}
}
"""


def test_a_handler_in_javascript_serves_with_what_its_package_json_asks_for(
    funker: Any, name: str, tmp_path: Path
) -> None:
    pad = tmp_path / "pad"
    pad.mkdir()
    (pad / "package.json").write_text('{"name": "pad", "version": "1.0.0", "type": "module"}')
    (pad / "index.js").write_text("export const left = (x) => String(x).padStart(3)\n")
    (tmp_path / "handler.mjs").write_text(HANDLER)
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": {"pad": "file:./pad"}}))
    (tmp_path / ".dockerignore").write_text("node_modules\n")

    funker.ok("deploy", tmp_path, name)

    assert funker.ok("call", name, "x=1", "y=2").json == {"sum": 3, "shown": "  1"}
    failed = funker("call", name, "x=4")
    assert failed.code == 1
    assert "RangeError: y is missing" in failed.stderr
    lines = [json.loads(line) for line in funker.ok("logs", name, "--json").stdout.splitlines()]
    told = {line["text"]: line["call"] for line in lines if line["text"].startswith("adding")}
    assert set(told) == {"adding 1", "adding 4"}
    assert funker.ok("logs", name, "--call", told["adding 1"]).stdout == "adding 1\n"

    (tmp_path / "handler.mjs").write_text("export function handle( {")
    broken = funker("deploy", tmp_path, name)
    assert broken.code != 0
    assert "SyntaxError" in broken.stderr
