"""The Python replica: a front that owns the sockets, and a worker that runs one call.

`python3 -m funker_runtime` is what a function's image runs; `funker.handle(callable)` makes any
program a replica. Either way the process handles one call and exits, and whoever started it (the
swarm, `docker run --restart=always`, a shell loop) starts the next.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from funker_runtime import worker
from funker_runtime.loader import Handler, load
from funker_runtime.log import Log
from funker_runtime.settings import SettingError, Settings, endpoint, identity, settings

if TYPE_CHECKING:
    from funker_runtime.solo import Solo
    from funker_runtime.tree import Tree


def handle(handler: Handler) -> NoReturn:
    """Serve one call with `handler`, then exit the process. Never returns.

    The function's name is FUNKER_FUNCTION, else what the network's DNS calls this container,
    else the callable's own name. Call this before starting threads: the worker is forked.
    """
    if "FUNKER_CALL_ID" in os.environ:
        sys.exit(
            "funker.handle: this program is run for each call, so it can't wait for one; make "
            'it the ENTRYPOINT ["/usr/bin/tini", "--", "python3", "FILE"], not the CMD'
        )
    _serve(lambda _: handler, default_name=getattr(handler, "__name__", "function"))


def main() -> NoReturn:
    """Serve one call with what the environment names, then exit the process.

    That is a handler, or a program: this one's arguments, where they are a command.
    """
    _serve(_load, default_name="function")


def _load(name: str) -> Handler:
    gc.enable()  # `__main__` has disabled it; in the front it stays so until all is loaded
    if command := sys.argv[1:] or os.environ.get("FUNKER_COMMAND"):
        from funker_runtime.program import Program, parse

        return Program(
            parse(command) if isinstance(command, str) else command,
            max_body=settings(os.environ).max_body,
            content_type=os.environ.get("FUNKER_CONTENT_TYPE", ""),
        )
    return load(name)


def _serve(find: worker.Finder, default_name: str) -> NoReturn:
    try:
        told = settings(os.environ)
    except SettingError as error:
        # Told to callers like a handler that can't be loaded, instead of dying in a loop.
        told = Settings(listen=endpoint(os.environ))
        find = functools.partial(_refuse, error)
    # The order matters: threads, DNS look-ups and ZeroMQ's import come after the fork, the
    # latter two while the worker loads the handler.
    if told.isolation == "process":
        from funker_runtime import zygote

        forked = worker.fork(lambda link: zygote.main(link, find, told))
    else:
        forked = worker.fork(
            lambda link: worker.main(
                link,
                find,
                handler=told.handler,
                max_body=told.max_body,
                ulimits=told.ulimits,
            )
        )
    own = identity(os.environ, default_name)
    log = Log(own.function, plain=told.log == "plain", limit=told.log_limit)
    if told.isolation == "process":
        from funker_runtime.tree import Tree

        workers: Solo | Tree = Tree(*forked, log, slots=told.slots, max_body=told.max_body)
    else:
        from funker_runtime.solo import Solo

        workers = Solo(*forked, log)
    from funker_runtime.front import Front

    Front(told, own, workers, log).run()


def _refuse(error: SettingError, _: str) -> NoReturn:
    raise error
