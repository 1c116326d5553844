"""What a source's address means, and that none can mean a command to git."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funker.images.address import (
    PROTOCOLS,
    AddressError,
    Directory,
    File,
    Git,
    is_git,
    parse_address,
)


@pytest.mark.parametrize(
    "text", ["add", ".", "./jobs/add", "/srv/add/", "a b", "jobs//add", "v1.2"]
)
def test_a_path_is_a_directory(text: str) -> None:
    assert parse_address(text) == Directory(text)


@pytest.mark.parametrize("text", ["add.py", "./jobs/add.py", "/srv/my-job.py"])
def test_a_path_that_ends_in_py_is_one_file(text: str) -> None:
    assert parse_address(text) == File(text)


@pytest.mark.parametrize(
    "image",
    [
        "add:1",
        "me/add",
        "me/add:1",
        "ghcr.io/me/add",
        "ghcr.io/me/add:1",
        "docker.io/library/python",
        "registry.example.com/me/add",
        "localhost:5000/me/add",
        "example.com:5000/me/add",
        "add@sha256:0123",
        "example.com/me/add@sha256:0123",
    ],
)
def test_the_name_of_an_image_is_no_git_address(image: str) -> None:
    assert not is_git(image)


@pytest.mark.parametrize(
    ("text", "git"),
    [
        ("github.com/o/r", Git("https://github.com/o/r")),
        ("GitHub.com/o/r/", Git("https://github.com/o/r")),
        ("github.com/o/r.git@v1", Git("https://github.com/o/r.git", "", "v1")),
        ("github.com/o/r//a/b@v1", Git("https://github.com/o/r", "a/b", "v1")),
        ("github.com/o/r//a/./b@feature/x", Git("https://github.com/o/r", "a/b", "feature/x")),
        ("github.com/o/r//add.py", Git("https://github.com/o/r", "add.py")),
        ("github.com/o/r//", Git("https://github.com/o/r")),
        ("github.com/o/r//@v1", Git("https://github.com/o/r", "@v1")),
        ("github.com/o/r//@scope/a@v1", Git("https://github.com/o/r", "@scope/a", "v1")),
        ("github.com/o/r@pkg@1.0", Git("https://github.com/o/r", "", "pkg@1.0")),
        ("gitlab.com/g/sub/r//a@v1", Git("https://gitlab.com/g/sub/r", "a", "v1")),
        ("git.example.org/o/r@v1", Git("https://git.example.org/o/r", "", "v1")),
        ("https://h/r", Git("https://h/r")),
        ("HTTPS://h:8443/a/r.git//s@v1", Git("https://h:8443/a/r.git", "s", "v1")),
        ("http://[::1]:80/o/r", Git("http://[::1]:80/o/r")),
        ("https://me:pw@h/o/r@v1", Git("https://me:pw@h/o/r", "", "v1")),
        ("ssh://git@h:2222/o/r//s@v1", Git("ssh://git@h:2222/o/r", "s", "v1")),
        ("ssh://git@h/~me/r", Git("ssh://git@h/~me/r")),
        ("git@h:o/r", Git("git@h:o/r")),
        ("git@my_host:o/r.git//a/b@v1", Git("git@my_host:o/r.git", "a/b", "v1")),
        ("git@h:/srv/r//s", Git("git@h:/srv/r", "s")),
        ("file:///srv/r//a/b@v1", Git("file:///srv/r", "a/b", "v1")),
        ("file:///srv/with space/r", Git("file:///srv/with space/r")),
    ],
)
def test_an_address_is_a_repository_a_directory_in_it_and_a_ref(text: str, git: Git) -> None:
    assert is_git(text)
    assert parse_address(text) == git


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "empty", "directory"),
        ("a\0b", "empty", "directory"),
        ("ext::sh -c id", "ext:: addresses are not followed", "github.com/owner/repo"),
        ("transport::https://h/r", "transport::", "github.com/owner/repo"),
        ("git://h/o/r", "git:// addresses are not followed", "https://"),
        ("git+https://h/o/r", r"git\+https://", "https://"),
        ("ftp://u:secret@h/o/r", "ftp://", "https://"),
        ("https:///o/r", "names no host", "github.com/owner/repo"),
        ("https://-h/o/r", "names no host", "github.com/owner/repo"),
        ("ssh://-oProxyCommand=id/r", "names no host", "github.com/owner/repo"),
        ("ssh://-oProxyCommand=id@h/r", "names no host", "github.com/owner/repo"),
        ("https://github.com", "names no repository", "github.com/owner/repo"),
        ("https://github.com/o", "names no repository", "github.com/owner/repo"),
        ("https://h//sub", "names no repository", "github.com/owner/repo"),
        ("git@h:-x", "names no repository", "github.com/owner/repo"),
        ("ssh://h/-x", "names no repository", "github.com/owner/repo"),
        ("file://srv/r", "absolute path", "file:///path"),
        ("file://./r", "absolute path", "file:///path"),
        ("file:////srv/r", "absolute path", "file:///path"),
        ("https://h/o/r#main", "no meaning", "follows an @"),
        ("https://h/o/r?ref=main//s", "no meaning", "follows an @"),
        ("github.com/o/r@v1//a/b", "the ref comes last", "https://github.com/o/r//a/b@v1"),
        ("github.com/o/r/a/b", "OWNER/REPO", "github.com/o/r//a/b"),
        ("https://github.com/o/r/tree/main/a/b", "page", "github.com/o/r//a/b@main"),
        ("https://github.com/o/r/blob/v1/a.py", "page", "github.com/o/r//a.py@v1"),
        ("https://gitlab.com/g/s/r/-/tree/main", "page", "gitlab.com/g/s/r@main"),
        ("github.com/o/r//../x", "no directory in a repository", "top of the repository"),
        ("github.com/o/r//a/../../x", "no directory in a repository", "top of the repository"),
        ("github.com/o/r//.GIT/hooks", "no directory in a repository", "top of the repository"),
        ("github.com/o/r//a\\b", "no directory in a repository", "top of the repository"),
        ("github.com/o/r@", "can't be a branch", "after the @"),
        ("github.com/o/r@--upload-pack=id", "can't be a branch", "after the @"),
        ("github.com/o/r//s@-x", "can't be a branch", "after the @"),
        ("github.com/o/r@a..b", "can't be a branch", "after the @"),
        ("https://h/o/r@main:other", "can't be a branch", "after the @"),
        ("https://h/o/r@refs/*", "can't be a branch", "after the @"),
        ("https://h/o/r@+main@{1}", "can't be a branch", "after the @"),
        ("https://h/o/r@a b", "can't be a branch", "after the @"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, problem: str, hint: str) -> None:
    with pytest.raises(AddressError, match=problem) as caught:
        parse_address(text)

    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["git@-oProxyCommand=id:o/r", "-o@h:o/r", "--upload-pack=id"])
def test_what_begins_like_an_option_is_a_path_and_never_goes_to_git(text: str) -> None:
    assert parse_address(text) == Directory(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@h/o/r//s@v1", "https://h/o/r//s@v1"),
        ("https://secret@h/o/r", "https://h/o/r"),
        ("ssh://git:secret@h/o/r", "ssh://git@h/o/r"),
        ("git@h:o/r@v1", "git@h:o/r@v1"),
    ],
)
def test_a_password_is_not_shown(text: str, shown: str) -> None:
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://me:secret@h/o/r@v 1",
        "https://me:secret@h/o/r@v1//s",
        "https://me:secret@h/",
        "https://me:secret@github.com/o/r/s",
        "https://me:secret@github.com/o/r/tree/main/s",
        "ssh://me:secret@h/o/r@v..1",
    ],
)
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)

    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("github.com/o/add", "add"),
        ("github.com/o/add.git@v1", "add"),
        ("github.com/o/r//jobs/thumb@v1", "thumb"),
        ("github.com/o/r//jobs/thumb.py", "thumb"),
        ("git@h:add", "add"),
        ("file:///srv/add.git", "add"),
    ],
)
def test_a_function_is_named_after_the_last_part_of_its_address(text: str, name: str) -> None:
    git = parse_address(text)

    assert isinstance(git, Git)
    assert git.name == name


words = st.from_regex(r"[a-z0-9_]([a-z0-9_.\-]{0,6}[a-z0-9_])?", fullmatch=True).filter(
    lambda word: ".." not in word and not word.endswith(".lock")
)
paths = st.lists(words, min_size=1, max_size=3).map("/".join)
heads = st.sampled_from(
    ["example.org/o/", "https://h:8443/", "ssh://git@h/", "git@h:", "file:///", "file:///srv/"]
)


@given(head=heads, path=paths, subdir=st.just("") | paths, ref=st.just("") | paths)
def test_an_address_gives_back_the_parts_that_it_was_made_of(
    head: str, path: str, subdir: str, ref: str
) -> None:
    text = head + path + (f"//{subdir}" if subdir else "") + (f"@{ref}" if ref else "")

    url = f"https://{head}{path}" if head.startswith("example.org") else head + path
    assert parse_address(text) == Git(url, subdir, ref)
    assert parse_address(str(Git(url, subdir, ref))) == Git(url, subdir, ref)


pieces = st.sampled_from(
    [
        *("https://", "ssh://", "file://", "ext::", "github.com/", "git@h:", "h.org/", "me:pw@"),
        *("/", "//", "@", "-", "--upload-pack=x", "..", ".git", ":", "#", "?", " ", "\\", "\n"),
        *("o", "r", "main", "*", "~", "@{", "é", "\0", "tree/"),
    ]
)


@given(st.lists(pieces, max_size=8).map("".join) | st.text())
def test_any_text_is_an_address_that_is_safe_or_a_typed_error(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    if not isinstance(address, Git):
        assert address.path == text
        return
    scheme = re.match(r"([a-z]+)://|[A-Za-z0-9_][\w.\-]*@[A-Za-z0-9]", address.url)
    assert scheme is not None
    assert scheme[1] in (*PROTOCOLS, None)
    assert not re.search(r"[:/@]-[^/]*@", address.url)
    assert not address.ref.startswith("-")
    assert not re.search(r"[\s:*?~^]|\.\.", address.ref)
    assert not {"..", ".git", ""} & set(address.subdir.lower().split("/")[:-1])
    assert not address.subdir.startswith("/")
    assert parse_address(str(address)) == parse_address(str(parse_address(str(address))))
