"""What a user may write for a function's source, taken apart. Pure: nothing is looked up.

    add/  ./jobs/add                           a directory
    add.py                                     one file
    https://HOST/PATH//SUBDIR@REF              a git repository; also http, ssh and file
    git@HOST:PATH//SUBDIR@REF                  the same, by ssh
    github.com/OWNER/REPO//SUBDIR@REF          the same, by https; any HOST.TLD does

`//` parts the repository from a directory or file in it, `@` a branch, tag or commit from both.
What comes out of here is safe to give to git: no part can be taken for an option, a command or a
path out of the repository.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from funker.rpc.errors import FunkerError

#: What git may speak. `ext::` would run a command, `git://` trusts whoever answers.
PROTOCOLS = ("https", "http", "ssh", "file")

_EXAMPLE = "github.com/owner/repo//sub/dir@v1"
_WRITE = f"Write an address like {_EXAMPLE} or git@host:owner/repo."

_HOSTNAME = r"[A-Za-z0-9](?:[A-Za-z0-9._\-]*[A-Za-z0-9])?"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_HELPER = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.\-]*)::")  # git would start git-remote-NAME
# `add@sha256:...` is an image.
_SCP = re.compile(rf"([A-Za-z0-9_][\w.\-]*@(?!sha\d+:){_HOSTNAME}:)([^:].*)", re.A | re.S)
_SHORT = re.compile(r"((?!-)(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,})/[^/\s:]+/[^/\s:][^\s:]*", re.A)
_AUTHORITY = re.compile(
    rf"(?:[^\s/@\-][^\s/@]*@)?(?:{_HOSTNAME}|\[[0-9A-Fa-f:.]+\])(?::\d+)?", re.A
)
#: Registries of images: what they hold is no source, though it looks like a repository.
_REGISTRY = re.compile(r"(?:registry(?:-\d)?\..+|(?:.+\.)?(?:docker|ghcr|gcr|quay)\.io)", re.I)
#: Where a repository is always OWNER/REPO, so that more must be a directory in it.
_TWO_PARTS = ("github.com", "bitbucket.org")
#: The `@` before a ref. One that begins a name belongs to it: `packages/@scope/add`.
_REF_SIGN = re.compile(r"(?<=[^/@])@")
#: What a browser shows of a branch: github, gitlab (with `/-/`), bitbucket.
_PAGE = re.compile(r"(?P<path>.+?)/(?:-/)?(?:tree|blob|src)/(?P<ref>[^/@]+)(?:/(?P<subdir>.+))?")
_BAD_IN_REF = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[/.]$|^[/.\-]|^@$"
)
_BAD_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\]")


class AddressError(FunkerError):
    """Raised when a source can't be meant as it is written. Nothing was looked up."""


@dataclass(frozen=True)
class Directory:
    """A directory on this machine, as its user spelled it."""

    path: str


@dataclass(frozen=True)
class File:
    """One Python file on this machine, as its user spelled it."""

    path: str


@dataclass(frozen=True)
class Git:
    """A directory or file in a git repository.

    `url` is for git alone: it may hold a password. `str()` gives what may be shown.
    """

    url: str
    subdir: str = ""  # with slashes, relative to the repository; "": all of it
    ref: str = ""  # a branch, a tag or a commit; "": the repository's default branch

    @property
    def name(self) -> str:
        """The last part of the path, without `.git` or `.py`: the function's name by default."""
        if self.subdir:
            return self.subdir.rpartition("/")[2].removesuffix(".py")
        return re.split(r"[/:]", self.url)[-1].removesuffix(".git")

    @property
    def repository(self) -> str:
        """The repository's URL without a password or token."""
        return _redacted(self.url)

    def __str__(self) -> str:
        subdir = f"//{self.subdir}" if self.subdir else ""
        ref = f"@{self.ref}" if self.ref else ""
        return f"{self.repository}{subdir}{ref}"


Address = Directory | File | Git


def is_git(text: str) -> bool:
    """Whether a word is meant as a git address, be it a good one or not."""
    if _SCHEME.match(text) or _HELPER.match(text) or _SCP.fullmatch(text):
        return True
    short = _SHORT.fullmatch(text)
    return short is not None and not _REGISTRY.fullmatch(short[1])


def parse_address(text: str) -> Address:
    """What is meant by a source's address. Raises `AddressError`.

    A path on this machine needn't exist; whether it does, and then goes before a short address of
    the same spelling, is for the caller to see.
    """
    if not text or "\0" in text:
        raise AddressError("a source can't be empty", hint=f"Give a directory or {_EXAMPLE}.")
    if not is_git(text):
        return File(text) if text.endswith(".py") else Directory(text)
    if scheme := _SCHEME.match(text):
        head, path = _split_scheme(text, scheme[1].lower(), text[scheme.end() :])
    elif helper := _HELPER.match(text):
        raise AddressError(f"{text}: {helper[1]}:: addresses are not followed", hint=_WRITE)
    elif scp := _SCP.fullmatch(text):
        head, path = scp[1], scp[2]
    else:
        host, _, path = text.partition("/")
        head = f"https://{host.lower()}/"
    return _parse_git(_redacted(text), head, path)


