"""Which Dockerfiles of functions can be followed without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from funker.backends.local.dockerfile import DockerfileTooMuch, command

HEAD = "ARG FUNKER_BASE=funker-python\nFROM ${FUNKER_BASE}\n"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_examples_program_can_be_started() -> None:
    text = (EXAMPLES / "program" / "Dockerfile").read_text()
    assert command(text, where="Dockerfile") == (["add.py"], [])


@pytest.mark.parametrize(
    ("rest", "arguments"),
    [
        ('ENTRYPOINT ["python3", "-u", "a.py"]', ["-u", "a.py"]),
        ('COPY . .\nENTRYPOINT ["python", "a.py"]', ["a.py"]),
        ('ENTRYPOINT ["/usr/bin/tini", "--", "python3"]\nCMD ["a.py", "b"]', ["a.py", "b"]),
        (
            'WORKDIR /app\nCOPY a.py ./b.py /app/\nENTRYPOINT ["python3", "a.py"]',
            ["a.py"],
        ),
        ('# RUN rm\n\nCOPY a.py \\\n  b.py .\nentrypoint ["python3", "a.py"]', ["a.py"]),
    ],
)
def test_copying_and_starting_is_understood(rest: str, arguments: list[str]) -> None:
    assert command(HEAD + rest, where="Dockerfile") == (arguments, [])


@pytest.mark.parametrize(
    ("rest", "program"),
    [
        ("", []),
        ('CMD ["./run.sh", "-v"]', ["./run.sh", "-v"]),
        ("CMD sort | uniq", ["/bin/sh", "-c", "sort | uniq"]),
        ('ENTRYPOINT ["python3"]\nENTRYPOINT []\nCMD ["node", "a.js"]', ["node", "a.js"]),
    ],
)
def test_without_an_entry_point_its_command_is_the_runtime_s_to_run(
    rest: str, program: list[str]
) -> None:
    assert command(HEAD + rest, where="Dockerfile") == ([], program)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + 'RUN apt-get install cowsay\nCMD ["python3", "a.py"]', "Dockerfile:3: .*RUN apt"),
        ("FROM node\nCMD node", "Dockerfile:1: .*FROM node"),
        (HEAD + "COPY src/a.py .", "Dockerfile:3: .*COPY src/a.py"),
        (HEAD + "COPY a.py /usr/lib/", "Dockerfile:3: .*COPY"),
        (HEAD + "COPY --chown=1 a.py .", "Dockerfile:3: .*COPY"),
        (HEAD + "WORKDIR /srv", "Dockerfile:3: .*WORKDIR"),
        (HEAD + "CMD [1]", "Dockerfile:3: "),
        (HEAD + 'ENTRYPOINT ["node", "a.js"]', "its ENTRYPOINT isn't python3"),
        (HEAD + "ENTRYPOINT python3 a.py", "Dockerfile:3: "),
    ],
)
def test_what_needs_an_engine_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(DockerfileTooMuch, match=told) as refused:
        command(text, where="Dockerfile")
    assert refused.value.hint
