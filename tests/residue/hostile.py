"""Calls that mean harm, or are written badly. `handle()` says what files it finds."""

import atexit
import contextlib
import os
import signal
import socket
import sys
import time

#: Nobody's, for what root isn't bound by.
NOBODY = 54321


def handle(act=None, **values):
    return globals()[act](**values) if act else sorted(os.listdir("."))


def fork_bomb():
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    while True:
        with contextlib.suppress(BlockingIOError):
            os.fork()


def fork_bomb_of_sessions():
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except BlockingIOError:
            time.sleep(0.001)


def memory():
    kept = []
    while True:
        kept.append(bytearray(10_000_000))


def one_file():
    with open("file", "wb") as file:
        while True:
            file.write(bytes(1_000_000))


def many_files(count):
    for number in range(count):
        os.makedirs(f"{number % 50}/{number}")
        with open(f"{number % 50}/{number}/file", "wb") as file:
            file.write(bytes(1000))
    return count


def descriptors():
    while True:
        os.open("/dev/null", os.O_RDONLY)


def spin():
    while True:
        pass


def ignore_signals():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    while True:
        time.sleep(60)


def close_output():
    sys.stdout.close()
    sys.stderr.close()
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(fd)
    return "said nothing"


def close_everything():
    os.closerange(0, 4096)
    time.sleep(60)


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()
    return "daemon started"


def print_lines(bytes):
    line = b"x" * 99 + b"\n"
    block = line * 10_000
    for _ in range(bytes // len(block)):
        view = memoryview(block)
        while view:
            view = view[os.write(1, view) :]
    return "printed"


def babble():
    # To the process that owns the sockets, in its own language and in none.
    for name in os.listdir("/proc/self/fd"):
        try:
            link = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if link.family == socket.AF_UNIX and link.type == socket.SOCK_SEQPACKET:
            for data in (
                b"{}",
                b"[]",
                b"nonsense",
                b"\xff",
                b'{"answer":1}',
                b'{"loaded":true}',
                b'{"warm":true}',
                b'{"failed":{}}',
                b'{"error":[]}',
            ):
                with contextlib.suppress(OSError):
                    link.send(data)
    time.sleep(60)


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_group():
    os.killpg(0, signal.SIGKILL)


def stay_at_exit():
    atexit.register(time.sleep, 600)
    return "answered"


def kill_all():
    os.kill(-1, signal.SIGKILL)
    return "alone"


def where():
    """What stays what it is: the container, the process that starts workers, and no files."""
    return [socket.gethostname(), os.getppid(), os.listdir(".")]
