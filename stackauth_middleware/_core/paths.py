"""The path and the mount point of a request, and whether all routers read the path in the same way.

The ``root_path`` of a scope is not trusted, since Daphne takes it from a request header: it has to be what the config
or the app itself states. What Starlette's mounts add to it comes from routing and is trusted.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

_NO_TEXT = r"[\0-\x1f\x7f-\x9f\u2028\u2029\\\ufffd\ud800-\udfff]"
"""Control characters, line separators, the backslash, and what stands for bytes that are not UTF-8."""
_NOT_PLAIN = re.compile(_NO_TEXT.replace("[", "[;#?%"))
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_SPACE_AT_END = re.compile(r"/\s|\s/|\s\Z")
_NEEDLESS_ESCAPE = re.compile(rb"%(?:2[DEF]|3[0-9]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE)
r"""An escape of ``/``, of ``\`` or of an unreserved character (RFC 3986 section 2.3), which never needs one."""
_NOT_SPECIAL = re.compile(rf"{_NO_TEXT}|/(?:/|\s*\.{{1,2}}\s*(?:[/;#?%]|\Z))|%(?:25)*(?:2[eEfF]|5[cC])")


def is_plain(path: str) -> bool:
    """Return whether every router reads `path` as the same segments. docs/rules.md lists the conditions."""
    if path[:1] != "/" or "//" in path or _NOT_PLAIN.search(path) or ("/." in path and _DOT_SEGMENT.search(path)):
        return False
    if path.split(maxsplit=1) != [path] and _SPACE_AT_END.search(path):
        return False
    return path.isascii() or unicodedata.is_normalized("NFC", path)


def has_only_special_characters(path: str) -> bool:
    """Return whether a rule with ``special_characters`` may match `path`.

    An empty or dot segment, a backslash, a control character and an encoded separator remain ambiguous.
    """
    return not _NOT_SPECIAL.search(path)


def folded(path: str) -> str:
    """Return `path` with its case folded, so that paths which some router treats as equal are equal.

    It is converted to upper case first, since ``re.IGNORECASE`` matches U+0131 and U+0130 with ``i``.
    """
    return path.lower() if path.isascii() else path.upper().casefold().replace("i\u0307", "i")


def stated_root_path(app: Any) -> str:
    """Return the root path that a FastAPI app sets itself, whatever the server says; ``""`` for other apps.

    Args:
        app: the app, or a middleware that keeps the wrapped app as ``app``.
    """
    fastapi: Any = sys.modules.get("fastapi")  # if it is not imported, no app is a FastAPI app
    for _ in range(32):
        if fastapi is None or app is None:
            break
        if isinstance(app, fastapi.FastAPI):
            return str(app.root_path)
        app = getattr(app, "app", None)
    return ""


def checked_root_path(app: Any, setting: str) -> str:
    """Return the same as `stated_root_path`, after a comparison with the setting ``root_path``.

    Raises:
        ConfigError: app and setting state different root paths.
    """
    stated = stated_root_path(app)
    if stated and setting not in ("", "scope", stated):
        raise ConfigError(f"root_path is {setting!r}, but the app has root_path={stated!r}; leave the setting out")
    return stated


def of_scope(scope: Mapping[str, Any], setting: str, stated: str) -> tuple[str, str | None]:
    """Return the path that the client requested and the root path at its start.

    Args:
        scope: of an HTTP request or a WebSocket.
        setting: ``root_path`` of the config.
        stated: the root path that the wrapped app states.

    Returns:
        Path and root path. The latter is None where the scope states an unexpected root path, where ``raw_path``
        does not decode to the path or holds a needless escape, or where Litestar shortened the path and there is no
        ``raw_path`` to restore it.

    Raises:
        TypeError: a path is not a string.
    """
    path, root_path = scope.get("path") or "/", scope.get("root_path") or ""
    claimed = scope.get("app_root_path", root_path)  # the root path before Starlette's mounts added theirs
    if not (isinstance(path, str) and isinstance(root_path, str) and isinstance(claimed, str)):
        raise TypeError("a path that is no text")
    if not stated and "app" in scope:
        stated = stated_root_path(scope["app"])
    expected = stated or (claimed if setting == "scope" else setting)
    requested = _decoded(scope.get("raw_path"))
    if "litestar_app" in scope:  # Litestar removes trailing slashes and the path of a mount
        remaining, path = path.rstrip("/"), path if requested is None else requested
        trusted = requested is not None and remaining[:1] in ("", "/") and path.rstrip("/").endswith(remaining)
    else:
        trusted = requested in (None, path)
    trusted = trusted and root_path.startswith(claimed) and (claimed == expected or (bool(stated) and not claimed))
    return path, (root_path or expected) if trusted and not root_path.endswith("/") else None


def routes_on_script_name(app: Any) -> bool:
    """Return whether the WSGI app `app` is CherryPy's, which puts ``SCRIPT_NAME`` before ``PATH_INFO`` to route."""
    return type(app).__module__.partition(".")[0] == "cherrypy"


def of_environ(script_name: str, setting: str, *, is_routed: bool = False) -> str | None:
    """Return the root path at the start of ``PATH_INFO``: always ``""``, since servers split it off.

    Args:
        script_name: ``SCRIPT_NAME`` of the environ.
        setting: ``root_path`` of the config.
        is_routed: whether the app routes on `script_name` too. If the setting is ``""``, `script_name` then has to be
            ``""`` as well, since gunicorn takes it from a request header of the proxies that it trusts.

    Returns:
        ``""``, or None if the setting is another root path.
    """
    return "" if setting in ("scope", script_name) or not (setting or is_routed) else None


def _decoded(raw_path: object) -> str | None:
    """Return the decoded path of `raw_path`, and None if it is not bytes.

    The result is ``""``, which equals no path, for an incomplete or a needless escape: routers that match `raw_path`
    undecoded, as Sanic's and BlackSheep's do, take ``/%61`` and ``/a`` for two paths, and ``/a%2Fb`` for one segment.
    """
    if not isinstance(raw_path, bytes):
        return None
    path = raw_path.partition(b"?")[0]
    if b"%" in path:  # unquote_to_bytes of urllib is slow for many escapes, and keeps incomplete ones
        if _NEEDLESS_ESCAPE.search(path):
            return ""
        try:
            path = path.replace(b"\\", rb"\\").replace(b"%", rb"\x").decode("unicode_escape").encode("latin-1")
        except UnicodeDecodeError:
            return ""
    return path.decode("utf-8", "replace") or "/"
