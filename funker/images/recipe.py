"""What goes into an image and what the image is called: pure text and hashes, no engine, no disk.

Four recipes (Dockerfiles):

    runtime    FROM the base: tini, pyzmq, the replica's code. Shared by all of a language.
    function   FROM the runtime: Debian packages, then requirements, then the source, so that a
               change to the source alone installs nothing again.
    finish     FROM what a user's own Dockerfile made: the last touches that it needn't know.
    renewed    FROM a function's image whose source isn't at hand: another version of the runtime.

An image's name carries the hash of all that it is made of. Whatever is in the hash rebuilds it
(a patched base, another runtime, another recipe, the source); nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from funker.images import node, python
from funker.images.entry import DEFAULT_HANDLER, Runtime
from funker.images.source import Source, SourceFile
from funker.spec.runtime import VARIABLE, runtime_version

#: Who runs the handler. The number is what counts (and what a secret's `uid=` needs); the name is
#: for programs that look themselves up.
UID = 10001

#: What an image of each language starts.
ENTRYPOINTS = {"python": python.ENTRYPOINT, "node": node.ENTRYPOINT}

LABEL_RUNTIME = "funker.runtime"
LABEL_BASE = "funker.base"
LABEL_PLATFORM = "funker.platform"
LABEL_SOURCE = "funker.source"
LABEL_HANDLER = "funker.handler"
#: What a replica runs: python, exec or node.
LABEL_LANGUAGE = "funker.language"
#: The version of the runtime's files, whatever they were installed on. Replicas tell it as theirs.
LABEL_VERSION = "funker.runtime-version"
#: Of a renewed image: the ID of the one that it was made from.
LABEL_RENEWED_FROM = "funker.renewed-from"

#: Hex digits of a hash in a tag: 48 bits, and labels hold the whole.
TAG_DIGITS = 12

_APT_INSTALL = (
    "apt-get update && DEBIAN_FRONTEND=noninteractive "
    "apt-get install -y --no-install-recommends {} "
    "&& apt-get clean && rm -rf /var/lib/apt/lists/*"
)

_INSTALL_TINI = (
    f"if ! command -v tini > /dev/null; then {_APT_INSTALL.format('tini')}; fi && "
    '{ test -x /usr/bin/tini || ln -s "$(command -v tini)" /usr/bin/tini; }'
)

# Through passwd and not ENV: HOME stays root's own while an image is being built.
_ADD_USER = (
    f"grep -q '^[^:]*:[^:]*:{UID}:' /etc/group || echo 'funker:x:{UID}:' >> /etc/group; "
    f"grep -q '^[^:]*:[^:]*:{UID}:' /etc/passwd "
    f"|| echo 'funker:x:{UID}:{UID}:funker:/tmp:/usr/sbin/nologin' >> /etc/passwd"
)

_OWN_ENTRYPOINT = (
    "Leave ENTRYPOINT out: the runtime calls the handler, or runs the CMD. Only a program that "
    'calls funker.handle(...) needs its own, ENTRYPOINT ["/usr/bin/tini", "--", "python3", "FILE"].'
)


@dataclass(frozen=True)
class Plan:
    """An image to be: its name, its recipe, and the labels that tell how it came to be."""

    tag: str
    recipe: str
    labels: Mapping[str, str]  # of the image and of what it starts from
    alias: str = ""  # where users' own Dockerfiles find a runtime: `FROM funker-python`

    def labelled(self, recipe: str) -> str:
        """The recipe with the labels, in one step. They hold hashes, so no hash holds them."""
        pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in self.labels.items())
        return f"{recipe}LABEL {pairs}\n"


def base_of(runtime: Runtime) -> str:
    """The language of the layer that sources of this runtime are built on."""
    return "node" if runtime == "node" else "python"


def plan_runtime(
    *, base_id: str, platform: str, runtime: Mapping[str, bytes], language: str = "python"
) -> Plan:
    """The shared layer of a language on a base image. `runtime` maps paths to contents."""
    current = runtime_version(runtime)
    recipe = _lines(
        f"FROM {base_id}",
        "USER root",
        f"RUN {_ADD_USER}",
        f"RUN {_INSTALL_TINI}",
        *(node.runtime_lines() if language == "node" else python.runtime_lines()),
        f"ENV {VARIABLE}={current}",
        "WORKDIR /app",
        "STOPSIGNAL SIGTERM",
        "HEALTHCHECK NONE",
        f"ENTRYPOINT {json.dumps(ENTRYPOINTS[language])}",
    )
    files = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in runtime.items())
    version = _hash([recipe, platform, files])
    return Plan(
        tag=f"funker/{language}:{version[:TAG_DIGITS]}",
        recipe=recipe,
        labels={
            LABEL_RUNTIME: version,
            LABEL_VERSION: current,
            LABEL_BASE: base_id,
            LABEL_PLATFORM: platform,
        },
        alias=f"funker-{language}",
    )


def plan_renewed(
    name: str, *, image_id: str, user: str, version: str, language: str = "python"
) -> Plan:
    """The image of a function with the runtime of `version` in place of the one that it has.

    `image_id` and `user` are of the image that it starts from. Its labels stay where these don't
    replace them.
    """
    recipe = _lines(
        f"FROM {image_id}",
        "USER root",
        *(node.renewal_lines() if language == "node" else python.renewal_lines()),
        f"ENV {VARIABLE}={version}",
        f"USER {user or 'root'}",
    )
    return Plan(
        tag=f"{repository(name)}:{renewed_digits(image_id, version)}",
        recipe=recipe,
        labels={LABEL_VERSION: version, LABEL_RENEWED_FROM: image_id},
    )


def renewed_digits(image_id: str, version: str) -> str:
    """The version in a renewed image's name. (Only its labels are known where this is asked.)"""
    return _hash(["renewed", image_id, version])[:TAG_DIGITS]


