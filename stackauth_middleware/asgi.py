"""The ASGI door: wraps any ASGI app, and lets http and WebSocket requests through by the same gate."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, cast

from ._adapters import publish, request_from_scope
from ._core.config import StackAuthConfig, config_of
from ._core.credentials import SUBPROTOCOL, vary_names
from ._core.flow import Flow
from ._core.headers import preflight_headers, private_headers
from ._core.outcome import Outcome, Refused
from ._core.paths import checked_root_path
from ._core.records import Response
from ._core.responses import close_code_of
from ._core.sealed import Sealed
from ._core.upstream import Script
from ._core.users import GUEST, Permissions, User, UserType
from ._io.network import clocks
from .errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._core.config import Settings

__all__ = ["StackAuthASGIMiddleware"]

logger = logging.getLogger("stackauth_middleware")


class StackAuthASGIMiddleware:
    """Let only verified Stack Auth users through to an ASGI app, and tell it who they are.

    The user, or None, is ``scope["stackauth.user"]`` and, for frameworks that read it,
    ``scope["state"]["user"]``. A refused request never reaches the app.

    Args:
        app: any ASGI 3 app, or an ASGI 2 one.
        config: the settings; doors and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, where no `config` is given.

    Raises:
        ConfigError: a setting is wrong.

    Nothing is fetched here. A lifespan, where the server has one, is used to fetch the keys early.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        config: StackAuthConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        from ._io.async_runner import AsyncRunner

        self.app = _single_callable(app)
        self._config = config_of(config, settings)
        self._stated = checked_root_path(app, self._config.root_path)
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(AsyncRunner)
        self._vary = vary_names(self._config.token_sources) if self._config.private_responses else ()

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await (self._lifespan if kind == "lifespan" else self.app)(scope, receive, send)
            return
        request = Sealed(scope)
        del scope  # error trackers write out the variables of this frame where a hook fails
        step = self._authorize(request)
        outcome = step if isinstance(step, Outcome) else await self._runner.run(step)
        scope = request.value
        if isinstance(outcome, Refused):
            refuse = self._refuse_websocket if kind == "websocket" else _refuse
            await refuse(scope, receive, send, outcome.response)
            return
        publish(scope, outcome)
        self._fill_state(scope, outcome.user)
        if kind == "websocket" and "websocket" in self._config.token_sources and _hide_token(scope):
            send = _echoing(send)
        elif outcome.is_preflight:
            send = _relaying_preflight(send)
        elif outcome.per_user and self._vary and kind == "http":
            send = _making_private(send, self._vary)
        await self.app(scope, receive, send)
        if outcome.refresh is not None:
            await self._refresh(outcome.refresh)

    def _authorize(self, request: Sealed) -> Outcome | Script[Outcome]:
        try:
            record = request_from_scope(request.value, self._config.root_path, self._stated)
        except Exception:  # any: what is no scope can fail in any way
            return self._flow.unreadable()
        return self._flow.authorize(record, clocks(), defer_refresh=True, in_event_loop=True)

    async def _refresh(self, user_type: UserType) -> None:
        """Refresh a stale key set now that the app is done and nobody waits for this task."""
        try:
            await self._runner.run(self._flow.keys.refresh_if_stale(user_type, clocks()))
        except Exception:
            logger.exception("the keys could not be refreshed; a later request will try again")

    def _fill_state(self, scope: MutableMapping[str, Any], user: User | None) -> None:
        """Write the user where Starlette, FastAPI and others look, in place: outer layers may hold the scope."""
        key = self._config.state_key
        if key is not None:
            state = scope.get("state")
            if state is None:
                scope["state"] = {key: user}
            elif isinstance(state, MutableMapping):
                if key in state:  # some servers hand one dict to all requests; another user must not show through it
                    state = scope["state"] = {**state}
                state[key] = user
        if self._config.request_user:
            scope["user"] = GUEST if user is None else user
            scope["auth"] = Permissions([] if user is None else ["authenticated"])

    async def _refuse_websocket(self, scope: Any, receive: Any, send: Any, response: Response) -> None:
        """Refuse before accepting, with the whole response where the server can send one."""
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

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the lifespan through; fetch keys from its start to its shutdown; close what was opened.

        Nothing is awaited that the app does not await: there are drivers, Falcon's test client among
        them, that lose their word for shutdown on whoever does not listen for it at once.
        """
        from ._io.async_runner import beside

        async with beside(self._prefetch_keys) as (start, give_up):

            async def receiving() -> Any:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    give_up()
                return message

            async def sending(message: Any) -> None:
                if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                    await self._runner.aclose()
                await send(message)
                if message["type"] == "lifespan.startup.complete" and self._config.prefetch_keys:
                    start()

            await self.app(scope, receiving, sending)

    async def _prefetch_keys(self) -> None:
        try:
            await self._runner.run(self._flow.keys.prefetch_keys(clocks()))
        except Exception:
            logger.exception("the keys could not be fetched early; the first request will ask for them")


def _single_callable(app: Callable[..., Any]) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return `app` as an ASGI 3 app.

    Raises:
        ConfigError: it is none, nor an ASGI 2 one.
    """
    if _takes(app, 3):
        return app
    if not _takes(app, 1):
        raise ConfigError(f"app is {app!r}; it must be an ASGI app (for a WSGI app there is StackAuthWSGIMiddleware)")
    from asgiref.compatibility import guarantee_single_callable

    adapted: Callable[[Any, Any, Any], Awaitable[None]] = cast("Any", guarantee_single_callable)(app)
    return adapted


def _takes(app: Any, count: int) -> bool:
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True  # written in C, without a signature to be had
    return True


def _offered(scope: Any) -> list[str]:
    """Return the sub-protocols that the client offers; those alone that can be echoed."""
    offered = scope.get("subprotocols")
    return [each for each in offered if isinstance(each, str)] if isinstance(offered, Iterable) else []


async def _refuse(scope: Any, receive: Any, send: Any, response: Response) -> None:
    await _respond(send, "http.response", response)


async def _respond(send: Any, event: Literal["http.response", "websocket.http.response"], response: Response) -> None:
    start = {"type": f"{event}.start", "status": response.status, "headers": list(response.raw_headers)}
    await send(start)
    await send({"type": f"{event}.body", "body": response.body})


def _hide_token(scope: Any) -> bool:
    """Take each ``stackauth, <token>`` out of what the app sees; say whether nothing else was offered."""
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
    """Echo the carrier's own sub-protocol where the app chooses none: a browser closes when it gets none."""

    async def echo(message: Any) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": SUBPROTOCOL}
        await send(message)

    return echo


def _relaying_preflight(send: Any) -> Any:
    """Relay status and CORS headers of the app's first response, end it there, and drop all other messages.

    After that the server tells the app that the request is over, so that an app that streams stops.
    """
    started = False

    async def relay(message: Any) -> None:
        nonlocal started
        if message["type"] == "http.response.start" and not started:
            started = True
            headers = preflight_headers(message["status"], _text(message.get("headers")))
            await send({"type": "http.response.start", "status": message["status"], "headers": _octets(headers)})
            await send({"type": "http.response.body", "body": b""})

    return relay


def _making_private(send: Any, vary: tuple[str, ...]) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _octets(private_headers(_text(message.get("headers")), vary))}
        await send(message)

    return sending


def _text(headers: Iterable[tuple[bytes, bytes]] | None) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers or ()]


def _octets(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
