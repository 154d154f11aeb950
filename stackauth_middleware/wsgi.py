"""`StackAuthWSGIMiddleware`: authenticates the requests to a WSGI app (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from ._adapters import accepts, is_async, publish, request_from_environ, shown
from ._core.config import StackAuthConfig, config_of
from ._core.flow import Flow
from ._core.headers import preflight_headers, private_headers, vary_of
from ._core.outcome import Outcome, Refused
from ._core.paths import routes_on_script_name
from ._core.pickling import PickledByConfig
from ._core.records import Clocks, RequestRecord
from ._core.sealed import Sealed
from ._core.upstream import Script
from .errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._core.config import Settings

__all__ = ["StackAuthWSGIMiddleware"]

_RECURSION = (
    "the middleware wraps the app whose wsgi_app it is, so each calls the other; "
    "write: app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app)"
)


class StackAuthWSGIMiddleware(PickledByConfig):
    """Authenticate the requests to a WSGI app, and refuse those that the rules do not allow.

    The verified user, or None, is ``environ["stackauth.user"]``. The app is never called for a refused request. Its
    iterable is returned as it is, except for preflights with ``pass_preflights``. Follows PEP 3333.

    Args:
        app: a WSGI app.
        config: the settings. Middlewares and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid, or `app` is not a WSGI app.

    Not promised: that the headers ``X_Stack_Access_Token`` and ``X-Stack-Access-Token`` are distinguished. An
    environ has one key for both (RFC 3875 section 4.1.18), so servers must drop the former, as gunicorn does.

    Example::

        app = Flask(__name__)
        app.wsgi_app = StackAuthWSGIMiddleware(app.wsgi_app, config=StackAuthConfig())
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        config: StackAuthConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.app = _checked(app)
        self._config = config_of(config, settings)
        self._script_name_is_routed = routes_on_script_name(app)
        self._vary = vary_of(self._config) if self._config.private_responses else ()
        self._connect()

    def _connect(self) -> None:
        from ._io.sync_runner import SyncRunner

        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Authenticate a request and pass it on, or return the refusal.

        Raises:
            ConfigError: the middleware wraps an app that calls it.
        """
        if getattr(self.app, "wsgi_app", None) is self:
            raise ConfigError(_RECURSION)
        try:
            request = request_from_environ(
                environ, self._config.root_path, script_name_is_routed=self._script_name_is_routed
            )
        except Exception:  # of any type: the environ is invalid
            request = None
        outcome: Outcome | None = None
        if request is not None and request.headers:
            outcome = self._flow.short_path.outcome(request, time(), monotonic(), in_event_loop=False)
        if outcome is None:
            sealed = Sealed(environ)
            del environ  # error trackers show the variables of this frame if a hook raises
            step = self._authorize(request)
            outcome = step if isinstance(step, Outcome) else self._runner.run(step)
            if isinstance(outcome, Refused):
                response = outcome.response
                start_response(response.status_line, list(response.headers))
                return [response.body]
            environ = sealed.value
        publish(environ, outcome)
        if outcome.is_preflight:
            return _relayed_preflight(self.app, environ, start_response)
        if outcome.per_user and self._vary:
            start_response = _making_private(start_response, self._vary)
        return self.app(environ, start_response)

    def _authorize(self, request: RequestRecord | None) -> Outcome | Script[Outcome]:
        """Return the outcome of a request, or a script that returns it. Called if the short path gives no outcome.

        Args:
            request: the request; None if the environ is invalid.
        """
        if request is None:
            return self._flow.unreadable()
        return self._flow.authorize(request, Clocks(time(), monotonic()), defer_refresh=False, in_event_loop=False)


def _checked(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return `app`.

    Raises:
        ConfigError: `app` is not a WSGI app.
    """
    if is_async(app) or not accepts(app, 2):
        raise ConfigError(
            f"app is {shown(app)}; it must be a WSGI app (for an ASGI app there is StackAuthASGIMiddleware)"
        )
    return app


def _relayed_preflight(app: Callable[..., Iterable[bytes]], environ: Any, start_response: Any) -> list[bytes]:
    """Run the app, relay status and CORS headers of its response, and return an empty body.

    Raises:
        RuntimeError: the app has not called ``start_response``.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def starting(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        started.append((status, list(headers)))
        return lambda data: None

    chunks = app(environ, starting)
    try:
        if not started:  # an app may call start_response when its first chunk is requested (PEP 3333)
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
    """Return a `start_response` that marks the response as private, as `private_headers` does."""

    def starting(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, private_headers(headers, vary), *exc_info)

    return starting
