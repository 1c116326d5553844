"""Which engine is meant: `--context`, DOCKER_HOST, DOCKER_CONTEXT and Docker's own config.

The order is the docker command's. A context that is asked for and isn't there is an error:
deploying to another engine than the one that was meant is worse than not deploying.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from funker.backends.base import UnknownContext

#: The context that every docker command has: DOCKER_HOST or the local socket.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens. No host: the platform's local socket."""

    context: str
    host: str | None = None
    tls: TLSConfig | None = None


def endpoint(context: str | None, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that the user means. Raises `UnknownContext`."""
    directory = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if context is None:
        if environ.get("DOCKER_HOST"):
            return _from_environment(environ)
        context = environ.get("DOCKER_CONTEXT") or _current(directory) or DEFAULT
    if context == DEFAULT:
        return _from_environment(environ)
    return _from_file(directory, context)


def known(directory: Path) -> list[str]:
    """The names of the contexts that Docker's config directory holds, and `default`."""
    names = {DEFAULT}
    for path in directory.glob("contexts/meta/*/meta.json"):
        name = _read(path).get("Name")
        if isinstance(name, str):
            names.add(name)
    return sorted(names)


def _from_environment(environ: Mapping[str, str]) -> Endpoint:
    settings = kwargs_from_env(environment=dict(environ))
    return Endpoint(DEFAULT, settings.get("base_url"), settings.get("tls"))


def _from_file(directory: Path, name: str) -> Endpoint:
    identity = hashlib.sha256(name.encode()).hexdigest()  # how Docker names the directories
    path = directory / "contexts" / "meta" / identity / "meta.json"
    if not path.is_file():
        names = known(directory)
        close = difflib.get_close_matches(name, names, n=1)
        raise UnknownContext(
            f'no docker context "{name}"',
            hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(names)}.",
        )
    match _read(path):
        case {"Endpoints": {"docker": {"Host": str(host), **rest}}} if host:
            skip_verify = bool(rest.get("SkipTLSVerify"))
            tls_directory = directory / "contexts" / "tls" / identity / "docker"
            return Endpoint(name, host, _tls(tls_directory, skip_verify=skip_verify))
        case _:
            raise UnknownContext(
                f'docker context "{name}" has no docker endpoint',
                hint=f"See `docker context inspect {name}`.",
            )


def _tls(directory: Path, *, skip_verify: bool) -> TLSConfig | None:
    if not directory.is_dir():
        return None
    files = {part: directory / f"{part}.pem" for part in ("ca", "cert", "key")}
    client = (str(files["cert"]), str(files["key"])) if files["cert"].is_file() else None
    ca = str(files["ca"]) if files["ca"].is_file() else None
    return TLSConfig(client_cert=client, ca_cert=ca, verify=not skip_verify)


def _current(directory: Path) -> str:
    path = directory / "config.json"
    return str(_read(path).get("currentContext") or "") if path.is_file() else ""


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise UnknownContext(
            f"can't read {path}: {exc}", hint="Repair the file, or set DOCKER_HOST."
        ) from exc
    return content if isinstance(content, dict) else {}
