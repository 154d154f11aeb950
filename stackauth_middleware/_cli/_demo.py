"""``demo``: a local Stack Auth and two protected apps, for requests by hand or, with ``--check``, by the command."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shlex
import tempfile
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from .._core.config import StackAuthConfig
from ._demo_apps import RULES, Case, bottle_app, cases, starlette_app, with_variants
from ._report import CommandError
from ._serve import serving_asgi, serving_wsgi

SUMMARY = "run a local Stack Auth and two protected apps"
DESCRIPTION = (
    "Run a local Stack Auth, a protected Starlette app and a protected Bottle app on free ports of this machine, and "
    "print a curl command for each kind of response. With --check, send these requests, compare, and stop."
)

_NEEDED = ("uvicorn", "starlette", "bottle")
_PROJECT = "00000000-0000-4000-8000-00000000cafe"
_SECRET_KEY = "ssk_demo"
_LIFETIME = 24 * 3600
"""Lifetime of the tokens, in seconds."""


class _Demo(NamedTuple):
    """The running demo: base URLs, tokens by name, and requests."""

    stack_auth: str
    apps: Mapping[str, str]
    tokens: Mapping[str, str]
    cases: list[Case]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--check", action="store_true", help="send the requests, compare, and stop")


def run(options: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, or check it. Return 0 if all responses are as expected, else 1.

    Raises:
        CommandError: the extra ``demo`` is not installed, or a server did not start.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(f"the demo needs {', '.join(missing)}: pip install 'stackauth-middleware[demo]'")
    with _running() as demo:
        if options.check:
            return _check(demo)
        with tempfile.TemporaryDirectory(prefix="stackauth-demo-") as folder:
            variables = Path(folder) / "tokens"
            variables.write_text("".join(f"{name}={shlex.quote(token)}\n" for name, token in demo.tokens.items()))
            _show(demo, variables)
            _wait()
    return 0


@contextlib.contextmanager
def _running() -> Iterator[_Demo]:
    """Start the three servers. Stop them at the end."""
    from ..testing import LocalStackAuth

    local = LocalStackAuth(_PROJECT)
    with contextlib.ExitStack() as servers:
        local.api_url = stack_auth = servers.enter_context(serving_asgi(local.asgi))
        config = StackAuthConfig(
            project_id=_PROJECT,
            api_url=stack_auth,
            # Explicit, so that the environment does not change the demo.
            secret_server_key=_SECRET_KEY,
            publishable_client_key="pck_demo",
            rules=RULES,
        )
        apps = {
            "Starlette": servers.enter_context(serving_asgi(starlette_app(config))),
            "Bottle": servers.enter_context(serving_wsgi(bottle_app(config))),
        }
        tokens = with_variants(
            normal=local.token(email="jane@example.com", expires_in=_LIFETIME),
            restricted=local.token(user_type="restricted", expires_in=_LIFETIME),
            anonymous=local.token(user_type="anonymous", expires_in=_LIFETIME),
            expired=local.token(expires_in=-60),
        )
        yield _Demo(stack_auth, apps, tokens, cases(**tokens))


def _check(demo: _Demo) -> int:
    """Send each request to each app and print the responses. Return 0 if all are as expected, else 1."""
    width = max(len(case.name) for case in demo.cases)
    print(f"{'app':<10} {'request':<{width}} {'expected':<26} {'received':<26}")
    wrong = 0
    for app, url in demo.apps.items():
        for case in demo.cases:
            expected, received = _words(case.status, case.code), _words(*_send(url, case))
            wrong += expected != received
            mark = "ok" if expected == received else "FAIL"
            print(f"{app:<10} {case.name:<{width}} {expected:<26} {received:<26} {mark}", flush=True)
    sent = len(demo.apps) * len(demo.cases)
    print(f"{sent - wrong} of {sent} responses are as expected")
    return 1 if wrong else 0


def _words(status: int, code: str) -> str:
    return f"{status} {code}".rstrip()


def _send(url: str, case: Case) -> tuple[int, str]:
    """Send the request of `case`. Return status and error code of the response; 0 and the exception if it fails."""
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


def _show(demo: _Demo, variables: Path) -> None:
    """Print the addresses, the settings for another app, and a curl command for each request.

    Args:
        demo: the running demo.
        variables: a file that sets a shell variable for each token, which keeps the commands short.
    """
    print(f"Stack Auth  {demo.stack_auth}  (local)")
    for app, url in demo.apps.items():
        print(f"{app:<11} {url}")
    print("\nTo run your own app with this Stack Auth, start it with:")
    for name, value in (("PROJECT_ID", _PROJECT), ("API_URL", demo.stack_auth), ("SECRET_SERVER_KEY", _SECRET_KEY)):
        print(f"export STACK_{name}={value}")
    print(f"\nTo set the tokens as variables ({', '.join(demo.tokens)}; valid for {_LIFETIME // 3600} hours), run:")
    print(f". {shlex.quote(str(variables))}")
    print("\nThen send requests, each to both apps:")
    names = {token: name for name, token in demo.tokens.items()}
    for case in demo.cases:
        headers = "".join(f' -H "{name}: {_with_variable(value, names)}"' for name, value in case.headers)
        urls = " ".join(url + case.path for url in demo.apps.values())
        print(f"\n# {case.name}: {_words(case.status, case.code)}\ncurl -i{headers} {urls}")
    print("\nPress Ctrl-C to stop.", flush=True)


def _with_variable(value: str, names: Mapping[str, str]) -> str:
    """Return the header value with its token, the last word, replaced by the shell variable."""
    scheme, space, token = value.rpartition(" ")
    return f"{scheme}{space}${names[token]}"


def _wait() -> None:
    """Wait for Ctrl-C."""
    never = threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        while not never.wait(3600):
            pass
