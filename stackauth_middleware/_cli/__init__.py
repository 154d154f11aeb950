"""The command line: ``demo``, ``verify`` and ``check``.

Results go to standard output. What goes wrong goes to standard error, in one line without a
traceback. Each command is a module with an ``add`` for its options and a ``run``.

Exit status: 0 all holds, 1 something does not, 2 the command could not be carried out.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from .._version import __version__
from ..errors import StackAuthError
from . import _check, _demo, _verify
from ._report import CommandError

COMMANDS = {"demo": _demo, "verify": _verify, "check": _check}

FAILED = 2
INTERRUPTED = 130
"""What a shell makes of a command that Ctrl-C ended: 128 and the number of the signal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line and return its exit status.

    Args:
        argv: the arguments; None for those of the process.

    Raises:
        SystemExit: the arguments make no sense, or ask for help or the version.
    """
    options = _parser().parse_args(argv)
    try:
        with _quiet("stackauth_middleware"), _quiet("uvicorn"):
            status: int = COMMANDS[options.command].run(options)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of_stdout()
        return FAILED
    except (StackAuthError, CommandError, OSError) as error:
        return _fail(str(error))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        # Only the type: the text of an error that nobody foresaw could quote a credential.
        return _fail(f"an error of this program: {type(error).__name__} in {at.name}, line {at.lineno}")


class _Parser(argparse.ArgumentParser):
    """Complains in one line, and quotes nothing that is long enough to be a credential."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, _line(f"{_LONG.sub('(hidden)', message)}; see {self.prog} --help"))


_LONG = re.compile(r"[^\s'\"]{25,}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stackauth-middleware",
        description="Try out and look into Stack Auth (Hexclave) authentication.",
        epilog="Exit status: 0 all holds, 1 something does not, 2 the command could not be carried out.",
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
def _quiet(name: str) -> Iterator[None]:
    """Keep the warnings of a library off standard error, where Python puts them if nobody handles them."""
    logger, handler = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _let_go_of_stdout() -> None:
    """Keep the interpreter from complaining, at its end, that nobody reads what is left to write."""
    with contextlib.suppress(OSError, ValueError):
        stdout = sys.stdout.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stdout)
        os.close(devnull)


def _fail(message: str) -> int:
    sys.stderr.write(_line(message))
    return FAILED


def _line(message: str) -> str:
    return f"stackauth-middleware: error: {' '.join(message.split())}\n"
