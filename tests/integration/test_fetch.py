"""Sources from git repositories: real ones, made here, fetched by the real git."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from funker.images.address import AddressError
from funker.images.entry import SourceError
from funker.images.fetch import NoSuchRef, open_source
from funker.images.git import FetchError, Unreachable
from funker.images.shelf import Shelf
from funker.images.source import Source

FUNKER = Path(sys.executable).with_name("funker")
HANDLER = "def handle(x, y):\n    return x + y\n"


class Repository:
    """A git repository with work in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"file://{path}"
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.path, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str | None]) -> str:
        """Write the files (None: remove it), commit, and return the commit."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=work")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a git without the configuration of whoever runs the tests."""
    (tmp_path / "gitconfig").write_text("[user]\n\tname = test\n\temail = test@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "funker" / "sources"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "work" / "add")
    made.commit({"handler.py": HANDLER, "jobs/sub/handler.py": "def handle(x, y): return x - y\n"})
    return made


@pytest.fixture
def told() -> list[str]:
    """What `fetch` told of its progress."""
    return []


@pytest.fixture
def fetch(told: list[str]) -> Callable[..., Source]:
    """Open a source, and come back with it when the context has ended."""

    def open_it(address: str | Path, **options: object) -> Source:
        told.clear()
        with open_source(address, progress=told.append, **options) as source:  # type: ignore[arg-type]
            return source

    return open_it


def text(source: Source) -> str:
    (handler,) = [file for file in source.files if file.path == source.handler_file]
    return handler.read().decode()


# What is fetched


def test_a_repository_is_a_function_named_after_it(fetch, repository, told, cache):
    source = fetch(repository.address)

    assert source.name == "add"
    assert text(source) == HANDLER
    assert told == [f"fetching {repository.address}"]
    assert not list(cache.rglob(".git"))


def test_a_directory_in_a_repository_is_named_after_that(fetch, repository):
    source = fetch(f"{repository.address}//jobs/sub@main")

    assert source.name == "sub"
    assert [file.path for file in source.files] == ["handler.py"]


def test_a_name_that_is_given_goes_before(fetch, repository):
    assert fetch(f"{repository.address}//jobs/sub", name="minus").name == "minus"


def test_one_file_of_a_repository_with_requirements_of_its_own(fetch, repository):
    block = '# /// script\n# dependencies = ["six"]\n# ///\n'
    repository.commit({"jobs/times.py": f"{block}def handle(x, y): return x * y\n"})

    source = fetch(f"{repository.address}//jobs/times.py")

    assert source.name == "times"
    assert [file.path for file in source.files] == ["handler.py", "requirements.txt"]


@pytest.mark.parametrize("annotated", [[], ["--annotate", "--message=release"]])
def test_a_branch_a_tag_and_a_commit_are_refs(fetch, repository, annotated):
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", *annotated, "v1")
    repository.git("branch", "feature/x")
    repository.commit({"handler.py": "# new\n" + HANDLER})

    for ref in ("v1", "feature/x", first, first[:9], "refs/tags/v1", "refs/heads/feature/x"):
        assert text(fetch(f"{repository.address}@{ref}")) == HANDLER, ref
    assert text(fetch(repository.address)) == "# new\n" + HANDLER


def test_a_branch_goes_before_a_tag_of_its_name(fetch, repository):
    repository.git("tag", "both")
    repository.git("checkout", "--quiet", "-b", "both")
    repository.commit({"handler.py": "# branch\n" + HANDLER})

    assert text(fetch(f"{repository.address}@both")).startswith("# branch")


def test_a_ref_that_is_no_branch_is_named_in_full(fetch, repository):
    repository.git("update-ref", "refs/pull/7/head", "HEAD")

    assert text(fetch(f"{repository.address}@refs/pull/7/head")) == HANDLER


@pytest.mark.parametrize("digits", [40, 12])
def test_a_commit_that_the_remote_does_not_give_by_itself(
    fetch, repository, tmp_path, monkeypatch, digits
):
    # The older protocol gives branches and tags only; so do servers that are set up so.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "0")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"handler.py": "# new\n" + HANDLER})

    assert text(fetch(f"{repository.address}@{first[:digits]}")) == HANDLER
    assert "+refs/heads/*" in (tmp_path / "trace").read_text()


def test_only_one_commit_is_fetched(fetch, tmp_path, repository, monkeypatch):
    for number in range(3):
        repository.commit({"handler.py": f"# {number}\n{HANDLER}"})
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE_PACKET", str(trace))

    fetch(repository.address)

    assert "deepen 1" in trace.read_text()


def test_a_bare_repository(fetch, tmp_path, repository):
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))

    source = fetch(f"file://{tmp_path}/bare.git//jobs/sub@main")

    assert source.name == "sub"


