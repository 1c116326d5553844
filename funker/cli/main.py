"""The command `funker` itself: global options, what every command has in common, and its end.

`main` is the only place where an exception becomes lines on stderr and an exit code.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from funker import __version__
from funker.cli import (
    call,
    calls,
    control,
    deploy,
    dev,
    failures,
    functions,
    images,
    logs,
    rebuild,
    scaffold,
    scale,
    terminal,
)
from funker.cli.failures import UsageError
from funker.cli.run import run as run_source
from funker.cli.session import Session, Which
from funker.rpc.errors import FunkerError

app = typer.Typer(
    name="funker",
    help="Functions as containers on Docker Swarm: one call, one fresh container.",
    epilog="Start with: funker new hello",
    rich_markup_mode=None,  # plain help: importing rich takes longer than everything else
    pretty_exceptions_enable=False,
    suggest_commands=False,  # `_usage` below suggests commands and options alike
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(scaffold.new)
app.command("run")(run_source)
app.command()(dev.dev)
app.command()(images.build)
app.command()(images.push)
app.command()(deploy.deploy)
app.command()(call.call)
app.command("ls")(functions.list_functions)
app.command()(functions.inspect)
app.command()(logs.logs)
app.command()(calls.calls)
app.command()(scale.scale)
app.command()(rebuild.rebuild)
app.command("rm")(functions.remove)
app.command()(control.up)
app.command()(control.down)
app.command()(control.keys)

#: Options that work on either side of the command's name, and whether they take a value.
_ANYWHERE = {"--backend": True, "--context": True, "--debug": False}


#: The parser's marks for what is required; docker has none.
_BRACES = str.maketrans("", "", "{}")


def _print_version(wanted: bool) -> None:
    if wanted:
        terminal.data(f"funker {__version__}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    command: typer.Context,
    backend: Annotated[  # noqa: ARG001  # the session reads it, and who has said so
        Which | None,
        typer.Option(
            envvar="FUNKER_BACKEND",
            help="Where functions run, else where a controller of this machine is up: local; "
            "else: swarm.",
        ),
    ] = None,
    context: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            envvar="FUNKER_CONTEXT",
            metavar="NAME",
            help="The docker context to use (else DOCKER_HOST, DOCKER_CONTEXT, docker's own).",
        ),
    ] = None,
    debug: Annotated[  # noqa: ARG001  # `run` looks for it, since errors of parsing need it too
        bool, typer.Option("--debug", envvar="FUNKER_DEBUG", help="Show tracebacks of errors.")
    ] = False,
    version: Annotated[  # noqa: ARG001  # its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    session = Session.of(command)
    command.obj = session
    command.call_on_close(session.close)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. Never shows a traceback, except with `--debug`."""
    words = hoisted(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminate)
    code = run(words)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Run one command and give its exit code; errors are shown here."""
    debug = "--debug" in words or os.environ.get("FUNKER_DEBUG", "") not in ("", "0", "false")
    try:
        result = app(list(words) or ["--help"], prog_name="funker", standalone_mode=False)
    except KeyboardInterrupt:
        return failures.INTERRUPTED
    except typer.Abort:
        return failures.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`funker ls | head -1`): nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.OK
    except typer.TyperException as error:
        return _failed(_usage(error), error, debug=debug, code=error.exit_code)
    except FunkerError as error:
        return _failed(error, error, debug=debug, code=failures.exit_code(error))
    except Exception as error:  # noqa: BLE001  # the last place: a bug must be one line, too
        bug = FunkerError(
            f"unexpected {type(error).__name__}: {error}", hint="See where with --debug."
        )
        return _failed(bug, error, debug=debug, code=failures.ENGINE_TROUBLE)
    return result if isinstance(result, int) else failures.OK


def hoisted(words: Sequence[str]) -> list[str]:
    """The words with the global options in front, so that they may stand after the command too."""
    front: list[str] = []
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        option, equals, _ = word.partition("=")
        if option not in _ANYWHERE or (equals and not _ANYWHERE[option]):
            rest.append(word)
        elif _ANYWHERE[option] and not equals:
            front += [word, *left[:1]]
            if not left:
                return front  # the parser's complaint about the missing value
            del left[0]
        else:
            front.append(word)
    return front + rest


def _failed(shown: FunkerError, cause: Exception, *, debug: bool, code: int) -> int:
    if debug:
        import traceback

        traceback.print_exception(cause)
    terminal.fail(shown)
    return code


def _usage(error: typer.TyperException) -> FunkerError:
    """A parser's error in one line, with the nearest thing that could have been meant."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if context is None:
        return UsageError(_plain(message))
    command = context.command_path
    hint = f"See `{command} --help`."
    option = getattr(error, "option_name", None)
    missing = message.startswith("No such command ")
    if missing:
        typed = message.removeprefix("No such command ").rstrip(".").strip("'\"")
        near = difflib.get_close_matches(typed, context.command.commands, cutoff=0.5)
        message = f"no such command: {typed}"
        hint = f"Did you mean `funker {near[0]}`?" if near else hint
    elif option and hasattr(error, "possibilities"):
        message = f"{command}: no such option: {option}"
        near = [*(error.possibilities or ()), *_near_options(context, option)]
        if near:
            hint = f"Did you mean {near[0]}?"
        elif command == "funker call":
            hint = f"To pass it to the function: {option.lstrip('-')}=VALUE"
    else:
        message = f"{command}: {_plain(message)}"
        hint = context.get_usage().translate(_BRACES)
    return UsageError(message, hint=" ".join(hint.split()))


def _plain(message: str) -> str:
    """A sentence of the parser as a clause, without what its type checker adds."""
    message = message.replace("Value error, ", "").partition(", unable to parse")[0]
    return message[:1].lower() + message[1:].rstrip(".")


def _near_options(context: typer.Context, option: str) -> list[str]:
    names = [name for parameter in context.command.params for name in parameter.opts]
    return difflib.get_close_matches(option, names)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """SIGTERM ends like Ctrl-C, so that open calls are cancelled and the relay goes."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
