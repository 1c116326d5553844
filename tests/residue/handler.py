"""A function that tries to leave a trace in every way that its author could think of.

`handle(channel, act)`: with "leave" it leaves one, with "find" it looks for it in another call and
says what it found. What can't be left raises, which is answered as text. A channel whose
name has a line in docs/guides/isolation.md is known to be open.
"""

import array
import builtins
import ctypes
import errno
import fcntl
import functools
import gc
import glob
import locale
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings

#: The mark of all that is left.
MARK = "funker-trace"
SOURCE = os.path.dirname(os.path.abspath(__file__))
OWNED = os.path.join(SOURCE, "owned")

# What a module may do when it is imported.
imported_globals: list[str] = []
imported_memory = mmap.mmap(-1, 4096)
imported_file = open(__file__)
imported_sockets = socket.socketpair()
imported_sockets[1].setblocking(False)
imported_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
imported_umask = os.umask(0o022)
os.umask(imported_umask)
imported_environment = dict(os.environ)

libc = ctypes.CDLL(None, use_errno=True)

LEAVES, FINDS = {}, {}


def leaves(channel):
    return functools.partial(LEAVES.__setitem__, channel)


def finds(channel):
    return functools.partial(FINDS.__setitem__, channel)


def handle(channel=None, act="list"):
    if act == "list":
        return list(FINDS)
    if act == "hostile":
        import hostile

        return hostile.handle(channel)
    try:
        return repr({"leave": LEAVES, "find": FINDS}[act][channel]() or "nothing")
    except OSError as error:
        return f"{type(error).__name__}: {error}" if act == "leave" else "'nothing'"


def syscall(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def daemon(run, *, session=True, ready=True):
    """`run()` in a process whose parent ends, started as programs do it that mean to stay."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        if session:
            os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            try:
                run(lambda: os.write(writer, b"."))
            finally:
                os._exit(0)
        os._exit(0)
    os.close(writer)
    os.wait()
    os.read(reader, 1)


def named(name):
    """The processes that have a name, as PR_SET_NAME or a program gives it."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as file:
                if file.read().strip() == name:
                    found.append(path)
        except OSError:
            continue
    return found


def rename_process(name):
    libc.prctl(15, name.encode(), 0, 0, 0)


def sleeper(name):
    def run(ready):
        rename_process(name)
        ready()
        time.sleep(600)

    return run


# Memory


@leaves("module globals")
def _():
    imported_globals.append(MARK)


@finds("module globals")
def _():
    return imported_globals


@leaves("other modules")
def _():
    builtins.funker_trace = MARK
    sys.modules[MARK] = sys
    sys.path.append(MARK)
    warnings.simplefilter("error")
    gc.disable()
    sys.setrecursionlimit(777)


@finds("other modules")
def _():
    return (
        getattr(builtins, "funker_trace", "")
        or sys.modules.get(MARK)
        or MARK in sys.path
        or not gc.isenabled()
        or sys.getrecursionlimit() == 777
    )


@leaves("environment")
def _():
    os.environ["FUNKER_TRACE"] = MARK
    libc.setenv(b"FUNKER_TRACE_C", b"x", 1)


@finds("environment")
def _():
    libc.getenv.restype = ctypes.c_char_p
    own = {"HOME", "TMPDIR", "PWD"}
    changed = {
        key
        for key in {*os.environ, *imported_environment} - own
        if os.environ.get(key) != imported_environment.get(key)
    }
    return libc.getenv(b"FUNKER_TRACE_C") or changed


@leaves("threads")
def _():
    threading.Thread(target=time.sleep, args=(600,), name=MARK, daemon=True).start()


@finds("threads")
def _():
    with open("/proc/self/status") as file:
        return "Threads:\t1\n" not in file.read() or threading.active_count() > 1


@leaves("locale")
def _():
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    time.tzset()


@finds("locale")
def _():
    return locale.setlocale(locale.LC_NUMERIC) == "C.UTF-8"


@leaves("memory shared at import time")
def _():
    imported_memory[: len(MARK)] = MARK.encode()


@finds("memory shared at import time")
def _():
    return imported_memory[: len(MARK)] == MARK.encode()


# What a process has


@leaves("signal handlers")
def _():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.setitimer(signal.ITIMER_REAL, 600)


@finds("signal handlers")
def _():
    return (
        signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
        or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        or callable(signal.getsignal(signal.SIGCHLD))
        or signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        or signal.getitimer(signal.ITIMER_REAL)[0]
    )


@leaves("umask")
def _():
    os.umask(0o111)


@finds("umask")
def _():
    return os.umask(0o022) != imported_umask


@leaves("rlimits")
def _():
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))