def test_a_path_goes_before_an_address_of_the_same_spelling(fetch, tmp_path, monkeypatch):
    directory = tmp_path / "github.com" / "owner" / "add"
    directory.mkdir(parents=True)
    (directory / "handler.py").write_text(HANDLER)
    monkeypatch.chdir(tmp_path)

    assert fetch("github.com/owner/add").name == "add"
    assert fetch(directory).name == "add"


def test_a_repository_that_others_stand_in_plays_no_part(fetch, repository, tmp_path, monkeypatch):
    # As in a hook, or with an address that means something else there.
    other = Repository(tmp_path / "other")
    other.git("config", "url.file:///nowhere.insteadOf", repository.address)
    monkeypatch.chdir(other.path)
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git" / "index"))

    assert text(fetch(repository.address)) == HANDLER


def test_the_users_configuration_holds(fetch, repository, tmp_path):
    with (tmp_path / "gitconfig").open("a") as config:
        config.write(f'[url "file://{repository.path.parent}/"]\n\tinsteadOf = https://git.test/\n')

    assert text(fetch("https://git.test/add")) == HANDLER


def test_hooks_of_the_users_template_are_not_run(fetch, repository, tmp_path):
    hook = tmp_path / "template" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    with (tmp_path / "gitconfig").open("a") as config:
        config.write(f"[init]\n\ttemplateDir = {tmp_path}/template\n")

    fetch(repository.address)

    assert not (tmp_path / "ran").exists()


def test_submodules_are_left_out_and_that_is_said(fetch, repository, tmp_path, told):
    other = Repository(tmp_path / "other")
    other.commit({"x.py": ""})
    allow = ("-c", "protocol.file.allow=always")
    repository.git(*allow, "submodule", "--quiet", "add", other.address, "vendor")
    repository.commit({})

    source = fetch(repository.address)

    assert "vendor/x.py" not in [file.path for file in source.files]
    assert told[-1] == f"warning: the submodules of {repository.address} are not fetched"


# What is kept


def test_a_branch_is_used_as_it_was_until_somebody_asks(fetch, repository, told, cache):
    first = repository.git("rev-parse", "HEAD")
    fetch(f"{repository.address}@main")
    second = repository.commit({"handler.py": "# new\n" + HANDLER})

    assert text(fetch(f"{repository.address}@main")) == HANDLER
    (line,) = told
    assert line == (
        f"using {repository.address}@main as fetched just now (commit {first[:10]}); "
        "-u asks for a newer one"
    )

    assert text(fetch(f"{repository.address}@main", update=True)).startswith("# new")
    assert text(fetch(f"{repository.address}@main")).startswith("# new")
    (shelf,) = cache.iterdir()
    assert sorted(path.name for path in shelf.iterdir() if path.is_dir()) == [second]


@pytest.mark.parametrize("ref", ["", "@main", "@v1"])
def test_an_update_that_finds_nothing_new_says_so(fetch, repository, told, ref):
    repository.git("tag", "v1")
    fetch(repository.address + ref)

    assert text(fetch(repository.address + ref, update=True)) == HANDLER
    commit = repository.git("rev-parse", "HEAD")
    assert told[-1] == f"{repository.address}{ref} is up to date (commit {commit[:10]})"


def test_a_tag_that_was_moved_is_fetched_when_somebody_asks(fetch, repository):
    repository.git("tag", "latest")
    fetch(f"{repository.address}@latest")
    repository.commit({"handler.py": "# new\n" + HANDLER})
    repository.git("tag", "--force", "latest")

    assert text(fetch(f"{repository.address}@latest")) == HANDLER
    assert text(fetch(f"{repository.address}@latest", update=True)).startswith("# new")


