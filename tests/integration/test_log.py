"""A replica's log as programs read it: lines of JSON that tell which call printed them."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

import pytest

import funker
from funker.rpc.messages import Ack, Error, Result


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_tells_which_call_printed_it(serve, peer):
    served = serve(
        """
        import os, sys
        print("loading")

        def handle():
            print('a "quoted" \\N{SNOWMAN}')
            os.system("echo from a child")
            os.write(1, b"\\xff\\n\\nno newline")
            print("oh", file=sys.stderr)
            raise ValueError("no")
        """,
        FUNKER_LOG="json",
    )
    caller = peer(served)
    call = caller.call()
    error = caller.receive(Error)
    caller.send(Ack(id=call.id))
    served.next_exit()
    served.restarts = False
    out, err = lines(served.stdout()), lines(served.stderr())
    mine = [line for line in out if line["call"] == call.id]
    assert [line["text"] for line in mine] == [
        'a "quoted" \N{SNOWMAN}', "from a child", "\N{REPLACEMENT CHARACTER}", "", "no newline",
    ]  # fmt: skip
    assert [line["text"] for line in err][:2] == ["oh", "Traceback (most recent call last):"]
    assert {(line["call"], line["stream"]) for line in err} == {(call.id, "stderr")}
    assert {line["function"] for line in out + err} == {"echo"}
    assert out[0]["text"] == "loading"
    assert out[0]["call"] is None
    written = datetime.fromisoformat(mine[0]["time"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    assert error.output_tail.startswith('loading\na "quoted"')


@pytest.mark.parametrize("isolation", ["container", "process"])
def test_a_gigabyte_of_output_is_counted_and_cut_off(serve, isolation):
    served = serve(
        """
        import os, sys

        def handle(chunks):
            for _ in range(chunks):
                os.write(1, b"x" * 99 * 661 + b"\\n" * 97)
            print("the end", file=sys.stderr)
            raise ValueError
        """,
        FUNKER_LOG="json",
        FUNKER_LOG_LIMIT="100000",
        FUNKER_ISOLATION=isolation,
    )
    chunks, size = 1024**3 // 65536, 99 * 661 + 97
    started = time.monotonic()
    with pytest.raises(funker.FunctionError) as caught:
        served.function(timeout=20)(chunks=chunks)
    assert time.monotonic() - started < 20
    assert caught.value.output_tail.endswith("the end\n")
    if isolation == "container":
        served.next_exit()
    give_up = time.monotonic() + 30
    while "funker: " not in served.stderr() and time.monotonic() < give_up:
        time.sleep(0.02)
    kept = lines(served.stdout())
    newlines = sum(line["text"] == "" for line in kept)
    assert newlines < 200
    logged = sum(len(line["text"]) for line in kept)
    assert 90_000 < logged <= 100_000
    (told,) = [
        found
        for line in lines(served.stderr())
        if (found := re.match(r"funker: (\d+) ", line["text"]))
    ]
    assert int(told[1]) == chunks * size + len("the end\n") - 100_000


def test_no_line_is_longer_than_a_log_driver_takes(serve):
    served = serve(
        """
        def handle():
            print("\\N{SNOWMAN}" * 20_000)
            print("\\x01" * 20_000)
            print("x" * 16_000, end="")
        """,
        FUNKER_LOG="json",
    )
    served()
    served.next_exit()
    raw = served.stdout().splitlines()
    assert all(len(line.encode()) < 16 * 1024 for line in raw)
    text = "".join(json.loads(line)["text"] for line in raw)
    assert text == "\N{SNOWMAN}" * 20_000 + "\x01" * 20_000 + "x" * 16_000


def test_an_answer_waits_for_no_log(serve, peer):
    """What a call prints is whole in the log although the answer is sent before."""
    served = serve(
        """
        def handle():
            for n in range(3000):
                print(n)
            return "answer"
        """,
        FUNKER_LOG="json",
    )
    caller = peer(served)
    call = caller.call()
    assert caller.receive(Result).body == b"answer"
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0
    assert [int(line["text"]) for line in lines(served.stdout())] == list(range(3000))


@pytest.mark.parametrize("variables", [{"FUNKER_LOG": "xml"}, {"FUNKER_LOG_LIMIT": "lots"}])
def test_a_wrong_setting_is_told_to_callers(serve, variables):
    served = serve("def handle():\n    pass", **variables)
    with pytest.raises(funker.InitFailed, match=next(iter(variables))):
        served()
