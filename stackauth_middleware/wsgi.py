"""The WSGI door: wraps any WSGI app (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ._config import StackAuthConfig, config_of
from ._door import ERROR, HEADER_NAMES, PRESENTED, USER
from ._edge import clocks
from ._flow import Flow
from ._verdict import Admitted
from ._wire import Inbound, Response

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._config import Settings

__all__ = ["StackAuthWSGIMiddleware"]

_WANTED = tuple((f"HTTP_{name.upper().replace('-', '_')}", name) for name in sorted(HEADER_NAMES))


class StackAuthWSGIMiddleware:
    """Let only verified Stack Auth users through to a WSGI app, and tell it who they are.

    The user, or None, is ``environ["stackauth.user"]``. A refused request never reaches the app; the
    iterable of the app comes back untouched.

    Args:
        app: any WSGI app.
        config: the settings; doors and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, where no `config` is given.

    Raises:
        ConfigError: a setting is wrong.

    Not promised: that ``X_Stack_Access_Token`` is told from ``X-Stack-Access-Token``. CGI spells them
    alike, so that is the server's to do; gunicorn drops the former.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        config: StackAuthConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        from ._sync import SyncEdge

        self.app = app
        self._config = config_of(config, settings)
        self._flow = self._config.own(Flow)
        self._edge = self._config.own(SyncEdge)

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        step = self._flow.gate(_inbound(environ, self._config.root_path), clocks(), defer_refresh=False)
        verdict = step if isinstance(step, Admitted | Response) else self._edge.run(step)
        if isinstance(verdict, Response):
            status = HTTPStatus(verdict.status)
            start_response(f"{status.value} {status.phrase}", list(verdict.headers))
            return [verdict.body]
        environ[USER] = verdict.user
        environ[ERROR] = verdict.error
        environ[PRESENTED] = verdict.presented
        return self.app(environ, start_response)


def _inbound(environ: Any, root_path: str | None) -> Inbound:
    headers = {name: environ[key] for key, name in _WANTED if key in environ}
    path = environ.get("PATH_INFO") or "/"
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return Inbound(environ.get("REQUEST_METHOD") or "GET", path, root_path or "", headers)
