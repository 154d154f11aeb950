"""``demo``: a local Stack Auth and two protected apps, to be asked by hand or, with ``--check``, by itself."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shlex
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlsplit

from .._core.config import StackAuthConfig
from ._demo_apps import RULES, Case, bottle_app, cases, starlette_app
from ._report import CommandError
from ._serve import serving_asgi, serving_wsgi

SUMMARY = "run a local Stack Auth and two protected apps to try"
DESCRIPTION = (
    "Run a local Stack Auth, a protected Starlette app and a protected Bottle app on free ports of this machine, and "
    "print curl lines for each kind of answer. With --check, send these requests, compare, and stop."
)

_NEEDED = ("uvicorn", "starlette", "bottle")
_PROJECT = "00000000-0000-4000-8000-00000000cafe"
_TOKENS_LIVE = 24 * 3600
"""Seconds for which the tokens that are shown are good."""


class _Demo(NamedTuple):
    """What runs: base URLs, tokens by their kind, and the requests to try."""

    stack_auth: str
    apps: Mapping[str, str]
    tokens: Mapping[str, str]
    cases: list[Case]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--check", action="store_true", help="send the requests, compare, and stop")


def run(options: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, or check it and return 0 where all answers are as expected.

    Raises:
        CommandError: the extra ``demo`` is not installed, or a server did not start.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(f"the demo needs {', '.join(missing)}: pip install 'stackauth-middleware[demo]'")
    with _running() as demo:
        if options.check:
            return _check(demo)
        _show(demo)
        _wait()
    return 0


@contextlib.contextmanager
def _running() -> Iterator[_Demo]:
    """Start the three servers, and stop them at the end."""
    from ..testing import LocalStackAuth

    local = LocalStackAuth(_PROJECT)
    with contextlib.ExitStack() as servers:
        local.api_url = stack_auth = servers.enter_context(serving_asgi(local.asgi))
        config = StackAuthConfig(
            project_id=_PROJECT,
            api_url=stack_auth,
            # Given, so that none is looked for in the environment: the demo runs the same everywhere.
            secret_server_key="ssk_demo",
            publishable_client_key="pck_demo",
            rules=RULES,
        )
        apps = {
            "Starlette": servers.enter_context(serving_asgi(starlette_app(config))),
            "Bottle": servers.enter_context(serving_wsgi(bottle_app(config))),
        }
        tokens = {
            "normal": local.token(email="jane@example.com", expires_in=_TOKENS_LIVE),
            "restricted": local.token(user_type="restricted", expires_in=_TOKENS_LIVE),
            "anonymous": local.token(user_type="anonymous", expires_in=_TOKENS_LIVE),
            "expired": local.token(expires_in=-60),
        }
        yield _Demo(stack_auth, apps, tokens, cases(**tokens))


def _check(demo: _Demo) -> int:
    """Send each request to each app, print what came, and return 0 where all is as expected."""
    width = max(len(case.name) for case in demo.cases)
    print(f"{'app':<10} {'request':<{width}} {'expected':<26} {'seen':<26}")
    wrong = 0
    for app, url in demo.apps.items():
        for case in demo.cases:
            expected, seen = _words(case.status, case.code), _words(*_answer(url, case))
            wrong += expected != seen
            mark = "ok" if expected == seen else "FAIL"
            print(f"{app:<10} {case.name:<{width}} {expected:<26} {seen:<26} {mark}", flush=True)
    sent = len(demo.apps) * len(demo.cases)
    print(f"{sent - wrong} of {sent} answers are as expected")
    return 1 if wrong else 0


def _words(status: int, code: str) -> str:
    return f"{status} {code}".rstrip()


def _answer(url: str, case: Case) -> tuple[int, str]:
    """Send the request of `case` and return the status and code of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.putrequest("GET", case.path)
        for name, value in case.headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, type(error).__name__
    finally:
        connection.close()
    return response.status, body.get("code", "")


def _show(demo: _Demo) -> None:
    """Print the addresses, the tokens, and a line to paste for each request."""
    print(f"Stack Auth  {demo.stack_auth}  (local; project {_PROJECT})")
    for app, url in demo.apps.items():
        print(f"{app:<11} {url}")
    print(f"\nTokens, good for {_TOKENS_LIVE // 3600} hours but for the expired one:")
    for name, token in demo.tokens.items():
        print(f"\n{name}\n{token}")
    print("\nRequests to paste, each sent to both apps:")
    for case in demo.cases:
        headers = "".join(f" -H {shlex.quote(f'{name}: {value}')}" for name, value in case.headers)
        urls = " ".join(url + case.path for url in demo.apps.values())
        print(f"\n# {case.name}: {_words(case.status, case.code)}\ncurl -i{headers} {urls}")
    print("\nCtrl-C ends the demo.", flush=True)


def _wait() -> None:
    """Wait for Ctrl-C."""
    never = threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        while not never.wait(3600):
            pass
