"""A function's source from wherever it is: a path here, or a git repository that is fetched.

A repository that was fetched is used as it is here until somebody asks for a newer one. What its
author wrote is not trusted with this machine's files: no link in it may lead out of it.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from funker.images.address import Address, Directory, File, Git, parse_address
from funker.images.entry import SourceError
from funker.images.git import FetchError, Unreachable, fetch_history, fetch_tip, list_refs
from funker.images.shelf import COMMIT, Copy, Shelf
from funker.images.source import Source, read_source

Progress = Callable[[str], None]

#: The first digits of one. Fewer than git itself prints are more likely a name.
_DIGITS = re.compile(r"[0-9a-f]{7,63}")


class NoSuchRef(SourceError):
    """Raised when a repository has no such branch, tag or commit."""


@contextlib.contextmanager
def open_source(
    src: str | Path,
    *,
    progress: Progress,
    update: bool = False,
    name: str | None = None,
    handler: str | None = None,
    runtime: str | None = None,
    command: str | None = None,
) -> Iterator[Source]:
    """The source at an address (see `address`); its files stay in place until the context ends.

    A repository that was fetched before is used as it was then, and `progress` says so. `update`
    asks the remote for something newer; where that can't be reached, what is here does. The
    function's name defaults to the last part of the address. Raises `AddressError`, `FetchError`,
    and `SourceError` or `SpecError` for what is wrong with the source.
    """
    address = _parse(src)
    told = {"handler": handler, "runtime": runtime, "command": command}
    if isinstance(address, Git):
        with checkout(address, update=update, progress=progress) as root:
            yield _read(address, root, name=name or address.name, told=told)
    else:
        yield read_source(address.path, name=name, **told)


@contextlib.contextmanager
def checkout(address: Git, *, update: bool, progress: Progress) -> Iterator[Path]:
    """The directory of a repository's files at a ref, fetched if need be. Not to be changed.

    Raises `FetchError` or `NoSuchRef`.
    """
    shelf = Shelf(address.url, address.ref)
    with contextlib.ExitStack() as reading:
        with (
            _cache_errors(address, shelf),
            shelf.locked(lambda: progress(f"waiting for another command that fetches {address}")),
        ):
            copy = shelf.current()
            if copy is None:
                copy = _fetch(address, shelf, None, progress)
            elif update and copy.kind != "commit":
                copy = _renew(address, shelf, copy, progress)
            else:
                progress(f"using {address} {_described(copy)}")
            reading.enter_context(shelf.reading(copy))
            shelf.clear(keep=copy)
        yield shelf.path(copy)


def _parse(src: str | Path) -> Address:
    """What exists here goes before an address that is spelled the same."""
    text = str(src)
    if isinstance(src, Path) or os.path.exists(text):  # noqa: PTH110  # never raises
        return File(text) if text.endswith(".py") else Directory(text)
    return parse_address(text)


def _renew(address: Git, shelf: Shelf, copy: Copy, progress: Progress) -> Copy:
    try:
        return _fetch(address, shelf, copy, progress)
    except Unreachable as exc:
        progress(f"warning: {exc.message}")
        progress(f"using {address} {_described(copy)}")
        return copy


def _fetch(address: Git, shelf: Shelf, copy: Copy | None, progress: Progress) -> Copy:
    """Put the ref's commit on the shelf, unless `copy` is it, and note it as the newest."""
    kind, name, commit = _resolve(address)
    if copy is None or commit != copy.commit:
        progress(f"fetching {address}")
        commit = _fetch_files(address, shelf, kind, name)
    newest = Copy(commit, kind, time.time())
    if copy is not None and commit == copy.commit:
        progress(f"{address} is up to date (commit {commit[:10]})")
    elif (shelf.path(newest) / ".gitmodules").exists():
        progress(f"warning: the submodules of {address.repository} are not fetched")
    shelf.note(newest, repository=address.repository, ref=address.ref)
    return newest


def _resolve(address: Git) -> tuple[str, str, str]:
    """The kind of the ref, its full name, and its commit if the remote tells without a fetch."""
    ref = address.ref
    if not ref:
        return "branch", "HEAD", ""
    if COMMIT.fullmatch(ref):
        return "commit", ref, ref
    refs = list_refs(address)
    # As `git clone --branch` does: a branch goes before a tag of the same name.
    for name, kind in ((f"refs/heads/{ref}", "branch"), (f"refs/tags/{ref}", "tag")):
        if name in refs:
            return kind, name, refs[name]
    if ref in refs:  # spelled in full: refs/pull/7/head
        return "branch", ref, refs[ref]
    if _DIGITS.fullmatch(ref):
        tips = {commit for commit in refs.values() if commit.startswith(ref)}
        name = tips.pop() if len(tips) == 1 else ref
        return "commit", name, name
    raise _no_such_ref(address, [name.split("/", 2)[-1] for name in refs])


