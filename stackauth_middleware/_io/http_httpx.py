"""HTTP client for tasks, built on httpx2 where it is installed, else on httpx.

httpx2 is the maintained continuation of httpx, with the same interface. It is imported under one name, so that an
exception handler cannot name the wrong library. By default, httpx2 trusts the operating system's authorities, and httpx
those of certifi; here both get the TLS context of `network.tls_context`.

This client uses the transport of httpx without its `AsyncClient`, so that there is nothing that could keep a cookie,
follow a redirect or read a netrc file.
"""

from __future__ import annotations

import contextlib
import ssl
import traceback
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import anyio

from .._core.upstream import Call, NoReply, Reply
from . import network
from .attempt import ENCODED, MAX_IDLE, Attempt, Stage
from .network import monotonic

if TYPE_CHECKING:
    import httpx
else:
    httpx = import_module("httpx2" if find_spec("httpx2") else "httpx")

# The libraries import these at the first call only, which would block the event loop for a tenth of a second.
import_module(httpx.__name__.replace("httpx", "httpcore"))
for _backend in ("asyncio", "trio"):
    with contextlib.suppress(ImportError):
        import_module(f"anyio._backends._{_backend}")


class _Pool:
    """The connections of one event loop to Stack Auth, or to one proxy."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self.transport = transport
        self._calls = 0
        self._retired = False

    @contextlib.asynccontextmanager
    async def in_use(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """Keep the pool open until the end of the ``async with`` block, even if it is retired meanwhile."""
        self._calls += 1
        try:
            yield self.transport
        finally:
            self._calls -= 1
            await self._close_if_unused()

    async def retire(self) -> None:
        """Close the pool after the last call that uses it: httpx cannot close a single connection."""
        self._retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._retired and not self._calls:
            with anyio.CancelScope(shield=True):
                await self.transport.aclose()


class HttpxClient:
    """Sends calls over pooled connections of one event loop.

    Args:
        tls: the certificate authorities to trust.
        trust_env_proxies: whether to use the proxies that the environment names.
    """

    def __init__(self, tls: ssl.SSLContext, *, trust_env_proxies: bool) -> None:
        self._tls = tls
        self._proxied = trust_env_proxies
        self._pools: dict[str | None, _Pool] = {}

    async def aclose(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        for proxy in list(self._pools):
            await self._pools.pop(proxy).transport.aclose()

    async def send(self, call: Call, deadline: float) -> Reply | NoReply:
        """Same as `RequestsClient.send`, but async."""
        attempt = Attempt(call, deadline)
        try:
            proxy = network.proxy_for(call.url) if self._proxied else None
            attempt.proxied = proxy is not None
            with anyio.fail_after(deadline - monotonic()) as scope:
                if call.fresh and proxy in self._pools:
                    await self._pools.pop(proxy).retire()
                pool = self._pools.get(proxy) or self._pools.setdefault(proxy, self._new_pool(proxy))
                async with pool.in_use() as transport:
                    return await _exchange(transport, attempt, scope)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return attempt.failed(error)

    def _new_pool(self, proxy_url: str | None) -> _Pool:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=MAX_IDLE)
        tls = self._tls if proxy_url and proxy_url.startswith("https:") else None
        proxy = httpx.Proxy(proxy_url, ssl_context=tls) if proxy_url else None
        return _Pool(httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=limits, proxy=proxy))


async def _exchange(transport: httpx.AsyncHTTPTransport, attempt: Attempt, scope: anyio.CancelScope) -> Reply | NoReply:
    """Send the call and read its reply; `scope` ends when the attempt is due."""
    connected = False

    def enter(stage: Stage) -> None:
        attempt.stage = stage
        scope.deadline = anyio.current_time() + attempt.due - monotonic()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        nonlocal connected
        if event == "connection.connect_tcp.started":
            connected = True
        elif event == "connection.connect_tcp.failed":
            await _close_lost_stream(info["exception"])
        elif event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            attempt.reused = not connected
            enter(Stage.WAITING)

    headers = {**network.REQUEST_HEADERS, **attempt.call.headers}
    method, url, content = attempt.call.method, attempt.call.url, attempt.call.body or None
    request = httpx.Request(method, url, headers=headers, content=content, extensions={"trace": trace})
    response = await transport.handle_async_request(request)
    enter(Stage.READING)
    try:
        return await _read(response, attempt)
    finally:
        await response.aclose()


async def _close_lost_stream(error: BaseException) -> None:
    """Close the stream that `anyio.connect_tcp` held when it was cancelled.

    Before 4.16, anyio drops a stream that is connected just as the cancellation arrives. Its socket then stays open
    until a garbage collection, and nothing but the traceback of the cancellation refers to it.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        stream = frame.f_locals.get("connected_stream") if frame.f_code.co_name == "connect_tcp" else None
        if stream is not None:
            await anyio.aclose_forcefully(stream)


async def _read(response: httpx.Response, attempt: Attempt) -> Reply | NoReply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if network.is_encoded(headers):
        return ENCODED
    body = bytearray()
    # A `break` would leave four nested async generators unfinished; cancelling ends them, the innermost first.
    with anyio.CancelScope() as scope:
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            body += chunk
            if len(body) > attempt.call.max_bytes:
                scope.cancel()
    too_large = len(body) > attempt.call.max_bytes
    return attempt.too_large() if too_large else Reply(response.status_code, headers, bytes(body))
