"""What a single Python file says of itself in the comment block that PEP 723 defines. Pure.

    # /// script
    # dependencies = ["pillow==11.0"]
    # ///

`dependencies` become the function's requirements. `requires-python` and tables of other tools are
for the tools that choose an interpreter: here the base image does.
"""

from __future__ import annotations

import re
import tomllib

_BLOCK = re.compile(r"(?m)^# /// script$\n(?P<content>(?:^#(?:| .*)$\n)+)^# ///$")


def dependencies(code: str) -> tuple[str, ...]:
    """The requirements in a file's block, none without one. Raises `ValueError`: what is wrong."""
    blocks = _BLOCK.findall(code.replace("\r\n", "\n"))
    if not blocks:
        return ()
    if len(blocks) > 1:
        raise ValueError("there are two blocks `# /// script`")
    try:
        table = tomllib.loads("\n".join(line[2:] for line in blocks[0].splitlines()))
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"the block `# /// script` is no TOML: {exc}") from exc
    found = table.get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError("dependencies in `# /// script` has to be a list of strings")
    for item in found:
        # A line that begins with a dash would be an option of pip's.
        if not re.fullmatch(r"\s*[A-Za-z0-9][^\n\r]*", item):
            raise ValueError(f"{item!r} in the dependencies of `# /// script` is no requirement")
    return tuple(item.strip() for item in found)
