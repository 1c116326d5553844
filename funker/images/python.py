"""What a Python function's image needs of its own, and a program's. Pure text."""

from __future__ import annotations

import shlex

#: The one library that replicas share. Pinned: two machines build the same runtime.
PYZMQ = "27.3.0"

ENTRYPOINT = ["/usr/bin/tini", "--", "python3", "-m", "funker_runtime"]

# Times are not looked at (unchecked-hash): layers and registries needn't keep them, and a replica
# saves one stat for each module at its start.
_COMPILE = "python3 -m compileall -q --invalidation-mode unchecked-hash"
_PIP_INSTALL = "python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check"

# Official Python images come without .pyc files, and a replica's user can't write them later.
_COMPILE_STDLIB = (
    f"{_COMPILE} -x '/(dist-packages|site-packages|ensurepip|idlelib|lib2to3|test|tests|tkinter"
    """|turtledemo)/' "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" """
).strip()

# `find -newer` and not the whole directory: what the shared layer holds is compiled there, and
# would be stored a second time. Old files that don't compile are no reason to fail, as in pip.
_INSTALL_AND_COMPILE = (
    "touch /tmp/before && {pip} && "
    """find "$(python3 -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" """
    "-name '*.py' -newer /tmp/before -print0 | { xargs -0r {compile} -q || true; } && "
    "rm /tmp/before"
)

_HAS_PYZMQ = f"""python3 -c 'import sys, zmq; sys.exit(zmq.__version__ != "{PYZMQ}")'"""

_CHECK_PYTHON = (
    "python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "
    """"the base image has Python %d.%d, and 3.11 is the oldest that works" """
    "% sys.version_info[:2])'"
)

_INSTALL_RUNTIME = (
    """site="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && """
    'rm -rf "$site/funker/rpc" "$site/funker_runtime" && '  # of another version, in `renewed`
    f'cp -r /opt/funker/. "$site" && {_COMPILE} "$site/funker" "$site/funker_runtime" '
    "&& rm -r /opt/funker && python3 -I -c 'import funker.rpc, funker_runtime'"
)
_REPLICA_LINES = ["COPY runtime/ /opt/funker/", f"RUN {_INSTALL_RUNTIME}"]


def runtime_lines() -> list[str]:
    """pyzmq, and the replica's files, which the build context has in `runtime/`."""
    return [
        "ENV PYTHONUNBUFFERED=1 PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore",
        f"RUN {_CHECK_PYTHON}",
        f"RUN {_install(f'pyzmq=={PYZMQ}')} && {_COMPILE_STDLIB}",
        *_REPLICA_LINES,
    ]


def renewal_lines() -> list[str]:
    """The same in place of another version of the files."""
    return [
        f"RUN {_HAS_PYZMQ} || {{ {_install(f'pyzmq=={PYZMQ}')}; }}",
        *_REPLICA_LINES,
    ]


def install_lines() -> list[str]:
    """What a function's requirements.txt asks for; it is in /app by then."""
    return [f"RUN {_install('-r requirements.txt')}"]


def compile_lines(handler_file: str | None = None) -> list[str]:
    """The handler has to compile. Another file (a template, a fixture) may be no Python at all."""
    if handler_file is None:
        return [f"RUN {_COMPILE} -q /app || true"]
    handler = shlex.quote(f"/app/{handler_file}")
    return [f"RUN {_COMPILE} {handler} && {{ {_COMPILE} -q /app || true; }}"]


def _install(what: str) -> str:
    pip = f"{_PIP_INSTALL} {what}"
    return _INSTALL_AND_COMPILE.replace("{pip}", pip).replace("{compile}", _COMPILE)
