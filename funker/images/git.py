"""The git command, as far as functions are fetched with it: what a remote has, and a copy of it.

It works with the user's own configuration and credentials (ssh agent, credential helpers), and it
never asks: a question that nobody sees would look like a command that hangs. What a repository
holds is not trusted: none of its hooks or submodules is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from funker.images.address import PROTOCOLS, Git
from funker.rpc.errors import FunkerError

#: Seconds. A remote that hasn't listed its branches by then isn't there for us.
LIST_TIMEOUT = 60
#: Seconds for one copy, however large the repository.
FETCH_TIMEOUT = 900
#: Seconds that a transfer by http may creep at less than 1 kB/s.
STALL = 30

# Whoever calls funker from a hook must not have these found: they mean another repository.
_NOT_OURS = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
)
_SSH = "ssh -o ConnectTimeout=20"
_UNREACHABLE = re.compile(
    r"could not resolve|name resolution|connection refused|connection reset|connection timed out"
    r"|operation timed out|failed to connect|couldn't connect|no route to host"
    r"|network is unreachable|too slow|timeout was reached|empty reply",
    re.IGNORECASE,
)
_NO_ACCESS = re.compile(
    r"could not read username|could not read password|authentication failed|permission denied"
    r"|access denied|not found|does not exist|not appear to be a git repository|returned error: 40",
    re.IGNORECASE,
)
_HOST_KEY = re.compile(r"host key verification failed", re.IGNORECASE)
#: What git says after what is wrong, to everybody.
_CHATTER = re.compile(
    r"fatal: Could not read from remote repository|Please make sure you have|and the repository "
    r"exists|^$|^warning: "
)


class FetchError(FunkerError):
    """Raised when a repository can't be fetched: no git, no such repository, no access."""


class Unreachable(FetchError):
    """Raised when the host of a repository doesn't answer."""


def list_refs(address: Git) -> dict[str, str]:
    """The commits of the remote's refs, by full name; an annotated tag has the one it is for.

    Lists branches and tags, and what else there is (pull requests, say) only where the address
    asks for such. Raises `FetchError`.
    """
    which = () if address.ref.startswith("refs/") else ("--heads", "--tags")
    lines = _git(address, "ls-remote", "--quiet", *which, "--", address.url, timeout=LIST_TIMEOUT)
    refs: dict[str, str] = {}
    for line in lines.splitlines():  # `NAME^{}` follows NAME, with what the tag is for
        commit, _, name = line.partition("\t")
        refs[name.removesuffix("^{}")] = commit
    return refs


def fetch_tip(address: Git, wanted: str, target: Path) -> str:
    """Put the files of a ref's full name, or of a commit, into an empty directory.

    Nothing but that commit is fetched. Returns its hash. Raises `FetchError`.
    """
    with _scratch(address, target) as repository:
        repository("fetch", "--quiet", "--depth=1", *_ALONE, "--", address.url, wanted)
        return _check_out(repository, "FETCH_HEAD")


def fetch_history(address: Git, commit: str, target: Path) -> str:
    """The same for a commit that the remote doesn't give by itself, or by the first digits.

    Fetches all branches and tags. Returns the commit's hash, "" if it isn't there.
    """
    with _scratch(address, target) as repository:
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        repository("fetch", "--quiet", *_ALONE, "--", address.url, *refs)
        # No revision has this name but the hash: a branch may be called `abc123`, too.
        found = repository("rev-parse", f"--disambiguate={commit}").split()
        commits = [name for name in found if repository("cat-file", "-t", name).strip() == "commit"]
        if len(commits) != 1:
            return ""
        return _check_out(repository, commits[0])


# Submodules and tags that nobody asked for stay where they are.
_ALONE = ("--no-tags", "--no-recurse-submodules", "--no-auto-gc")


class _Repository:
    """A repository that lives for one fetch."""

    def __init__(self, address: Git, database: Path, target: Path) -> None:
        self._address = address
        self._where = (f"--git-dir={database}", f"--work-tree={target}")

    def __call__(self, *arguments: str) -> str:
        return _git(self._address, *self._where, *arguments, timeout=FETCH_TIMEOUT)


