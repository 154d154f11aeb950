"""The command line: ``demo``, ``verify``, ``check`` and ``run``.

Results go to standard output. Errors go to standard error, in one line without a traceback. Each command is a
module with a function ``add`` for its options and a function ``run``.

Exit status: 0 all checks passed, 1 a check failed, 2 the command could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from .._version import __version__
from ..errors import StackAuthError
from . import _check, _demo, _run, _verify
from ._report import CommandError

COMMANDS = {"demo": _demo, "verify": _verify, "check": _check, "run": _run}

COULD_NOT_RUN = 2
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 plus the number of the signal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: the arguments; None for those of the process.

    Raises:
        SystemExit: the arguments are invalid, or ask for help or the version.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows consoles cannot show every character
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if arguments[:1] == ["run"] and "--" in arguments else len(arguments)
    options = _parser().parse_args(arguments[:end])
    options.server_options = arguments[end + 1 :]
    try:
        with _silenced("stackauth_middleware"), _silenced("uvicorn"):
            status: int = COMMANDS[options.command].run(options)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return COULD_NOT_RUN
    except (StackAuthError, CommandError, OSError) as error:
        return _fail(str(error))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        # Only the type: the text of an unexpected error could contain a credential.
        return _fail(f"internal error: {type(error).__name__} in {at.name}, line {at.lineno}")


class _Parser(argparse.ArgumentParser):
    """A parser with one-line errors, which hide every value that is long enough to be a credential."""

    def error(self, message: str) -> NoReturn:
        self.exit(COULD_NOT_RUN, _line(f"{_LONG.sub('(hidden)', message)}; see {self.prog} --help"))


_LONG = re.compile(r"[^\s'\"]{25,}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stackauth-middleware",
        description="Try and diagnose Stack Auth (Hexclave) authentication.",
        epilog="Exit status: 0 all checks passed, 1 a check failed, 2 the command could not run.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add(
            commands.add_parser(name, help=command.SUMMARY, description=command.DESCRIPTION, allow_abbrev=False)
        )
    return parser


@contextlib.contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep the log records of a library off standard error, where Python writes them if there is no handler."""
    logger, handler = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _discard_stdout() -> None:
    """Send the rest of standard output nowhere, so that the flush at exit does not fail on a closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        stdout = sys.stdout.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stdout)
        os.close(devnull)


def _fail(message: str) -> int:
    sys.stderr.write(_line(message))
    return COULD_NOT_RUN


def _line(message: str) -> str:
    return f"stackauth-middleware: error: {' '.join(message.split())}\n"
