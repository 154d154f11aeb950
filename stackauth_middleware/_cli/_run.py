"""``run``: serves an app that cannot be edited behind the middleware."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from .. import serve
from .._apps import Kind, load
from .._core.config import StackAuthConfig
from .._core.environment import APP, CONFIG
from ..errors import ConfigError
from ._report import CommandError

SUMMARY = "serve an app behind the middleware, without a change to its code"
DESCRIPTION = (
    "Serve an ASGI or WSGI app behind the middleware, by uvicorn or gunicorn, or by another server that is installed. "
    "All settings are read from the environment and from the TOML file. The command line of the server is printed "
    "before it starts, and can be used instead of this command. Exit status: that of the server, or 2 if the app or a "
    "setting is wrong."
)

_PACKAGE = str(Path(serve.__file__).parent)
_WINDOWS = os.name == "nt"


class _Server(NamedTuple):
    """A server that runs as ``python -m NAME OPTIONS TARGET``.

    Attributes:
        kind: kind of the apps that it serves.
        target: name of the app that it serves.
        target_is_first: whether TARGET comes before OPTIONS. gunicorn serves the first app that it is given and ignores
            others, so an app among the options would be served without the middleware. Other servers refuse a second.
    """

    kind: Kind
    target: str
    target_is_first: bool = False

    def arguments(self, options: list[str]) -> list[str]:
        """Return the arguments for the server with `options`."""
        return [self.target, *options] if self.target_is_first else [*options, self.target]


SERVERS: Mapping[str, _Server] = {
    "uvicorn": _Server(Kind.ASGI, f"{serve.__name__}:app"),
    "hypercorn": _Server(Kind.ASGI, f"{serve.__name__}:create_app()"),
    "gunicorn": _Server(Kind.WSGI, f"{serve.__name__}:application", target_is_first=True),
    "waitress": _Server(Kind.WSGI, f"{serve.__name__}:application"),
}
"""The supported servers. For each kind of app, the preferred one is first."""
_NOT_ON_WINDOWS = ("gunicorn",)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command. `main` removes the server's options, which argparse could take for ours."""
    parser.usage = "%(prog)s [-h] [--config FILE] [--server NAME] APP [-- OPTION ...]"
    parser.epilog = "What follows -- goes to the server, as in: run shop.main:app -- --port 8080 --workers 4"
    parser.add_argument("app", metavar="APP", help="the app, or a function that makes it, as package.module:name")
    parser.add_argument("--config", metavar="FILE", default="", help=f"TOML file with the settings (env {CONFIG})")
    parser.add_argument(
        "--server", metavar="NAME", choices=SERVERS, help=f"{', '.join(SERVERS)}; the default is the first that fits"
    )


def run(options: argparse.Namespace) -> int:
    """Replace this process by the server. Return its exit status on Windows, where a process cannot be replaced.

    Raises:
        ConfigError: the app or a setting is wrong.
        CommandError: no server fits.
    """
    os.environ.update({APP: options.app, **({CONFIG: options.config} if options.config else {})})
    sys.path.insert(0, str(Path.cwd()))  # as ``python -m`` does
    try:
        _, kinds = load(options.app, "APP")
    except ConfigError as error:
        if error.__cause__ is not None:
            _show(error.__cause__)
        raise
    name = _server(options.server, kinds)
    StackAuthConfig()  # raises for a wrong setting before the server starts
    command = ["-m", name, *SERVERS[name].arguments(options.server_options)]
    variables = [f"{each}={os.environ[each]}" for each in (APP, CONFIG) if os.environ.get(each)]
    print(f"serving {SERVERS[name].kind.value}: {shlex.join([*variables, 'python', *command])}", flush=True)
    return _replace([sys.executable, *command])


def _server(asked: str | None, kinds: frozenset[Kind]) -> str:
    """Return the name of the server.

    Raises:
        CommandError: it serves apps of the other kind or is not installed, or the kind of the app is unclear.
    """
    if asked and SERVERS[asked].kind not in kinds:
        (found,) = kinds
        raise CommandError(f"APP is {found.value}, which {asked} does not serve; leave out --server")
    if not asked and len(kinds) > 1:
        raise CommandError("APP takes any arguments and may be an ASGI or a WSGI app; name a server with --server")
    fitting = [name for name, server in SERVERS.items() if (asked or name) == name and server.kind in kinds]
    if _WINDOWS:
        fitting = [name for name in fitting if name not in _NOT_ON_WINDOWS]
    for name in fitting:
        if find_spec(name) is not None:
            return name
    if not fitting:
        raise CommandError(f"{asked} does not run on Windows; leave out --server")
    raise CommandError(f"no server for this app is installed: pip install {fitting[0]}")


def _show(error: BaseException) -> None:
    """Print an exception of the app, without the frames of this package and of the import system."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def _is_ours(path: str) -> bool:
    return path.startswith((_PACKAGE, "<frozen importlib")) or "importlib" in Path(path).parts


def _replace(command: list[str]) -> int:
    """Replace this process by another, or, on Windows, run it and return its exit status."""
    if not _WINDOWS:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    process = subprocess.Popen(command)  # noqa: S603 - the operator's own command line
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the server has received it too, and stops
            continue