@finds("rlimits")
def _():
    return resource.getrlimit(resource.RLIMIT_NOFILE) != imported_limit


@leaves("priority and CPUs")
def _():
    os.nice(7)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


@finds("priority and CPUs")
def _():
    return os.nice(0) >= 7 or len(os.sched_getaffinity(0)) < os.cpu_count()


@leaves("working directory")
def _():
    os.chdir("/")


@finds("working directory")
def _():
    return os.getcwd() == "/"


@leaves("descriptors")
def _():
    os.open("/dev/null", os.O_RDONLY)
    for fd in (0, 1, 2):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_APPEND)


@finds("descriptors")
def _():
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for fd in (0, 1, 2)]
    # What is open to a call: its standard ones, the import's, the link to the front.
    known = {0, 1, 2, imported_file.fileno(), *(one.fileno() for one in imported_sockets)}
    links = {}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in known:
            try:
                links[name] = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:
                continue  # the listing's own
    sockets = [link for link in links.values() if link.startswith("socket:")]
    others = [link for link in links.values() if not link.startswith(("socket:", "/memfd"))]
    return (any(flags) and flags) or others or (len(sockets) > 1 and sockets)


F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032


@leaves("pipes of the output")
def _():
    for fd in (1, 2):
        fcntl.fcntl(fd, F_SETPIPE_SZ, 4096)
        os.utime(fd, (1, 1))
        os.fchmod(fd, 0)


@finds("pipes of the output")
def _():
    states = [os.fstat(fd) for fd in (1, 2)]
    sizes = [fcntl.fcntl(fd, F_GETPIPE_SZ) for fd in (1, 2)]
    return min(sizes) < 65536 or any(state.st_mode & 0o600 != 0o600 for state in states)


@leaves("process name")
def _():
    rename_process(MARK)


@finds("process name")
def _():
    return named(MARK)


# Other processes


@leaves("background process")
def _():
    subprocess.Popen(["sh", "-c", "exec sleep 611"])


@finds("background process")
def _():
    return commands("sleep\x00611")


@leaves("background process, own session")
def _():
    subprocess.Popen(["sleep", "612"], start_new_session=True)


@finds("background process, own session")
def _():
    return commands("sleep\x00612")


@leaves("daemon")
def _():
    daemon(sleeper("trace-daemon"))


@finds("daemon")
def _():
    return named("trace-daemon")


@leaves("daemon of daemons")
def _():
    def run(ready):
        while True:
            daemon(sleeper("trace-twice"))
            ready()
            if len(named("trace-twice")) > 20:
                time.sleep(600)

    daemon(run)


@finds("daemon of daemons")
def _():
    return named("trace-twice")


@leaves("stopped process")
def _():
    def run(ready):
        rename_process("trace-stopped")
        ready()
        os.kill(os.getpid(), signal.SIGSTOP)

    daemon(run)


@finds("stopped process")
def _():
    return named("trace-stopped")


def commands(text):
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path) as file:
                if text in file.read():
                    found.append(path)
        except OSError:
            continue
    return found


@leaves("signals to others")
def _():
    os.kill(os.getppid(), signal.SIGSTOP)


@finds("signals to others")
def _():
    with open(f"/proc/{os.getppid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] in "Tt"


@leaves("others' memory")
def _():
    open(f"/proc/{os.getppid()}/mem", "r+b").close()


@finds("others' memory")
def _():
    with open(f"/proc/{os.getppid()}/mem", "rb"):
        return "the parent's memory can be read"


@leaves("others traced")
def _():
    if libc.ptrace(16, os.getppid(), None, None) != 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


@finds("others traced")
def _():
    with open(f"/proc/{os.getppid()}/status") as file:
        return "TracerPid:\t0\n" not in file.read()


@leaves("others' limits")
def _():
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (333, 333))


@finds("others' limits")
def _():
    return resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE) == (333, 333)


@leaves("others' priority")
def _():
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 11)


@finds("others' priority")
def _():
    return os.getpriority(os.PRIO_PROCESS, os.getppid()) == 11


@leaves("others' CPUs")
def _():
    os.sched_setaffinity(os.getppid(), [0])


@finds("others' CPUs")
def _():
    return os.sched_getaffinity(os.getppid()) == {0} and os.cpu_count() > 1


@leaves("others' out-of-memory score")
def _():
    with open(f"/proc/{os.getppid()}/oom_score_adj", "w") as file:
        file.write("997")


@finds("others' out-of-memory score")
def _():
    with open(f"/proc/{os.getppid()}/oom_score_adj") as file:
        return int(file.read()) == 997