@pytest.mark.parametrize("digits", [40, 9])
def test_a_commit_is_never_asked_for_twice(fetch, repository, told, digits):
    commit = repository.git("rev-parse", "HEAD")
    address = f"{repository.address}@{commit[:digits]}"
    fetch(address)
    repository.path.rename(repository.path.with_name("gone"))

    assert text(fetch(address, update=True)) == HANDLER
    assert told == [f"using {address} (commit {commit[:10]})"]


def test_two_directories_of_a_repository_share_its_copy(fetch, repository, told, cache):
    fetch(repository.address)
    fetch(f"{repository.address}.git//jobs/sub")

    assert len(list(cache.iterdir())) == 1
    assert "fetching" not in told[0]


def test_an_update_leaves_the_files_that_another_reads(fetch, repository, cache, told):
    with open_source(repository.address, progress=told.append) as source:
        repository.commit({"handler.py": "# new\n" + HANDLER})
        assert text(fetch(repository.address, update=True)).startswith("# new")
        assert text(source) == HANDLER

    fetch(repository.address)  # the next one tidies up
    (shelf,) = cache.iterdir()
    assert len([path for path in shelf.iterdir() if path.is_dir()]) == 1


def test_what_a_killed_command_left_is_fetched_again(fetch, repository, cache):
    fetch(repository.address)
    (shelf,) = cache.iterdir()
    (shelf / "fetching-abc" / "files").mkdir(parents=True)
    (shelf / "current.json").write_text('{"commit": ')

    assert text(fetch(repository.address)) == HANDLER
    assert not (shelf / "fetching-abc").exists()
    assert json.loads((shelf / "current.json").read_text())["repository"] == repository.address


def test_two_commands_at_once_fetch_once(repository):
    address = repository.address
    program = (
        "import sys\n"
        "from funker.images.fetch import open_source\n"
        "tell = lambda line: print(line, flush=True)\n"
        "with open_source(sys.argv[1], progress=tell) as source:\n"
        "    print(source.name)\n"
    )

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, address]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with contextlib.ExitStack() as running:
        with Shelf(address, "").locked(pytest.fail):  # so that both are there before one begins
            processes = [running.enter_context(start()) for _ in range(2)]
            for process in processes:
                waiting = f"waiting for another command that fetches {address}\n"
                assert process.stdout.readline() == waiting
        outputs = sorted(process.stdout.read().splitlines() for process in processes)
    assert outputs[0] == [f"fetching {address}", "add"]
    assert outputs[1][0].startswith(f"using {address} as fetched just now")
    assert outputs[1][1:] == ["add"]