def plan_function(source: Source, runtime: Plan) -> Plan:
    """A function's image on the runtime.

    With a Dockerfile of its own the recipe is `finish`, without its first line: what it starts
    from is known only when the user's part is built.
    """
    if source.own_dockerfile:
        recipe = finish_recipe(user="", command=source.command, runtime=source.runtime)
    else:
        recipe = _function_recipe(source, runtime.tag)
    version = source_hash(recipe, runtime.labels[LABEL_RUNTIME], source)
    return Plan(
        tag=f"{repository(source.name)}:{version[:TAG_DIGITS]}",
        recipe=recipe,
        labels=dict(runtime.labels)
        | {LABEL_SOURCE: version, LABEL_HANDLER: source.handler}
        # What a Dockerfile of its own makes is known when that is built.
        | ({} if source.own_dockerfile else {LABEL_LANGUAGE: source.runtime}),
    )


def finish_recipe(
    *,
    user: str,
    handler: str = DEFAULT_HANDLER,
    command: Sequence[str] = (),
    runtime: Runtime = "python",
) -> str:
    """The end of an image from a user's Dockerfile, to follow a line `FROM`.

    A user other than root stays; root was the state to install things in.
    """
    owner = user if user.partition(":")[0] not in {"", "root", "0"} else f"{UID}:{UID}"
    return _lines(
        "USER root",
        *(python.compile_lines() if runtime != "node" else []),
        f"USER {owner}",
        "HEALTHCHECK NONE",
        *_handler_lines(handler),
        *_command_lines(command),
    )