# Files


def file_channel(name, path):
    def leave():
        with open(path(), "w") as file:
            file.write(MARK)

    leaves(name)(leave)
    finds(name)(lambda: os.path.lexists(path()))


file_channel("file in the working directory", lambda: MARK)
file_channel("file in the home directory", lambda: os.path.expanduser(f"~/{MARK}"))
file_channel("file in TMPDIR", lambda: os.path.join(tempfile.gettempdir(), MARK))
file_channel("file in /tmp", lambda: f"/tmp/{MARK}")
file_channel("file in /var/tmp", lambda: f"/var/tmp/{MARK}")
file_channel("file in /dev/shm", lambda: f"/dev/shm/{MARK}")
file_channel("file in /run", lambda: f"/run/{MARK}")
file_channel("file in the real home", lambda: os.path.join(imported_environment["HOME"], MARK))
file_channel("file beside the source", lambda: os.path.join(SOURCE, MARK))
file_channel("compiled source", lambda: os.path.join(SOURCE, "__pycache__", MARK))


@leaves("existing file changed")
def _():
    with open(OWNED, "a") as file:
        file.write(MARK)


@finds("existing file changed")
def _():
    with open(OWNED) as file:
        return MARK in file.read()


@leaves("existing file cut off")
def _():
    os.truncate(OWNED, 1)


@finds("existing file cut off")
def _():
    return os.stat(OWNED).st_size == 1


@leaves("existing file removed")
def _():
    os.unlink(OWNED)


@finds("existing file removed")
def _():
    return not os.path.exists(OWNED)


@leaves("existing file renamed")
def _():
    os.rename(OWNED, OWNED + MARK)


@finds("existing file renamed")
def _():
    return os.path.exists(OWNED + MARK)


LINKS = ("/tmp/trace-directory", "/tmp/trace-link", "/tmp/trace-fifo", "/tmp/trace-hard")


@leaves("directories and links")
def _():
    directory, link, fifo, hard = LINKS
    for make in (
        lambda: os.mkdir(directory),
        lambda: os.symlink("/", link),
        lambda: os.mkfifo(fifo),
        lambda: os.link(OWNED, hard),
        lambda: os.link(OWNED, "hard"),
    ):
        try:
            make()
        except OSError:
            continue


@finds("directories and links")
def _():
    return [p for p in LINKS if os.path.lexists(p)]


def others():
    own = os.getcwd()
    base = os.path.dirname(own)
    return [p for p in glob.glob(os.path.join(base, "funker-call-" + "[0-9a-f]" * 16)) if p != own]


@leaves("another call's directory")
def _():
    for path in others():
        with open(os.path.join(path, MARK), "w"):
            return


@finds("another call's directory")
def _():
    mine = others()
    return os.listdir(".") or [p for p in mine if MARK in os.listdir(p)]


@leaves("the next call's directory changed")
def _():
    for path in others():
        os.utime(path, (1, 1))
        os.chmod(path, 0o711)


@finds("the next call's directory changed")
def _():
    state = os.stat(".")
    return state.st_mode & 0o777 != 0o700 or state.st_mtime < 1000


@leaves("own directory hard to remove")
def _():
    os.makedirs("a/b/c")
    for name in ("a/b/file", b"a/\xff\n"):
        with open(name, "w"):
            pass
    os.chmod("a/b", 0)
    os.chmod("a", 0)
    os.chmod(".", 0)


@finds("own directory hard to remove")
def _():
    base = os.path.dirname(os.getcwd())
    # Of this replica: other tests' may be there too.
    return [
        p
        for p in glob.glob(os.path.join(base, "funker-call-" + "[0-9a-f]" * 16))
        if os.path.isdir(os.path.join(p, "a"))
    ]


@leaves("file modes")
def _():
    os.chmod(OWNED, 0o640)


@finds("file modes")
def _():
    return os.stat(OWNED).st_mode & 0o777 == 0o640


@leaves("file times")
def _():
    os.utime(OWNED, (1, 1))


@finds("file times")
def _():
    return os.stat(OWNED).st_mtime == 1


@leaves("extended attributes")
def _():
    os.setxattr(OWNED, "user.trace", b"x")


@finds("extended attributes")
def _():
    return "user.trace" in os.listxattr(OWNED)


FS_NODUMP = 0x40


def flags_of(fd):
    flags = array.array("l", [0])
    fcntl.ioctl(fd, 0x80086601, flags)
    return flags[0]


