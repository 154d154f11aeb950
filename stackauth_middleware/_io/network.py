"""Shared by both runners: TLS, proxies, clocks, and the transport override that tests put in place of the network."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, urlsplit

from .._core.rate_limited_log import logger
from .._core.records import Clocks
from .._core.upstream import Call, NoReply, Reply
from ..errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from .._core.config import StackAuthConfig

REQUEST_HEADERS = {"accept-encoding": "identity", "user-agent": "stackauth-middleware"}
"""Headers of every call. No compression: a size limit could not be enforced before a body is decompressed."""


class TransportOverride(Protocol):
    """Replaces the network. Only `stackauth_middleware.testing` sets one."""

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        """Return the reply to `call`, or why there is none, within `seconds`. May sleep."""
        ...

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        """Same as `send`, but async."""
        ...


transport_override: TransportOverride | None = None


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts the certificate authorities named by the environment, or else certifi's.

    ``SSL_CERT_FILE`` takes precedence over ``REQUESTS_CA_BUNDLE`` (a file or a folder), which takes precedence over
    certifi. The folders in ``SSL_CERT_DIR`` are trusted in addition. An empty value counts as unset.

    Raises:
        ConfigError: a variable names a file without certificates, or something that is not a folder.
    """
    import ssl

    import certifi

    folders = os.environ.get("SSL_CERT_DIR") or None
    # OpenSSL takes several folders in one value.
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
        ConfigError: it is not an HTTP proxy. Others, such as SOCKS, are not supported, since they would not observe
            the deadline.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc) or _is_excluded(proxies.get("no", ""), parts):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme, _, rest = proxy.partition("://") if "://" in proxy else ("http", "", proxy)
    if scheme.lower() not in ("http", "https"):
        shown = f"{scheme}://…" if re.fullmatch("[a-z][a-z0-9+.-]*", scheme, re.IGNORECASE) else "no URL"
        raise ConfigError(f"the proxy for {parts.scheme} in the environment is {shown}; it must be an http proxy")
    return f"{scheme.lower()}://{rest}"


def _is_excluded(no_proxy: str, url: SplitResult) -> bool:
    """Return whether `no_proxy` lists the IP address of `url` or a network that has it: urllib compares names only."""
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
    """Return whether the environment names a proxy of any kind for `url`."""
    try:
        return proxy_for(url) is not None
    except ConfigError:
        return True


def check_environment(config: StackAuthConfig) -> None:
    """Fail at construction if a proxy or certificate variable of the environment is unusable.

    Raises:
        ConfigError: a call could not use what a variable names.
    """
    if config.trust_env_proxies:
        proxy_for(config.key_set_url)
    elif names_proxy(config.key_set_url):
        _log_unused_proxy()
    if any(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"))):
        tls_context()


@functools.cache
def _log_unused_proxy() -> None:
    """Log once per process that a proxy is not used: both runners of every config call this."""
    logger.info("the environment names a proxy, which is not used: trust_env_proxies is False")


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Return whether the body is compressed, although only ``identity`` was accepted."""
    return headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


class _Unfrozen:
    """Holds the real monotonic clock. freezegun replaces attributes of modules, but not of classes."""

    monotonic = staticmethod(time.monotonic)


def monotonic() -> float:
    """Return the time on the monotonic clock, for deadlines of I/O.

    Under freezegun, `time.monotonic` returns the frozen time to some callers and the real time to others, depending on
    how near `threading` is in the call stack. A deadline from one clock compared with the other seems to have passed.
    """
    return _Unfrozen.monotonic()


def clocks() -> Clocks:
    """Return the time on the wall clock and on the monotonic clock, which tests may freeze."""
    return tuple.__new__(Clocks, (time.time(), time.monotonic()))  # takes a third of the time of Clocks(...)


def in_event_loop() -> bool:
    """Return whether an event loop of asyncio or trio is running in this thread."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    return (asyncio is not None and asyncio._get_running_loop() is not None) or (
        trio is not None and trio.lowlevel.in_trio_run()
    )
