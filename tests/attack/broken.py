"""Ways to break the guards on purpose: an attack that stays green over one of them proves nothing.

``python -m tests.attack.broken NAME SECONDS SEED`` attacks a broken package in process. Each way changes what a
middleware sees of a request, and hands the request to the app as it was; so it works whatever the guards look like.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from stackauth_middleware import StackAuthASGIMiddleware, StackAuthWSGIMiddleware

from . import run

Seen: TypeAlias = tuple[str, str] | None
"""Path and root path that the middleware is to see, or None to let the request through without a user."""
Change: TypeAlias = Callable[[str, str, bool], Seen]
"""Takes path, root path and whether the request is a preflight."""


def _plain_test_off(path: str, root: str, is_preflight: bool) -> Seen:
    """Every character is a letter, and every segment a name: all that remains is the match."""
    segments = [each if each.strip(".") else "x" for each in re.sub(r"[^A-Za-z0-9/._-]", "x", path).split("/")[1:-1]]
    last = re.sub(r"[^A-Za-z0-9._-]", "x", path.rpartition("/")[2])
    return "/" + "/".join([*segments, last]), root


def _folded_match_off(path: str, root: str, is_preflight: bool) -> Seen:
    """Another case is another name, and a trailing slash another segment."""
    other = re.sub("[A-Z]", "z", path)
    return (f"{other}z" if len(other) > 1 and other.endswith("/") else other), root


def _preflights_pass(path: str, root: str, is_preflight: bool) -> Seen:
    return None if is_preflight else (path, root)


def _root_path_believed(path: str, root: str, is_preflight: bool) -> Seen:
    root = root.rstrip("/")
    return (path[len(root) :] or "/", "") if root and f"{path}/".startswith(f"{root}/") else (path, root)


BROKEN: Mapping[str, Change] = {
    "plain-test-off": _plain_test_off,
    "folded-match-off": _folded_match_off,
    "preflights-pass": _preflights_pass,
    "root-path-believed": _root_path_believed,
    "nothing": lambda path, root, is_preflight: (path, root),
}
"""The last one breaks nothing: over it an attack has to stay green."""


def apply(change: Change) -> None:
    """Have both middlewares of this process see what `change` makes of each request."""
    asgi, wsgi = StackAuthASGIMiddleware.__call__, StackAuthWSGIMiddleware.__call__

    async def asgi_call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await asgi(self, scope, receive, send)

        async def app(seen: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, **_published(seen)}, receive, send)

        names = {name for name, _ in scope["headers"]}
        method = scope.get("method", "").upper()
        is_preflight = method == "OPTIONS" and names >= {b"origin", b"access-control-request-method"}
        changed = change(scope["path"], scope["root_path"], is_preflight)
        if changed is None:
            return await app({"stackauth.user": None}, receive, send)
        path, root = changed
        seen = {**scope, "path": path, "root_path": root}
        if path != scope["path"]:
            seen["raw_path"] = quote(path).encode()
        return await asgi(_with_app(self, app), seen, receive, send)

    def wsgi_call(self: Any, environ: Any, start_response: Any) -> Iterable[bytes]:
        def app(seen: Any, start_response: Any) -> Iterable[bytes]:
            answered: Iterable[bytes] = self.app({**environ, **_published(seen)}, start_response)
            return answered

        is_preflight = environ["REQUEST_METHOD"].upper() == "OPTIONS" and environ.keys() >= {
            "HTTP_ORIGIN",
            "HTTP_ACCESS_CONTROL_REQUEST_METHOD",
        }
        changed = change(environ["PATH_INFO"], environ["SCRIPT_NAME"], is_preflight)
        if changed is None:
            return app({"stackauth.user": None}, start_response)
        return wsgi(_with_app(self, app), {**environ, "PATH_INFO": changed[0]}, start_response)

    StackAuthASGIMiddleware.__call__ = asgi_call
    StackAuthWSGIMiddleware.__call__ = wsgi_call


def _published(seen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in seen.items() if key.startswith("stackauth.")}


def _with_app(middleware: Any, app: Any) -> Any:
    changed = copy.copy(middleware)
    assert hasattr(changed, "app")
    changed.app = app
    return changed


if __name__ == "__main__":
    name, seconds, seed = sys.argv[1:]
    apply(BROKEN[name])
    # of each kind of reading one framework: few sites get many requests
    only = ("starlette/open", "litestar/open", "blacksheep/open", "flask/open", "bottle/open")
    sys.exit(run.attack(run.Plan(float(seconds), seed, only, ("in-process",), exact=True, until_found=True)))