@leaves("file flags")
def _():
    fd = os.open(OWNED, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", flags_of(fd) | FS_NODUMP))


@finds("file flags")
def _():
    return flags_of(os.open(OWNED, os.O_RDONLY)) & FS_NODUMP


@leaves("file locks")
def _():
    file = open(OWNED, "rb")
    fcntl.flock(file, fcntl.LOCK_EX)

    def run(ready):
        ready()
        time.sleep(600)

    daemon(run)


@finds("file locks")
def _():
    with open(OWNED, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "locked"


@leaves("file opened at import time")
def _():
    os.lseek(imported_file.fileno(), 7, os.SEEK_SET)


@finds("file opened at import time")
def _():
    return os.lseek(imported_file.fileno(), 0, os.SEEK_CUR) == 7


@leaves("socket opened at import time")
def _():
    imported_sockets[0].send(MARK.encode())


@finds("socket opened at import time")
def _():
    return imported_sockets[1].recv(100)


@leaves("core dump")
def _():
    os.abort()


@finds("core dump")
def _():
    return glob.glob("core*")


# The kernel's memory


@leaves("System V shared memory")
def _():
    libc_ipc("shmget", 0x7ACE, 4096, 0o1600)


@finds("System V shared memory")
def _():
    return libc_ipc("shmget", 0x7ACE, 0, 0) >= 0


@leaves("System V semaphores")
def _():
    libc_ipc("semget", 0x7ACE, 1, 0o1600)


@finds("System V semaphores")
def _():
    return libc_ipc("semget", 0x7ACE, 0, 0) >= 0


@leaves("System V message queues")
def _():
    libc_ipc("msgget", 0x7ACE, 0o1600)


@finds("System V message queues")
def _():
    return libc_ipc("msgget", 0x7ACE, 0) >= 0


def libc_ipc(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@leaves("POSIX shared memory")
def _():
    from multiprocessing import shared_memory

    shared_memory.SharedMemory("trace-memory", create=True, size=100)


@finds("POSIX shared memory")
def _():
    return os.path.exists("/dev/shm/trace-memory")


@leaves("POSIX semaphores")
def _():
    libc.sem_open.restype = ctypes.c_void_p
    if not libc.sem_open(b"/trace-semaphore", os.O_CREAT, 0o600, 1):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@finds("POSIX semaphores")
def _():
    return os.path.exists("/dev/shm/sem.trace-semaphore")


@leaves("POSIX message queues")
def _():
    if libc.mq_open(b"/trace-queue", os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@finds("POSIX message queues")
def _():
    return libc.mq_open(b"/trace-queue", os.O_RDONLY) >= 0


ADD_KEY = {"x86_64": 248, "aarch64": 217}.get(os.uname().machine, 0)


@leaves("keys")
def _():
    user = ctypes.c_long(-4)  # KEY_SPEC_USER_KEYRING
    syscall(ADD_KEY, b"user", b"trace-key", b"x", ctypes.c_long(1), user)


@finds("keys")
def _():
    with open("/proc/keys") as file:
        return "trace-key" in file.read()


# The network


@leaves("abstract socket")
def _():
    def run(ready):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("\0trace-socket")
            sock.listen()
            ready()
            time.sleep(600)

    daemon(run)


@finds("abstract socket")
def _():
    with open("/proc/net/unix") as file:
        return "@trace-socket" in file.read()


@leaves("listening port")
def _():
    def run(ready):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 39123))
            sock.listen()
            ready()
            time.sleep(600)

    daemon(run)


@finds("listening port")
def _():
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", 39123)) == 0


@leaves("TCP port")
def _():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 39124))
        listener.listen()
        with socket.create_connection(("127.0.0.1", 39124)) as there:
            here, _ = listener.accept()
            here.close()  # whoever closes first keeps the port for a while
            there.recv(1)


@finds("TCP port")
def _():
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", 39124))
        except OSError as error:
            return error.errno == errno.EADDRINUSE


# The machine, for root


@leaves("host name")
def _():
    socket.sethostname(MARK)


@finds("host name")
def _():
    return socket.gethostname() == MARK


@leaves("mounts")
def _():
    if libc.mount(b"none", b"/mnt", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@finds("mounts")
def _():
    with open("/proc/self/mounts") as file:
        return any(line.startswith("none /mnt ") for line in file)


@leaves("control groups")
def _():
    os.mkdir("/sys/fs/cgroup/funker-trace")


@finds("control groups")
def _():
    return os.path.exists("/sys/fs/cgroup/funker-trace")


@leaves("kernel settings")
def _():
    with open("/proc/sys/kernel/domainname", "w") as file:
        file.write(MARK)


@finds("kernel settings")
def _():
    with open("/proc/sys/kernel/domainname") as file:
        return MARK in file.read()