def _fetch_files(address: Git, shelf: Shelf, kind: str, name: str) -> str:
    """Fetch into a directory beside, then move it into its place. Returns the commit."""
    with shelf.scratch() as scratch:
        target = scratch / "files"
        target.mkdir()
        commit = ""
        if kind != "commit" or COMMIT.fullmatch(name):
            try:
                commit = fetch_tip(address, name, target)
            except Unreachable:
                raise
            except FetchError:  # some servers give no commit but a branch's or tag's newest
                if kind != "commit":
                    raise
        commit = commit or fetch_history(address, name, target)
        if not commit:
            raise _no_such_ref(address, [])
        shelf.put(target, Copy(commit, kind, time.time()))
        return commit


def _no_such_ref(address: Git, names: list[str]) -> NoSuchRef:
    close = difflib.get_close_matches(address.ref, sorted(set(names)), n=1)
    if close:
        hint = f"Did you mean {Git(address.url, address.subdir, close[0])}?"
    elif names:
        hint = f"There are: {', '.join(sorted(set(names))[:8])}{', ...' * (len(names) > 8)}."
    else:
        hint = "Give a branch, a tag, or more digits of a commit that a branch or tag leads to."
    where = address.repository
    return NoSuchRef(f"{where} has no branch, tag or commit {address.ref}", hint=hint)


def _read(address: Git, root: Path, *, name: str, told: Mapping[str, str | None]) -> Source:
    path = root / address.subdir
    if not os.path.lexists(path):  # a link is judged below
        raise _no_such_path(address, root)
    _check_links(address, root, path)
    try:
        return read_source(path, name=name, **told)
    except SourceError as exc:  # in the words of who asked, who never saw the cache
        message, hint = (
            text.replace(str(path), str(address)).replace(str(root), address.repository)
            for text in (exc.message, exc.hint)
        )
        functions = _functions(address, root) if path.is_dir() and "handler" in message else []
        if functions:
            hint = f"Functions in it: {', '.join(functions[:5])}{', ...' * (len(functions) > 5)}."
        raise SourceError(message, hint=hint) from exc


def _check_links(address: Git, root: Path, path: Path) -> None:
    """Raise `SourceError` if a link leads out of the repository.

    Who wrote the repository would choose which of the user's files are read here.
    """
    inside = os.path.realpath(root)
    found = [path]  # with all links on the way to it
    for directory, directories, files in os.walk(path):
        found += [Path(directory) / entry for entry in (*directories, *files)]
    for entry in found:
        if os.path.commonpath([inside, os.path.realpath(entry)]) != inside:
            where = entry.relative_to(root).as_posix()
            raise SourceError(
                f"{address}: the link {where} leads out of the repository",
                hint="Its author has to put the file in its place.",
            )


def _no_such_path(address: Git, root: Path) -> SourceError:
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*"))
             if path.is_dir() or path.suffix == ".py"]  # fmt: skip
    last = address.subdir.rpartition("/")[2]
    close = [path for path in paths if path.rpartition("/")[2] == last]
    close = close or difflib.get_close_matches(address.subdir, paths, n=1)
    functions = _functions(address, root)
    if close:
        hint = f"Did you mean {Git(address.url, close[0], address.ref)}?"
    elif functions:
        hint = f"Functions in it: {', '.join(functions[:5])}{', ...' * (len(functions) > 5)}."
    else:
        hint = "What follows // is a path from the top of the repository."
    return SourceError(f"{address}: no {address.subdir} in the repository", hint=hint)


def _functions(address: Git, root: Path) -> list[str]:
    """Addresses of the directories with a handler of the usual name."""
    found = sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("handler.py"))
    return [str(Git(address.url, path, address.ref)) for path in found if path != "."]


def _described(copy: Copy) -> str:
    if copy.kind == "commit":
        return f"(commit {copy.commit[:10]})"
    age = _age(time.time() - copy.fetched)
    return f"as fetched {age} (commit {copy.commit[:10]}); -u asks for a newer one"


def _age(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


@contextlib.contextmanager
def _cache_errors(address: Git, shelf: Shelf) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise FetchError(
            f"can't keep {address} in the cache: {exc.filename or shelf.directory}: {exc.strerror}",
            hint="XDG_CACHE_HOME says where the cache is.",
        ) from exc