@contextlib.contextmanager
def _scratch(address: Git, target: Path) -> Iterator[_Repository]:
    with tempfile.TemporaryDirectory(prefix="git-", dir=target.parent) as directory:
        # Without a template: the user's own may hold hooks for the repositories that they work in.
        init = ("init", "--quiet", "--bare", "--template=", directory)
        _git(address, *init, timeout=LIST_TIMEOUT)
        yield _Repository(address, Path(directory), target)


def _check_out(repository: _Repository, what: str) -> str:
    commit = repository("rev-parse", "--verify", f"{what}^{{commit}}").strip()
    repository("checkout", "--quiet", "--detach", "--force", commit)
    return commit


def _git(address: Git, *arguments: str, timeout: float) -> str:
    """Run git and return what it printed. Raises `FetchError` with git's own words."""
    command = ["git", *_settings(), *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",  # what is fetched doesn't hang on the repository that somebody stands in
            env=_environment(),
            start_new_session=True,  # no terminal: ssh can't ask on it either
        )
    except FileNotFoundError as exc:
        raise FetchError(
            f"git is needed to fetch {address}, and is not installed",
            hint="Install it (apt install git), or give a directory.",
        ) from exc
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # git's own children too: ssh, git-remote
            if isinstance(exc, subprocess.TimeoutExpired):
                raise Unreachable(
                    f"can't fetch {address}: no answer within {timeout:g} s",
                    hint="Check the network and the address.",
                ) from exc
            raise
    if process.returncode:
        raise _failure(address, errors)
    return output


def _settings() -> list[str]:
    pairs = {
        "core.hooksPath": os.devnull,
        "core.autocrlf": "false",  # the same content on every machine is the same source
        "core.symlinks": "true",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": str(STALL),
        "gc.auto": "0",
    }
    return [word for name, value in pairs.items() for word in ("-c", f"{name}={value}")]


def _environment() -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    environ |= {
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",  # empty: neither core.askPass nor SSH_ASKPASS is started
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",  # we read what it says
        "LANGUAGE": "C",
    }
    if "GIT_SSH_COMMAND" not in environ and "GIT_SSH" not in environ:
        environ["GIT_SSH_COMMAND"] = f"{_own_ssh(environ) or _SSH} -o BatchMode=yes"
    return environ


def _own_ssh(environ: Mapping[str, str]) -> str:
    """The ssh command of the user's git configuration, which ours would replace."""
    done = subprocess.run(
        ["git", "config", "--get", "core.sshCommand"],
        capture_output=True,
        text=True,
        cwd="/",
        env=dict(environ),
        check=False,
    )
    return done.stdout.strip()


def _failure(address: Git, errors: str) -> FetchError:
    lines = [line.strip() for line in errors.splitlines()]
    telling = [line for line in lines if not _CHATTER.search(line)]
    words = (telling or lines or ["git says nothing"])[-1]
    words = re.sub(r"^(?:fatal|error|remote|ERROR): (?:fatal: |ERROR: )?", "", words)
    words = words.replace(address.url, address.repository)
    words = re.sub(r"[\x00-\x1f\x7f]+", " ", words)  # a remote's own, for somebody's terminal
    if "couldn't find remote ref HEAD" in words:
        return FetchError(
            f"{address} has no commit on its default branch",
            hint=f"Commit something, or name a branch: {address}@BRANCH.",
        )
    message = f"can't fetch {address}: {words}"
    if _UNREACHABLE.search(errors):
        return Unreachable(message, hint="Check the network and the host's name.")
    if _HOST_KEY.search(errors):
        return FetchError(
            message, hint="Connect once with ssh, to see the host's key and trust it."
        )
    if _NO_ACCESS.search(errors):
        hint = "Check the address. For a private repository git needs a credential helper or an ssh"
        return FetchError(message, hint=f"{hint} key in your agent: nobody is asked here.")
    return FetchError(message)