def own_image_problem(
    config: Mapping[str, Any], runtime: Plan, source: Source
) -> tuple[str, str] | None:
    """Why what a user's Dockerfile made can't serve calls: the problem and the remedy, or None.

    `config` is the image's, as the engine describes it.
    """
    version = (config.get("Labels") or {}).get(LABEL_RUNTIME)
    if version != runtime.labels[LABEL_RUNTIME]:
        return (
            "the image that the Dockerfile makes does not hold this version of the runtime"
            if version
            else "the image that the Dockerfile makes does not hold the runtime",
            "Begin its last stage with `ARG FUNKER_BASE` and `FROM ${FUNKER_BASE}`.",
        )
    entrypoint = list(config.get("Entrypoint") or [])
    ours = ENTRYPOINTS[base_of(source.runtime)]
    if entrypoint[:2] != ours[:2]:
        return (
            f"the Dockerfile's ENTRYPOINT {json.dumps(entrypoint)} hides the runtime's",
            _OWN_ENTRYPOINT,
        )
    if entrypoint != ours:
        return None
    command = source.command or config.get("Cmd")
    is_node = source.runtime == "node"
    effect = "have no effect" if is_node else f"be run, not {source.handler_file}"
    if command and (source.handler_file or is_node):
        return (
            f"the Dockerfile's CMD {json.dumps(command)} would {effect}",
            "Leave CMD out; or say that the program is meant: --runtime exec.",
        )
    if not command and source.runtime == "exec":
        return ("the Dockerfile says no program to run", 'Give it a CMD ["./PROGRAM"].')
    return None


def own_language(config: Mapping[str, Any], source: Source) -> dict[str, str]:
    """The label that tells what runs in an image from a user's Dockerfile."""
    runs_program = list(config.get("Entrypoint") or []) == python.ENTRYPOINT and config.get("Cmd")
    return {LABEL_LANGUAGE: "exec" if runs_program or source.command else source.runtime}


def source_hash(recipe: str, runtime_version: str, source: Source) -> str:
    """The SHA-256, in hex, of all that decides what is in a function's image."""
    entries = sorted(_entry(file) for file in source.files)
    return _hash([recipe, runtime_version, source.handler, entries])


def has_newer_python(
    environment: Iterable[str], ours: tuple[int, int] = sys.version_info[:2]
) -> bool:
    """Whether an image has a later Python than ours, whose syntax we can't judge.

    Official images say so in PYTHON_VERSION. Where we don't judge, the build does.
    """
    for variable in environment:
        match = re.match(r"PYTHON_VERSION=(\d+)\.(\d+)", variable)
        if match:
            return (int(match[1]), int(match[2])) > ours
    return False


def repository(name: str) -> str:
    """The image repository of a function. Docker allows fewer separators in a row than DNS."""
    return f"funker/{re.sub('[-_]{2,}', '-', name)}"


def _function_recipe(source: Source, runtime_tag: str) -> str:
    lines = [f"FROM {runtime_tag}"]
    if source.packages:
        lines.append(f"RUN {_APT_INSTALL.format(shlex.join(source.packages))}")
    lines += node.package_lines(source.npm)
    if source.requirements and not source.requirements_need_files:
        lines += ["COPY app/requirements.txt /app/", *python.install_lines()]
    lines.append("COPY app/ /app/")
    if source.requirements and source.requirements_need_files:
        lines += python.install_lines()
    if source.handler_file and source.runtime == "node":
        lines += node.check_lines(source.handler_file)
    elif source.handler_file:
        lines += python.compile_lines(source.handler_file)
    lines += [*_handler_lines(source.handler), *_command_lines(source.command)]
    return _lines(*lines, f"USER {UID}:{UID}")


def _handler_lines(handler: str) -> list[str]:
    return [] if handler == DEFAULT_HANDLER else [f"ENV FUNKER_HANDLER={handler}"]


def _command_lines(command: Sequence[str]) -> list[str]:
    return [f"CMD {json.dumps([*command])}"] if command else []


def _entry(file: SourceFile) -> list[str | bool]:
    return [file.path, file.kind, file.executable, file.digest]


def _hash(parts: Iterable[Any]) -> str:
    # JSON, so that no two lists of parts run together into the same bytes.
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
