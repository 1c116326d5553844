"""What one call costs the engine: exit → the next replica is idle, starts per second, memory.

A call ends its container, so the engine's own pace of replacing containers is the floor. It is
measured in the same run, turn by turn, with services that have the function's image, network and
settings and do next to nothing: one sleeps a moment, one imports zmq and json and ends.

    recycle          pool of 1: from the engine's event `die` to the next replica's first PONG
                     that says idle, seen from another container; floor: from `die` to `start`
    starts           pool of 8, replicas used up as soon as they are idle: the events `start`
    memory           PSS of front and worker of an idle replica

Locally the machine's own pace of starting Python with zmq is the floor, and replicas are what takes
turns with it:

    recycle          from a replica's end to the next one's word that it is idle; floor: from the
                     start of a process to its having imported zmq
    starts           pool of 4: answers; floor: starts of processes that import zmq and end
"""

from __future__ import annotations

import re
import time
from typing import Any

from benchmarks.report import Report, at_least, at_most, main, percentile
from benchmarks.rig import Rig, floors
from benchmarks.rig.events import pace
from benchmarks.rig.floors import IMPORTS, LIFE, RAMP_S, SLEEP
from benchmarks.rig.load import offer
from benchmarks.rig.local import IMPORT_ZMQ, LocalRig

FUNCTION = "add"

#: Turns of floor and function, and the seconds of each.
RECYCLE_TURNS, RECYCLE_S = 3, 8.0
CHURN_TURNS, CHURN_S = 3, 9.0
#: Nearly all replicas of a busy pool are starting, so a few callers are enough to wait for each
#: of them; more would only take the machine's time from the engine.
POOL, CALLERS = 8, 4

#: Milliseconds beyond the floor for a replica to start Python, load, warm up and listen.
RECYCLE_EXTRA_MS = 120
PSS_MB = 30


#: The same on this machine: replicas one after the other, and turns of a pool.
LOCAL_RECYCLES, LOCAL_PAUSE_S = 60, 0.2
LOCAL_TURNS, LOCAL_S, LOCAL_RAMP_S, LOCAL_POOL = 3, 8.0, 1.0, 4

PYTHON_IS = "Python that imports zmq"


def measure(report: Report, *, backend: str) -> None:
    if backend == "local":
        locally(report)
    else:
        on_swarm(report)


def on_swarm(report: Report) -> None:
    with Rig() as rig:
        rig.function(FUNCTION, replicas=1)
        memory(report, rig)
        rig.scale(FUNCTION, 0)
        floors.create(rig)
        recycle(report, rig)
        churn(report, rig)


def memory(report: Report, rig: Rig) -> None:
    # Ends as soon as the replica is idle: a page that another Python shares would count half.
    rig.run("watch.py", rig.full_name(FUNCTION), 0, 0)
    (replica,) = rig.containers(FUNCTION)
    output: Any = replica.exec_run(["sh", "-c", _SIZES]).output
    sizes = output.decode()
    pss = sum(int(size) for size in re.findall(r"^Pss: +(\d+) kB", sizes, re.MULTILINE)) / 1024
    rss = sum(int(size) for size in re.findall(r"^Rss: +(\d+) kB", sizes, re.MULTILINE)) / 1024
    report.add(
        "idle replica, PSS of front and worker", pss, "MB", target=at_most(PSS_MB, f"{PSS_MB} MB")
    )
    report.add("idle replica, RSS of front and worker (shared pages twice)", rss, "MB")


#: The shell's own is not among them: its command line doesn't begin with python3.
_SIZES = """
for process in /proc/[0-9]*; do
    case $(tr '\\0' ' ' < $process/cmdline) in python3*) cat $process/smaps_rollup ;; esac
done
"""


def recycle(report: Report, rig: Rig) -> None:
    ends, recycles, starts = [], [], []
    for _ in range(RECYCLE_TURNS):
        began = time.time()
        rig.scale(SLEEP, 1)
        time.sleep(RECYCLE_S)
        rig.scale(SLEEP, 0)
        ends += gaps(rig.events.ends(SLEEP), rig.events.starts(SLEEP), began)

        began = time.time()
        rig.scale(FUNCTION, 1)
        # A replica is idle as long as the floor sleeps before it is called.
        idle = rig.run("watch.py", rig.full_name(FUNCTION), RECYCLE_S, LIFE)
        rig.scale(FUNCTION, 0)
        recycles += gaps(rig.events.ends(FUNCTION), idle, began)
        starts += gaps(rig.events.starts(FUNCTION), idle, began)
    floor = percentile(ends, 50)
    report.add(
        "pool of 1, exit to idle, median",
        percentile(recycles, 50),
        "ms",
        floor=floor,
        floor_is="exit to start of a one-shot that sleeps",
        target=at_most(floor + RECYCLE_EXTRA_MS, f"floor + {RECYCLE_EXTRA_MS} ms"),
    )
    report.add(
        "pool of 1, exit to idle, 90 %",
        percentile(recycles, 90),
        "ms",
        floor=percentile(ends, 90),
        floor_is="exit to start of a one-shot that sleeps",
    )
    report.add("pool of 1, container's start to idle, median", percentile(starts, 50), "ms")


