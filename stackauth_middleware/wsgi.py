"""The WSGI door: wraps any WSGI app (PEP 3333)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._adapters import publish, request_from_environ
from ._core.config import StackAuthConfig, config_of
from ._core.credentials import vary_names
from ._core.flow import Flow
from ._core.headers import preflight_headers, private_headers
from ._core.outcome import Outcome, Refused
from ._core.sealed import Sealed
from ._core.upstream import Script
from ._io.network import clocks
from .errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._core.config import Settings

__all__ = ["StackAuthWSGIMiddleware"]


class StackAuthWSGIMiddleware:
    """Let only verified Stack Auth users through to a WSGI app, and tell it who they are.

    The user, or None, is ``environ["stackauth.user"]``. A refused request never reaches the app; the
    iterable of the app comes back untouched, except for preflights with ``pass_preflights``.

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
        from ._io.sync_runner import SyncRunner

        self.app = _checked(app)
        self._config = config_of(config, settings)
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)
        self._vary = vary_names(self._config.token_sources) if self._config.private_responses else ()

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Sealed(environ)
        del environ  # error trackers write out the variables of this frame where a hook fails
        step = self._authorize(request)
        outcome = step if isinstance(step, Outcome) else self._runner.run(step)
        if isinstance(outcome, Refused):
            response = outcome.response
            start_response(response.status_line, list(response.headers))
            return [response.body]
        environ = request.value
        publish(environ, outcome)
        if outcome.is_preflight:
            return _relayed_preflight(self.app, environ, start_response)
        if outcome.per_user and self._vary:
            start_response = _making_private(start_response, self._vary)
        return self.app(environ, start_response)

    def _authorize(self, request: Sealed) -> Outcome | Script[Outcome]:
        try:
            record = request_from_environ(request.value, self._config.root_path)
        except Exception:  # any: what is no environ can fail in any way
            return self._flow.unreadable()
        return self._flow.authorize(record, clocks(), defer_refresh=False, in_event_loop=False)


def _checked(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return `app`.

    Raises:
        ConfigError: it is no WSGI app.
    """
    try:
        inspect.signature(app).bind({}, None)
    except TypeError:
        raise ConfigError(
            f"app is {app!r}; it must be a WSGI app (for an ASGI app there is StackAuthASGIMiddleware)"
        ) from None
    except ValueError:
        return app  # written in C, without a signature to be had
    return app


def _relayed_preflight(app: Callable[..., Iterable[bytes]], environ: Any, start_response: Any) -> list[bytes]:
    """Run the app, and return an empty body: of its answer only status and CORS headers are relayed.

    Raises:
        RuntimeError: the app did not call ``start_response``.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def starting(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        started.append((status, list(headers)))
        return lambda data: None

    chunks = app(environ, starting)
    try:
        if not started:  # an app may call start_response as late as when its first chunk is asked for (PEP 3333)
            next(iter(chunks), None)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    if not started:
        raise RuntimeError("the app did not call start_response")
    status, headers = started[-1]
    start_response(status, preflight_headers(int(status[:3]), headers))
    return [b""]


def _making_private(start_response: Callable[..., Any], vary: tuple[str, ...]) -> Callable[..., Any]:
    def starting(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, private_headers(headers, vary), *exc_info)

    return starting