def test_a_cache_that_cannot_be_written_is_told(fetch, repository, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(FetchError, match=r"in the cache: .*Not a directory") as caught:
        fetch(repository.address)

    assert "XDG_CACHE_HOME" in caught.value.hint


# What goes wrong


def test_a_repository_that_is_not_there(fetch, tmp_path):
    with pytest.raises(
        FetchError, match=r"can't fetch file:.*: '.*/nowhere' does not appear to be"
    ):
        fetch(f"file://{tmp_path}/nowhere")


def test_an_empty_repository(fetch, tmp_path):
    empty = Repository(tmp_path / "empty")

    with pytest.raises(FetchError, match="has no commit on its default branch"):
        fetch(empty.address)


def test_a_ref_that_is_not_there_is_told_with_the_nearest(fetch, repository):
    repository.git("branch", "feature/colours")

    with pytest.raises(NoSuchRef, match="no branch, tag or commit feature/colors") as caught:
        fetch(f"{repository.address}//jobs@feature/colors")
    assert caught.value.hint == f"Did you mean {repository.address}//jobs@feature/colours?"

    with pytest.raises(NoSuchRef) as caught:
        fetch(f"{repository.address}@xyz")
    assert caught.value.hint == "There are: feature/colours, main."


@pytest.mark.parametrize("commit", ["0123456789" * 4, "0123456789"])
def test_a_commit_that_is_not_there(fetch, repository, commit):
    with pytest.raises(NoSuchRef, match=f"no branch, tag or commit {commit}"):
        fetch(f"{repository.address}@{commit}")


def test_a_directory_that_is_not_there_is_told_with_the_nearest(fetch, repository):
    with pytest.raises(SourceError, match="no jobs/sbu in the repository") as caught:
        fetch(f"{repository.address}//jobs/sbu@main")
    assert caught.value.hint == f"Did you mean {repository.address}//jobs/sub@main?"

    with pytest.raises(SourceError) as caught:
        fetch(f"{repository.address}//sub")
    assert caught.value.hint == f"Did you mean {repository.address}//jobs/sub?"

    with pytest.raises(SourceError) as caught:
        fetch(f"{repository.address}//thumbnail")
    assert caught.value.hint == f"Functions in it: {repository.address}//jobs/sub."


def test_a_repository_without_a_handler_is_told_with_the_functions_in_it(fetch, repository, cache):
    repository.commit({"handler.py": None})

    with pytest.raises(SourceError) as caught:
        fetch(f"{repository.address}@main")

    assert caught.value.message == f"{repository.address}@main has no handler.py and no Dockerfile"
    assert caught.value.hint == f"Functions in it: {repository.address}//jobs/sub@main."


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("jobs/sub/secret", "/etc/passwd"),
        ("jobs/sub/secret", "../../../../../x"),
        ("jobs/sub/requirements.txt", "../../hop"),
        ("jobs/sub/data/deep/secret", "/"),
    ],
)
def test_a_link_that_leads_out_of_the_repository_is_refused(fetch, repository, link, target):
    path = repository.path / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    (repository.path / "hop").symlink_to("/etc/passwd")
    repository.commit({})

    with pytest.raises(SourceError, match=f"the link {link} leads out of the repository"):
        fetch(f"{repository.address}//jobs/sub")


def test_a_directory_that_is_a_link_out_of_the_repository_is_refused(fetch, repository, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "handler.py").write_text(HANDLER)
    (repository.path / "out").symlink_to(tmp_path / "mine")
    repository.commit({})

    with pytest.raises(SourceError, match="leads out of the repository"):
        fetch(f"{repository.address}//out")


def test_links_inside_the_repository_are_kept(fetch, repository):
    (repository.path / "jobs" / "sub" / "shared.py").symlink_to("../../handler.py")
    (repository.path / "jobs" / "sub" / "loop").symlink_to("loop")
    repository.commit({})

    source = fetch(f"{repository.address}//jobs/sub")

    assert [file.path for file in source.files] == ["handler.py", "loop", "shared.py"]