def gaps(causes: list[float], effects: list[float], since: float) -> list[float]:
    """Milliseconds from each cause after `since` to the first effect that follows it.

    A cause without an effect before the next cause has none of its own.
    """
    times = [at for at in causes if at >= since]
    found = []
    for at, following in zip(times, [*times[1:], float("inf")], strict=True):
        first = min((effect for effect in effects if effect > at), default=float("inf"))
        if first < following:
            found.append((first - at) * 1000)
    return found


def churn(report: Report, rig: Rig) -> None:
    rates: dict[str, list[float]] = {SLEEP: [], IMPORTS: [], FUNCTION: []}
    for turn in range(CHURN_TURNS):
        # Each is first, second and third once: what a turn leaves behind burdens the next.
        for name in [*rates][turn:] + [*rates][:turn]:
            rates[name].append(
                starts_per_second(rig)
                if name == FUNCTION
                else floors.starts_per_second(rig, name, replicas=POOL, seconds=CHURN_S)
            )
    ours = percentile(rates[FUNCTION], 50)
    for name, share in floors.SHARE.items():
        floor = percentile(rates[name], 50)
        report.add(
            f"pool of {POOL}, starts beside {name}",
            ours,
            "per second",
            floor=floor,
            floor_is=floors.WHAT[name],
            target=at_least(share * floor, f"{share} of the floor"),
        )


def starts_per_second(rig: Rig) -> float:
    """The pace of the function's replicas when they are used up at once."""
    rig.scale(FUNCTION, POOL)
    ended = offer(rig, FUNCTION, callers=CALLERS, seconds=RAMP_S + CHURN_S).ended
    rig.scale(FUNCTION, 0)
    return pace([at for at in rig.events.starts(FUNCTION) if ended - CHURN_S <= at < ended])


def locally(report: Report) -> None:
    with LocalRig() as rig:
        rig.function(FUNCTION, replicas=1)
        local_recycle(report, rig)
        local_churn(report, rig)


def local_recycle(report: Report, rig: LocalRig) -> None:
    recycles, starts = [], []
    replica = rig.idle(FUNCTION)
    for _ in range(LOCAL_RECYCLES):
        # What the one before has left to do is done by then.
        time.sleep(LOCAL_PAUSE_S)
        ended = rig.use_up(FUNCTION, replica)
        replica = rig.idle(FUNCTION, after=replica)
        recycles.append((time.perf_counter() - ended) * 1000)
        time.sleep(LOCAL_PAUSE_S)
        starts.append(rig.start_python())
    for share, name in ((50, "median"), (90, "90 %")):
        report.add(
            f"pool of 1, exit to idle, {name}",
            percentile(recycles, share),
            "ms",
            floor=percentile(starts, share),
            floor_is=f"start of {PYTHON_IS}",
        )


def local_churn(report: Report, rig: LocalRig) -> None:
    ours, floor = [], []
    lasting = LOCAL_RAMP_S + LOCAL_S
    for _ in range(LOCAL_TURNS):
        rig.scale(FUNCTION, LOCAL_POOL)
        load = rig.run("load.py", FUNCTION, LOCAL_POOL, lasting, env=rig.environment)
        rig.scale(FUNCTION, 0)
        ours.append(pace([at for at in load["answers"] if 0 <= load["ended"] - at < LOCAL_S]))

        kept = rig.keep(LOCAL_POOL, "-c", IMPORT_ZMQ)
        time.sleep(lasting)
        ended = time.time()
        floor.append(pace([at for at in kept.end() if 0 <= ended - at < LOCAL_S]))
    report.add(
        f"pool of {LOCAL_POOL}, answers as fast as replicas come",
        percentile(ours, 50),
        "per second",
        floor=percentile(floor, 50),
        floor_is=f"starts of {PYTHON_IS} and ends, {LOCAL_POOL} at a time",
    )


if __name__ == "__main__":
    main("recycle", measure, backend=("swarm", "local"))
