"""Where the path of a request comes from, and which part of it is the mount point.

A scope's ``root_path`` is a claim: Daphne takes it from a request header. So it has to be what the config,
or the app itself, states. What Starlette's mounts add to it comes from routing, and is believed.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from ..errors import ConfigError

NO_TEXT = r"[\0-\x1f\x7f-\x9f\u2028\u2029\\\ufffd\ud800-\udfff]"
"""Control characters and line ends, the other separator, octets that are no UTF-8."""
_NOT_PLAIN = re.compile(NO_TEXT.replace("[", "[;#?%"))
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_SPACE_AT_END = re.compile(r"/\s|\s/|\s\Z")
_NO_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")


def is_plain(path: str) -> bool:
    """Say whether every router reads `path` as the same segments."""
    if path[:1] != "/" or "//" in path or _NOT_PLAIN.search(path) or ("/." in path and _DOT_SEGMENT.search(path)):
        return False
    if path.isascii():
        return " " not in path or not _SPACE_AT_END.search(path)
    return not _SPACE_AT_END.search(path) and unicodedata.is_normalized("NFC", path)


def folded(path: str) -> str:
    """Return what spellings of `path` have in common that a router could take for one another.

    Upper case first, then lower: ``re.IGNORECASE`` takes U+0131 and U+0130 for ``i``.
    """
    return path.lower() if path.isascii() else path.upper().casefold().replace("i\u0307", "i")


def stated_root_path(app: Any) -> str:
    """Return the root path that a FastAPI app sets itself, wherever the server says it is mounted; else ``""``.

    Args:
        app: the app, perhaps within middlewares that keep what they wrap as ``app``.
    """
    fastapi: Any = sys.modules.get("fastapi")  # no app is one of its before it was imported
    for _ in range(32):
        if fastapi is None or app is None:
            break
        if isinstance(app, fastapi.FastAPI):
            return str(app.root_path)
        app = getattr(app, "app", None)
    return ""


def checked_root_path(app: Any, setting: str) -> str:
    """Return what `stated_root_path` does.

    Raises:
        ConfigError: the setting ``root_path`` is another one.
    """
    stated = stated_root_path(app)
    if stated and setting not in ("", "scope", stated):
        raise ConfigError(f"root_path is {setting!r}, but the app has root_path={stated!r}; leave the setting out")
    return stated


def of_scope(scope: Mapping[str, Any], setting: str, stated: str) -> tuple[str, str | None]:
    """Return the path that the client asked for and the root path within it.

    Args:
        scope: of an HTTP request or a WebSocket.
        setting: ``root_path`` of the config.
        stated: the root path that the wrapped app states.

    Returns:
        Path and root path. The latter is None where the scope says another root path than it should, where
        ``raw_path`` does not decode to the path, or where Litestar cut the path and nothing tells how.

    Raises:
        TypeError: a path that is no text.
    """
    path, root_path = scope.get("path") or "/", scope.get("root_path") or ""
    claimed = scope.get("app_root_path", root_path)  # before the mounts of Starlette
    if not (isinstance(path, str) and isinstance(root_path, str) and isinstance(claimed, str)):
        raise TypeError("a path that is no text")
    stated = stated or stated_root_path(scope.get("app"))
    expected = stated or (claimed if setting == "scope" else setting)
    asked = _asked(scope.get("raw_path"))
    if "litestar_app" in scope:  # which has dropped slashes, and what a mount stands for
        cut, path = path.rstrip("/"), path if asked is None else asked
        trusted = asked is not None and cut[:1] in ("", "/") and path.rstrip("/").endswith(cut)
    else:
        trusted = asked in (None, path)
    trusted = trusted and root_path.startswith(claimed) and (claimed == expected or (bool(stated) and not claimed))
    return path, (root_path or expected) if trusted and not root_path.endswith("/") else None


def of_environ(script_name: str, setting: str) -> str | None:
    """Return the root path within a ``PATH_INFO``: ``""``, since WSGI apps route on what stands below it.

    Args:
        script_name: what the server, or a layer outside, has taken off.
        setting: ``root_path`` of the config.

    Returns:
        None where the setting names another one.
    """
    return "" if setting in ("", "scope", script_name) else None


def _asked(raw_path: object) -> str | None:
    """Return the path that `raw_path` decodes to, ``""`` where it does not; None where there is none."""
    if not isinstance(raw_path, bytes):
        return None
    octets = raw_path.partition(b"?")[0]
    if b"%" in octets:
        if _NO_ESCAPE.search(octets):
            return ""
        octets = unquote_to_bytes(octets)
    return octets.decode("utf-8", "replace") or "/"
