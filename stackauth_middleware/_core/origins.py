"""Origins (RFC 6454): validate and match the entries of ``cors_origins``.

A browser serialises an origin in one form: scheme, host and port in lower case, international names in
punycode, addresses in their shortest form, no default port, no path. An entry in any other form would never
match, so it is a `ConfigError`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Any

from ..errors import ConfigError
from .settings import is_list

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_NEVER_SENT = {"ws", "wss", "ftp", "file", "data", "blob", "javascript", "about"}
"""Schemes that are in no ``Origin`` header: the browser sends another scheme, or ``null``."""

_PARTS = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:]+\]|[a-z0-9._*-]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


class Origins:
    """The origins that ``cors_origins`` allows.

    Args:
        entries: the value that `checked_origins` returned.
    """

    def __init__(self, entries: Collection[str]) -> None:
        self._exact = frozenset(entry for entry in entries if "*" not in entry)
        self._patterns = frozenset(entry for entry in entries if "://*." in entry)
        self._any = "*" in entries

    def allowed(self, origin: str) -> str | None:
        """Return the value of ``Access-Control-Allow-Origin`` for `origin`, or None if it is not allowed.

        Args:
            origin: an ``Origin`` header as received, or "". It is echoed only if an entry matches it, so all its
                characters are safe in a header.
        """
        if origin in self._exact or (self._patterns and self._matches(origin)):
            return origin
        return "*" if self._any and origin else None

    def _matches(self, origin: str) -> bool:
        """Return whether a pattern matches: ``*`` stands for one label, and the rest is compared as text."""
        scheme, _, rest = origin.partition("://")
        label, _, base = rest.partition(".")
        return bool(_LABEL.fullmatch(label)) and f"{scheme}://*.{base}" in self._patterns


def checked_origins(value: Any, name: str = "cors_origins") -> tuple[str, ...]:
    """Return the setting ``cors_origins`` as a tuple.

    Raises:
        ConfigError: `value` is not a list, or an entry can never match the origin of a browser.
    """
    if not is_list(value):
        raise ConfigError(f"{name} is {value!r}; it must be a list such as ['https://app.example.com']")
    for entry in value:
        problem = "" if entry == "*" else _problem(entry)
        if problem:
            raise ConfigError(f"{name} has {entry!r}; {problem}")
    return tuple(value)


def _problem(entry: object) -> str:
    """Return why `entry` can never match the origin of a browser, or ""."""
    form = "it must be scheme, host and port only, such as 'https://app.example.com', or '*'"
    if not isinstance(entry, str):
        return form
    if entry == "null":
        return "every site can send the origin null from a sandboxed frame, so it cannot be allowed"
    if not entry.isascii():
        return "a browser sends international names in punycode: write the host as 'xn--...'"
    if entry != entry.lower():
        return f"a browser sends origins in lower case: write {entry.lower()!r}"
    parts = _PARTS.fullmatch(entry)
    if parts is None:
        return form
    scheme, host, port = parts.groups()
    if scheme in _NEVER_SENT:
        return f"no browser sends an origin with the scheme {scheme!r}; use that of the page"
    if port is not None and port == _DEFAULT_PORTS.get(scheme):
        return f"a browser leaves the default port out: write {scheme + '://' + host!r}"
    if port is not None and int(port) > 65535:
        return "its port is over 65535"
    return _host_problem(scheme, host)


def _host_problem(scheme: str, host: str) -> str:
    """Return why no browser sends `host` in an origin, or ""."""
    if host.startswith("["):
        return "" if _is_shortest(host[1:-1]) else "a browser sends IPv6 addresses in their shortest form"
    labels = host.removesuffix(".").split(".")
    if labels[0] == "*":
        labels = labels[1:]
        if scheme not in _DEFAULT_PORTS or "*" in "".join(labels):
            return "'*' can only stand for the first label of an http or https host, as in 'https://*.example.com'"
        if len(labels) < 2 and labels != ["localhost"]:
            return "'*' must stand in front of a domain of your own, as in 'https://*.example.com'"
        if _is_number(labels[-1]):
            return "'*' cannot stand for a part of an address"
    elif "*" in host:
        return "'*' can only stand for the whole first label, as in 'https://*.example.com'"
    elif scheme in _DEFAULT_PORTS and _is_number(labels[-1]) and not _is_ipv4(host):
        return "a browser sends IPv4 addresses as four decimal numbers"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "its host is not a valid host name"
    return ""


def _is_number(label: str) -> bool:
    """Return whether the URL standard parses a host that ends with `label` as an IPv4 address."""
    return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", label) is not None


def _is_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _is_shortest(host: str) -> bool:
    try:
        shortest = ipaddress.IPv6Address(host).compressed
    except ValueError:
        return False
    return shortest == host or "." in shortest  # newer Pythons write mapped IPv4 addresses with dots; browsers do not