def _split_scheme(text: str, scheme: str, rest: str) -> tuple[str, str]:
    """The URL up to its path, and the path with all that follows."""
    shown = _redacted(text)
    if scheme not in PROTOCOLS:
        raise AddressError(
            f"{shown}: {scheme}:// addresses are not followed",
            hint=f"Use one of {', '.join(f'{known}://' for known in PROTOCOLS)}.",
        )
    authority, _, path = rest.partition("/")
    if scheme == "file":
        if authority or path.startswith("/"):
            raise AddressError(
                f"{shown}: a file address needs an absolute path",
                hint="Write file:///path/to/repo//sub/dir@ref.",
            )
    elif not _AUTHORITY.fullmatch(authority):
        raise AddressError(f"{shown}: the address names no host", hint=_WRITE)
    elif path.startswith("/"):
        raise AddressError(f"{shown}: the address names no repository", hint=_WRITE)
    return f"{scheme}://{authority}/", path


def _parse_git(shown: str, head: str, rest: str) -> Git:
    # No ref holds `//`, so the first one ends the repository's path.
    path, parted, subdir = rest.partition("//")
    path, ref = _split_ref(path)
    if parted and ref is not None:
        where = subdir.partition("@")[0]
        raise AddressError(
            f"{shown}: the ref comes last",
            hint=f"Write {_redacted(head)}{path}//{where}@{ref}.",
        )
    if parted:
        subdir, ref = _split_ref(subdir)
    path = _check_path(shown, head, path.rstrip("/"))
    return Git(head + path, _check_subdir(shown, subdir), _check_ref(shown, ref))


def _split_ref(path: str) -> tuple[str, str | None]:
    """The path and the ref behind it; None without one."""
    sign = _REF_SIGN.search(path)
    return (path[: sign.start()], path[sign.end() :]) if sign else (path, None)


def _check_path(shown: str, head: str, path: str) -> str:
    """The repository's path on its host, without the slash in front."""
    if not path or path.startswith("-") or _BAD_IN_PATH.search(path):
        raise AddressError(f"{shown}: the address names no repository", hint=_WRITE)
    if "?" in path or "#" in path:
        raise AddressError(
            f"{shown}: ? and # have no meaning in a repository's address",
            hint=f"A branch, tag or commit follows an @, like {_EXAMPLE}.",
        )
    host = re.split(r"[/@:]", head.rstrip("/:"))[-1].lower()
    parts = path.strip("/").split("/")
    if host not in _TWO_PARTS and "-" not in parts:
        return path
    if page := _PAGE.fullmatch(path):
        subdir = f"//{page['subdir']}" if page["subdir"] else ""
        raise AddressError(
            f"{shown} is a page about a repository",
            hint=f"Write {host}/{page['path']}{subdir}@{page['ref']}.",
        )
    if host not in _TWO_PARTS or len(parts) == 2:
        return path
    if len(parts) == 1:
        raise AddressError(f"{shown}: the address names no repository", hint=_WRITE)
    raise AddressError(
        f"{shown}: a repository at {host} is OWNER/REPO",
        hint=f"A directory in it follows //: {host}/{'/'.join(parts[:2])}//{'/'.join(parts[2:])}.",
    )


def _check_subdir(shown: str, subdir: str) -> str:
    parts = [part for part in subdir.split("/") if part not in ("", ".")]
    if ".." in parts or _BAD_IN_PATH.search(subdir) or any(p.lower() == ".git" for p in parts):
        raise AddressError(
            f"{shown}: {subdir} is no directory in a repository",
            hint="Write its path from the top of the repository, like //sub/dir.",
        )
    return "/".join(parts)


def _check_ref(shown: str, ref: str | None) -> str:
    if ref is None:
        return ""
    if not ref or _BAD_IN_REF.search(ref):
        raise AddressError(
            f'{shown}: "{ref}" can\'t be a branch, tag or commit',
            hint=f"Write its name after the @, like {_EXAMPLE}.",
        )
    return ref


def _redacted(address: str) -> str:
    """The address without a password. By http the user's name may be a token, too."""
    address = re.sub(r"(?i)^(https?://)[^/@]*@", r"\1", address)
    return re.sub(r"(?i)^(ssh://[^/@:]*):[^/@]*@", r"\1@", address)
