"""What the two runners share: the transport override of tests, certificates and proxies, reading an answer."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, urlsplit

from .._core.rate_limited_log import logger
from .._core.records import Clocks
from .._core.upstream import Call, NoReply, Reply, Share
from ..errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from .._core.config import StackAuthConfig

HANDLERS: Mapping[type, str] = {Call: "_send", Share: "_join"}
"""The method of each runner that performs an effect, by the effect's type."""
REQUEST_HEADERS = {"accept-encoding": "identity", "user-agent": "stackauth-middleware"}
"""Sent with every call. A compressed answer could not be capped before it is inflated."""


class TransportOverride(Protocol):
    """Takes the place of the network. Only `stackauth_middleware.testing` puts one in."""

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        """Answer within `seconds`, or say that there was no answer. May sleep."""
        ...

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        """Do as `send` does, without blocking the event loop."""
        ...


transport_override: TransportOverride | None = None


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts the authorities that the environment names, or else certifi's.

    ``SSL_CERT_FILE`` comes first, then ``REQUESTS_CA_BUNDLE`` (a file or a folder), then certifi. What
    ``SSL_CERT_DIR`` names is trusted besides. An empty value counts as none.

    Raises:
        ConfigError: what a variable names has no certificates, or is no folder.
    """
    import ssl

    import certifi

    folders = os.environ.get("SSL_CERT_DIR") or None
    # several folders in one value are OpenSSL's own way
    if folders and not any(Path(each).is_dir() for each in folders.split(os.pathsep)):
        raise ConfigError(f"SSL_CERT_DIR is {folders!r}; it must be a folder of certificates")
    name = next((each for each in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.environ.get(each)), "")
    file: str | None = os.environ.get(name) or certifi.where()
    if name == "REQUESTS_CA_BUNDLE" and Path(str(file)).is_dir():
        file, folders = None, os.pathsep.join(filter(None, (file, folders)))
    try:
        return ssl.create_default_context(cafile=file, capath=folders)
    except OSError as error:
        raise ConfigError(f"{name} is {file!r}; it must be a file of PEM certificates: {error}") from None


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url`, if any.

    Raises:
        ConfigError: it is no http proxy. What else there is, SOCKS say, would hold no deadline here.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc) or _excepts(proxies.get("no", ""), parts):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme, _, rest = proxy.rpartition("://")
    if scheme.lower() not in ("", "http", "https"):
        raise ConfigError(f"the proxy for {parts.scheme} in the environment is {scheme}://…; it must be an http proxy")
    return f"{scheme.lower() or 'http'}://{rest}"


def _excepts(no_proxy: str, url: SplitResult) -> bool:
    """Say whether an address or network in `no_proxy` holds the host of `url`: urllib compares names alone."""
    from ipaddress import ip_address, ip_network

    try:
        host = ip_address(url.hostname or "")
    except ValueError:
        return False
    for entry in no_proxy.split(","):
        network, _, port = entry.strip().rpartition("]:") if "]:" in entry else (entry.strip(), "", "")
        with contextlib.suppress(ValueError):  # most entries are names
            if host in ip_network(network.strip("[]"), strict=False) and port in ("", str(url.port)):
                return True
    return False


def names_proxy(url: str) -> bool:
    """Say whether the environment names a proxy for `url`, of whatever kind."""
    try:
        return proxy_for(url) is not None
    except ConfigError:
        return True


def check_environment(config: StackAuthConfig) -> None:
    """Raise a ConfigError now for what the environment names and no call could use."""
    if config.trust_env_proxies:
        proxy_for(config.key_set_url)
    elif names_proxy(config.key_set_url):
        _mention_proxy()
    if any(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"))):
        tls_context()


@functools.cache
def _mention_proxy() -> None:
    """Log that a proxy is not used, once in a process: two runners of every config come here."""
    logger.info("the environment names a proxy, which is not used: trust_env_proxies is False")


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
