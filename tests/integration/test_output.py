"""What handlers print: passed on as it comes, its end told with errors, and never in the way."""

from __future__ import annotations

import os
import signal
import sys

import pytest

import funker
from funker.rpc.messages import Accept, Ack, Error, Pong, Result


def test_output_is_passed_on_while_the_call_runs(serve, peer, news):
    served = serve(
        """
        import os, sys, time
        from news import tell

        def handle():
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.system("echo from a child")
            tell("printed")
            while not os.path.exists("go"):
                time.sleep(0.01)
            sys.stdout.write("no newline at the end")
        """
    )
    caller = peer(served)
    call = caller.call()
    news.wait()
    caller.receive(Pong)  # half a second later
    assert served.stdout() == "to stdout\nfrom a child\n"
    assert served.stderr() == "to stderr\n"
    (served.directory / "go").touch()
    caller.receive(Result)
    caller.send(Ack(id=call.id))
    served.next_exit()
    assert served.stdout() == "to stdout\nfrom a child\nno newline at the end"


def test_what_the_process_prints_at_its_end_is_passed_on_too(serve):
    served = serve(
        """
        import atexit

        def handle():
            atexit.register(print, "so long")
            return "answer"
        """
    )
    assert served() == "answer"
    served.next_exit()
    assert served.stdout() == "so long\n"


def test_the_tail_of_the_output_is_told_whatever_its_bytes(serve):
    served = serve(
        """
        import os

        def handle():
            os.write(1, b"early\\n" + b"." * 10_000)
            os.write(2, b"\\xff\\xfe\\x00 \\xe2\\x82 end\\n")
            raise ValueError
        """
    )
    with pytest.raises(funker.FunctionError) as caught:
        served()
    tail = caught.value.output_tail
    assert tail.endswith("\ufffd\ufffd\x00 \ufffd end\n")
    assert "early" not in tail
    assert 8000 < len(tail) <= 8192
    served.next_exit()
    assert b"\xff\xfe\x00" in (served.directory / "stderr").read_bytes()


def test_fifty_megabytes_of_output_come_through_whole(serve):
    served = serve(
        """
        def handle(lines):
            for n in range(lines):
                print(f"{n:099}")
            raise ValueError
        """,
        FUNKER_LOG_LIMIT="60000000",
    )
    with pytest.raises(funker.FunctionError) as caught:
        served(lines=500_000)
    assert caught.value.output_tail.endswith(f"{499_999:099}\n")
    served.next_exit()
    assert (served.directory / "stdout").stat().st_size == 50_000_000


@pytest.mark.parametrize(
    "close",
    [
        "os.close(1); os.close(2)",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "os.closerange(0, 3)",
        "sys.stdout.write('half a line'); os.close(1)",
        "sys.stdout = open('/dev/full', 'w')",
    ],
)
def test_a_handler_may_close_its_output_and_work_on(serve, close):
    served = serve(
        f"""
        import os, sys, time

        def handle(n):
            {close}
            time.sleep(0.3)  # past all that might be done about the ends of its pipes
            return n + 1
        """
    )
    assert served(n=1) == 2
    assert served(n=2) == 3
    assert [served.next_exit().status for _ in range(2)] == [0, 0]


def test_a_child_that_keeps_the_output_open_holds_nothing_up(serve, news):
    served = serve(
        """
        import subprocess
        from news import tell

        def handle():
            tell(subprocess.Popen(["sleep", "3600"], start_new_session=True).pid)
            print("done")
            return "done"
        """
    )
    assert served() == "done"
    # It has left the worker's process group, so only a container's end would end it.
    assert served.next_exit().status == 0
    os.kill(int(news.wait()), signal.SIGKILL)
    assert served.stdout() == "done\n"


@pytest.mark.parametrize(
    ("ends", "form"), [("answers", "plain"), ("raises", "json"), ("hangs", "json")]
)
def test_a_blocked_log_stops_neither_signs_of_life_nor_the_outcome(
    serve, peer, tmp_path, ends, form
):
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    served = serve(
        """
        import os, sys, threading
        from news import tell

        def flood():
            while True:
                os.write(1, b"." * 65536)

        def handle(ends):
            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            thread.join(1)
            if ends == "answers":
                return "answer"
            if ends == "raises":
                raise ValueError("in spite of all")
            thread.join()
        """,
        command=["sh", "-c", f"exec {sys.executable} -m funker_runtime >{fifo} 2>&1"],
        FUNKER_LOG=form,
    )
    caller = peer(served)
    call = caller.call(b'{"ends": "%s"}' % ends.encode(), timeout_ms=2000)
    caller.receive(Accept)
    assert caller.receive().state == "busy"
    outcome = caller.receive(Result, Error)
    if ends == "answers":
        assert outcome.body == b"answer"
    elif ends == "raises":
        assert outcome.message == "ValueError: in spite of all"
    else:
        assert outcome.code == "function_timeout"
    caller.send(Ack(id=call.id))
    assert served.next_exit().status == 0
    os.close(reader)


def test_a_log_whose_reader_has_gone_fails_no_call(serve):
    served = serve(
        "def handle(n):\n    print(n)\n    return n",
        command=["sh", "-c", f"{sys.executable} -m funker_runtime | true"],
    )
    assert served(n=1) == 1
    assert served(n=2) == 2


def test_a_program_that_starts_without_output_serves(serve):
    served = serve(
        "def handle(n):\n    print(n)\n    return n",
        command=["sh", "-c", f"exec {sys.executable} -m funker_runtime <&- >&- 2>&-"],
    )
    assert served(n=1) == 1
    assert served.next_exit().status == 0
