"""`StackAuthASGIMiddleware`: authenticates the HTTP and WebSocket requests to an ASGI app."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, cast

from . import _misconfigured
from ._adapters import accepts, publish_in_scope, request_from_scope, shown
from ._core.config import StackAuthConfig, config_of
from ._core.credentials import SUBPROTOCOL
from ._core.flow import Flow
from ._core.headers import preflight_headers, private_headers, vary_of
from ._core.outcome import Outcome, Refused
from ._core.paths import checked_root_path
from ._core.pickling import PickledByConfig
from ._core.records import Clocks, RequestRecord, Response
from ._core.responses import close_code_of
from ._core.sealed import Sealed
from ._core.upstream import Script
from ._core.users import UserType
from ._io import request_body
from ._io.network import in_event_loop
from .errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._core.config import Settings
    from ._io.background import BackgroundTask

__all__ = ["StackAuthASGIMiddleware"]

logger = logging.getLogger("stackauth_middleware")

_RECURSION = (
    "the middleware wraps the app whose asgi_app it is, so each calls the other; "
    "write: app.asgi_app = StackAuthASGIMiddleware(app.asgi_app)"
)


class StackAuthASGIMiddleware(PickledByConfig):
    """Authenticate the requests to an ASGI app, and refuse those that the rules do not allow.

    The verified user, or None, is ``scope["stackauth.user"]`` and, as frameworks read it,
    ``scope["state"]["user"]``. The app is never called for a refused request. Follows ASGI 3.0.

    Args:
        app: an ASGI 3 or ASGI 2 app.
        config: the settings. Middlewares and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid, or `app` is not an ASGI app. If a framework makes the middleware
            only in the first call of the app, as ``add_middleware`` of Starlette does, that call fails instead: the
            lifespan, and with it the start of the server. A `StackAuthConfig` checks its settings when it is made.

    Not promised: that keys are fetched before the first request. They are prefetched once the app has started, if
    the server runs a lifespan and ``prefetch_keys`` is on. The constructor makes no network call.

    Example::

        app = FastAPI()
        app.add_middleware(StackAuthASGIMiddleware, config=StackAuthConfig(rules=[Rule("/health", "public")]))
    """

    def __init__(
        self,
        app: Callable[..., Any],
        config: StackAuthConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.app = _single_callable(app)
        self._error: ConfigError | None = None
        try:
            self._config = config_of(config, settings)
            self._stated = checked_root_path(app, self._config.root_path)
        except ConfigError as error:
            if not _misconfigured.within_asgi_call():
                raise
            self._error = error
            return
        self._vary = vary_of(self._config) if self._config.private_responses else ()
        self._connect()

    def _connect(self) -> None:
        from ._io.async_runner import AsyncRunner

        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(AsyncRunner)

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> Any:
        """Authenticate a request and pass it on, or send the refusal.

        Raises:
            ConfigError: the middleware wraps an app that calls it, or was made with wrong settings within a call.
        """
        if self._error is not None:
            return await _misconfigured.fail(self._error, scope, receive, send)
        kind = scope["type"]
        if getattr(self.app, "asgi_app", None) is self:
            raise ConfigError(_RECURSION)
        if kind not in ("http", "websocket"):
            return await (self._lifespan if kind == "lifespan" else self.app)(scope, receive, send)
        try:
            request = request_from_scope(scope, self._config.root_path, self._stated)
        except Exception:  # of any type: the scope is invalid
            request = None
        outcome: Outcome | None = None
        if request is not None and request.headers:
            outcome = self._flow.short_path.outcome(request, time(), monotonic(), in_event_loop=True)
        if outcome is None:
            sealed = Sealed(scope)
            del scope  # error trackers show the variables of this frame if a hook raises
            step = self._authorize(request)
            outcome = step if isinstance(step, Outcome) else await self._runner.run(step)
            scope = sealed.value
            if isinstance(outcome, Refused):
                refuse = self._refuse_websocket if kind == "websocket" else _refuse
                return await refuse(scope, receive, send, outcome.response)
        publish_in_scope(scope, outcome)
        if kind == "websocket" and "websocket" in self._config.token_sources and _hide_token(scope):
            send = _echoing(send)
        elif outcome.is_preflight:
            send = _relaying_preflight(send)
        elif outcome.per_user and self._vary and kind == "http":
            send = _making_private(send, self._vary)
        result: Any = await self.app(scope, receive, send)
        if outcome.refresh is not None:
            await self._refresh(outcome.refresh)
        return result

    def _authorize(self, request: RequestRecord | None) -> Outcome | Script[Outcome]:
        """Return the outcome of a request, or a script that returns it. Called if the short path gives no outcome.

        Args:
            request: the request; None if the scope is invalid.
        """
        if request is None:
            return self._flow.unreadable()
        return self._flow.authorize(request, Clocks(time(), monotonic()), defer_refresh=True, in_event_loop=True)

    async def _refresh(self, user_type: UserType) -> None:
        """Refresh a stale key set (stale-while-revalidate); the response has been sent."""
        try:
            await self._runner.run(self._flow.keys.refresh_if_stale(user_type, Clocks(time(), monotonic())))
        except Exception:
            logger.exception("the key set could not be refreshed; a later request will try again")

    async def _refuse_websocket(self, scope: Any, receive: Any, send: Any, response: Response) -> None:
        """Refuse before accepting the connection; with a response if the server supports it, else a close code."""
        await receive()
        close = {"type": "websocket.close", "code": close_code_of(response.status)}
        if self._config.websocket_refusal == "accept":
            offered = _offered(scope)
            chosen = SUBPROTOCOL if SUBPROTOCOL in offered else next(iter(offered), None)
            await send({"type": "websocket.accept", "subprotocol": chosen})
            await send(close)
        elif "websocket.http.response" in (scope.get("extensions") or {}):
            await _respond(send, "websocket.http.response", response)
        else:
            await send(close)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> Any:
        """Run the lifespan of the app; prefetch keys between startup and shutdown, and close connections at its end.

        Until the app returns, it awaits nothing that the app does not await: some drivers, such as the test client of
        Falcon, lose the shutdown message if the app does not wait for it at once.
        """
        prefetch: BackgroundTask | None = None

        async def receiving() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and prefetch is not None:
                prefetch.cancel()
            return message

        async def sending(message: Any) -> None:
            nonlocal prefetch
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed") and in_event_loop():
                await self._runner.aclose()
            await send(message)
            if message["type"] == "lifespan.startup.complete" and self._config.prefetch_keys and in_event_loop():
                from ._io import background

                prefetch = background.BackgroundTask(self._prefetch_keys)

        try:
            result: Any = await self.app(scope, receiving, sending)
        finally:
            if prefetch is not None:
                prefetch.cancel()
        if prefetch is not None:
            await prefetch.wait()
        return result

    async def _prefetch_keys(self) -> None:
        try:
            await self._runner.run(self._flow.keys.prefetch_keys(Clocks(time(), monotonic())))
        except Exception:
            logger.exception("the key set could not be prefetched; the first request will fetch it")


def _single_callable(app: Callable[..., Any]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """Return `app` as an ASGI 3 app.

    Raises:
        ConfigError: `app` is neither an ASGI 3 nor an ASGI 2 app.
    """
    if accepts(app, 3):
        return app
    if not accepts(app, 1):
        raise ConfigError(
            f"app is {shown(app)}; it must be an ASGI app (for a WSGI app there is StackAuthWSGIMiddleware)"
        )
    from asgiref.compatibility import guarantee_single_callable

    adapted: Callable[[Any, Any, Any], Awaitable[None]] = cast("Any", guarantee_single_callable)(app)
    return adapted


def _offered(scope: Any) -> list[str]:
    """Return the subprotocols that the client offers, without invalid values."""
    offered = scope.get("subprotocols")
    return [each for each in offered if isinstance(each, str)] if isinstance(offered, Iterable) else []


async def _refuse(scope: Any, receive: Any, send: Any, response: Response) -> None:
    """Send the refusal, after a short body of the request has been received: see `request_body`."""
    if request_body.is_droppable(scope) and in_event_loop():
        await request_body.drop(receive)
    await _respond(send, "http.response", response)


async def _respond(send: Any, event: Literal["http.response", "websocket.http.response"], response: Response) -> None:
    start = {"type": f"{event}.start", "status": response.status, "headers": list(response.raw_headers)}
    await send(start)
    await send({"type": f"{event}.body", "body": response.body})


def _hide_token(scope: Any) -> bool:
    """Remove each pair ``stackauth, <token>`` from the offered subprotocols; return whether none is left."""
    offered = _offered(scope)
    if SUBPROTOCOL not in offered:
        return False
    rest: list[str] = []
    left = iter(offered)
    for each in left:
        if each == SUBPROTOCOL:
            next(left, None)
        else:
            rest.append(each)
    scope["subprotocols"] = rest
    header = b"sec-websocket-protocol"
    scope["headers"] = [pair for pair in scope.get("headers") or () if pair[0] != header]
    if rest:
        scope["headers"].append((header, ", ".join(rest).encode("latin-1", "replace")))
    return not rest


def _echoing(send: Any) -> Any:
    """Return a `send` that chooses the subprotocol ``stackauth`` if the app chooses none, since browsers need one."""

    async def echo(message: Any) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": SUBPROTOCOL}
        await send(message)

    return echo


def _relaying_preflight(send: Any) -> Any:
    """Relay status and CORS headers of the first response of the app, end the response, and drop other messages.

    The server then reports a disconnect to the app, so that a streaming app stops.
    """
    started = False

    async def relay(message: Any) -> None:
        nonlocal started
        if message["type"] == "http.response.start" and not started:
            started = True
            headers = preflight_headers(message["status"], _decoded(message.get("headers")))
            await send({"type": "http.response.start", "status": message["status"], "headers": _encoded(headers)})
            await send({"type": "http.response.body", "body": b""})

    return relay


def _making_private(send: Any, vary: tuple[str, ...]) -> Any:
    """Return a `send` that marks the response as private, as `private_headers` does."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _encoded(private_headers(_decoded(message.get("headers")), vary))}
        await send(message)

    return sending


def _decoded(headers: Iterable[tuple[bytes, bytes]] | None) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers or ()]


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
