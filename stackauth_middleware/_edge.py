"""What the two edges share: the stand-in for the network, and the rules for reading an answer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ._wire import Call, Clocks, NoReply, Reply
from .errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from ._config import StackAuthConfig

REQUEST_HEADERS = {"accept-encoding": "identity", "user-agent": "stackauth-middleware"}
"""Sent with every call. A compressed answer could not be capped before it is inflated."""


class StandIn(Protocol):
    """Takes the place of the network. Only `stackauth_middleware.testing` puts one in."""

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        """Answer within `seconds`, or say that there was no answer. May sleep."""
        ...

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        """Do as `send` does, without blocking the event loop."""
        ...


stand_in: StandIn | None = None


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts certifi's authorities, or those that ``SSL_CERT_FILE`` names instead.

    Raises:
        ConfigError: there are no certificates in what is named.
    """
    import ssl

    import certifi

    named = os.environ.get("SSL_CERT_FILE")
    try:
        return ssl.create_default_context(cafile=named or certifi.where(), capath=os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise ConfigError(f"SSL_CERT_FILE is {named!r}; it must be a file of PEM certificates: {error}") from None


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url`, if any.

    Raises:
        ConfigError: it is no http proxy. What else there is, SOCKS say, would hold no deadline here.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme, _, rest = proxy.rpartition("://")
    if scheme.lower() not in ("", "http", "https"):
        raise ConfigError(f"the proxy for {parts.scheme} in the environment is {scheme}://…; it must be an http proxy")
    return f"{scheme.lower() or 'http'}://{rest}"


def check_environment(config: StackAuthConfig) -> None:
    """Raise a ConfigError now for what the environment names and no call could use."""
    if config.trust_env_proxies:
        proxy_for(config.key_set_url)
    if os.environ.get("SSL_CERT_FILE"):
        tls_context()


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Say whether the body is compressed although nothing but ``identity`` was asked for."""
    return headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def clocks() -> Clocks:
    """Read both clocks."""
    return Clocks(time.time(), time.monotonic())


def in_event_loop() -> bool:
    """Say whether an event loop, asyncio's or trio's, runs in this thread."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    return (asyncio is not None and asyncio._get_running_loop() is not None) or (
        trio is not None and trio.lowlevel.in_trio_run()
    )