@pytest.mark.parametrize(
    "address", ["{}@--upload-pack=touch ran", "ext::sh -c touch% ran", "{}@-x"]
)
def test_no_address_reaches_git_as_a_command(fetch, repository, tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(AddressError):
        fetch(address.format(repository.address))

    assert not (tmp_path / "ran").exists()


def test_a_protocol_that_the_users_configuration_brings_in_is_not_spoken(fetch, tmp_path):
    with (tmp_path / "gitconfig").open("a") as config:
        config.write('[url "ext::sh -c exit% 1 "]\n\tinsteadOf = https://git.test/\n')

    with pytest.raises(FetchError, match="transport 'ext' not allowed"):
        fetch("https://git.test/add")


def test_without_git_the_remedy_is_told(fetch, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(FetchError, match="git is needed to fetch") as caught:
        fetch(repository.address)

    assert "apt install git" in caught.value.hint


# Hosts that don't answer, or ask


@pytest.fixture
def guarded() -> Iterator[tuple[str, list[str]]]:
    """A web server that asks for a password: its URL, and the Authorization of each request."""
    seen: list[str] = []

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_nobody_is_asked_for_a_password(fetch, guarded, tmp_path, monkeypatch):
    url, seen = guarded
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho me\n")
    ask.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(ask))
    monkeypatch.setenv("SSH_ASKPASS", str(ask))

    with pytest.raises(FetchError, match=r"could not read Username.*prompts disabled") as caught:
        fetch(f"{url}/o/r//s@main")

    assert "credential helper" in caught.value.hint
    assert seen
    assert not (tmp_path / "asked").exists()


def test_the_users_credential_helper_is_used(fetch, guarded, tmp_path):
    url, seen = guarded
    with (tmp_path / "gitconfig").open("a") as config:
        config.write('[credential]\n\thelper = "!echo username=me; echo password=pw; :"\n')

    with pytest.raises(FetchError, match="Authentication failed"):
        fetch(f"{url}/o/r")

    assert f"Basic {base64.b64encode(b'me:pw').decode()}" in seen


def test_a_password_in_an_address_is_not_shown(fetch, guarded, told, cache):
    url, seen = guarded

    with pytest.raises(FetchError) as caught:
        fetch(f"{url.replace('://', '://me:secret@')}/o/r")

    assert f"Basic {base64.b64encode(b'me:secret').decode()}" in seen
    assert "secret" not in "".join([caught.value.message, caught.value.hint, *told])


def test_ssh_is_told_to_ask_nothing(fetch, tmp_path, monkeypatch):
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/typed\n'
        'echo "git@git.test: Permission denied (publickey)." >&2\nexit 255\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)

    with pytest.raises(
        FetchError, match=r"git@git\.test: Permission denied \(publickey\)"
    ) as caught:
        fetch("git@git.test:o/r//s@v1")
    assert "key in your agent" in caught.value.hint
    assert "BatchMode=yes" in (tmp_path / "typed").read_text()

    with (tmp_path / "gitconfig").open("a") as config:
        config.write("[core]\n\tsshCommand = ssh -i mine\n")
    with pytest.raises(FetchError):
        fetch("git@git.test:o/r")
    assert "-i mine -o BatchMode=yes" in (tmp_path / "typed").read_text().splitlines()[-1]

    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i other")
    with pytest.raises(FetchError):
        fetch("git@git.test:o/r")
    assert (tmp_path / "typed").read_text().splitlines()[-1].startswith("-i other")


def test_a_host_that_does_not_answer_is_no_matter_if_there_is_a_copy(
    fetch, repository, tmp_path, told, closed_port
):
    config = tmp_path / "gitconfig"
    before = config.read_text()
    insteadof = f'[url "file://{repository.path.parent}/"]\n\tinsteadOf = http://git.test/\n'
    config.write_text(before + insteadof)
    fetch("http://git.test/add@main")
    config.write_text(before + insteadof.replace(f"file://{repository.path.parent}", closed_port))

    assert text(fetch("http://git.test/add@main", update=True)) == HANDLER
    assert told[0].startswith("warning: can't fetch http://git.test/add@main: ")
    assert told[1].startswith("using http://git.test/add@main as fetched just now")

    with pytest.raises(Unreachable) as caught:
        fetch("http://git.test/other")
    assert "network" in caught.value.hint


@pytest.fixture
def closed_port() -> str:
    """The URL of a port on which nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


# As typed


def test_an_interrupt_ends_the_command_and_its_git(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/o/r"
        command = [FUNKER, "build", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                connection.recv(1 << 16)
                process.send_signal(signal.SIGINT)
                assert connection.recv(1) == b""  # git is gone
            assert process.wait() == 130
            assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("command", ["build", "deploy"])
@pytest.mark.parametrize(
    ("words", "code", "error", "hint"),
    [
        (["ext::sh -c id"], 2, "ext:: addresses are not followed", "github.com/owner/repo//sub"),
        (["github.com/o/r/sub"], 2, "is OWNER/REPO", "github.com/o/r//sub"),
        (["{}@nain"], 2, "no branch, tag or commit nain", "@main?"),
        (["{}//sub"], 2, "no sub in the repository", "//jobs/sub?"),
        (["{}x"], 125, "can't fetch", "Check the address"),
        (["{}//jobs/sub@main", "-u", "--handler", "x:y"], 2, "@main has no x.py", "handler:CALL"),
        (["no-such"], 2, "no such directory: no-such", "git address"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_words(
    funker, repository, command, words, code, error, hint
):
    finished = funker(command, *(word.format(repository.address) for word in words))

    assert finished.code == code, finished
    assert error in finished.stderr
    assert hint in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
