"""One attempt to send a call: how long it may wait, how far it came, and why it failed.

Both runners keep this record while their HTTP client works, so that both wait equally long and give the
same reason for the same fault.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from enum import Enum

from .._core.upstream import Call, NoReply, NoReplyKind
from ..errors import ConfigError
from . import network

FIRST_WAIT = 2.0
"""Seconds that a pooled connection gets to answer, and at most half of the time that is left: it may be dead, and
the rest is for a new one. A slow server is asked twice at most."""
MAX_IDLE = 4.0
"""Seconds after which an idle connection is closed and not used again. Node closes its own after 5."""


class Stage(Enum):
    """How far an attempt came. The value completes "timeout after 5 s ..."."""

    CONNECTING = "while connecting"
    WAITING = "while waiting for the answer"
    READING = "while reading the answer"


class Attempt:
    """One attempt to send a call.

    Attributes:
        call: what is sent.
        deadline: when it must be done (monotonic seconds).
        proxied: whether it goes to a proxy.
        stage: how far it came.
        reused: whether it went out on a pooled connection.
    """

    def __init__(self, call: Call, deadline: float) -> None:
        self.call = call
        self.deadline = deadline
        self.proxied = False
        self.stage = Stage.CONNECTING
        self.reused = False
        self._began = time.monotonic()

    @property
    def due(self) -> float:
        """When the current stage must be done (monotonic seconds): soon, on a pooled connection that is silent."""
        if self.reused and self.call.idempotent and self.stage is not Stage.READING:
            return self._began + min(FIRST_WAIT, (self.deadline - self._began) / 2)
        return self.deadline

    def failed(self, error: Exception) -> NoReply:
        """Return why there is no answer after `error` of the HTTP client."""
        chain = list(_chain(error))
        words = next(filter(None, map(_words, chain)), "")
        kind = NoReplyKind.UNSENT
        if words == _TIMEOUT:
            kind = NoReplyKind.TIMED_OUT
            words = f"timeout after {round(self.due - self._began, 1):g} s {self.stage.value}"
        elif self.stage is Stage.READING:
            kind = NoReplyKind.BROKEN
            words = "broken off within the answer"
        elif self.stage is Stage.WAITING:
            words = "broken off before an HTTP answer"
        else:
            words = words or (self.proxied and _refused_by_proxy(chain)) or "broken off while connecting"
            if self.proxied and not words.startswith("TLS"):
                words = f"proxy: {words}"
        return NoReply(kind, words + self._hints(words), self.reused)

    def too_large(self) -> NoReply:
        """Return that the answer was over the limit of the call."""
        return NoReply(NoReplyKind.TOO_LARGE, f"the answer was over its limit of {self.call.max_bytes} bytes")

    def _hints(self, words: str) -> str:
        """Return the settings to look at after `words`, in parentheses; "" where none helps."""
        hints = ["timeout"] if words.startswith(_TIMEOUT) else []
        if words == _UNKNOWN_AUTHORITY:
            hints.append("SSL_CERT_FILE")
        elif self.stage is Stage.CONNECTING:
            hints.append("the proxy of the environment" if self.proxied else "api_url")
            if not self.proxied and network.names_proxy(self.call.url):
                hints.append("trust_env_proxies, for the environment names a proxy that is not used")
        return f" (check {', '.join(hints)})" if hints else ""


def out_of_time() -> NoReply:
    """Return that there was no time left to send a call."""
    return NoReply(NoReplyKind.TIMED_OUT, "no time was left to ask (check timeout)", inconclusive=True)


ENCODED = NoReply(NoReplyKind.ENCODED, NoReplyKind.ENCODED.value)

_TIMEOUT = "timeout"
_UNKNOWN_AUTHORITY = "TLS: certificate by an unknown authority"
_OF_CERTIFICATES = {
    9: "TLS: certificate that is not valid yet",
    10: "TLS: expired certificate",
    62: "TLS: certificate for another name",
    64: "TLS: certificate for another name",
    **dict.fromkeys((2, 18, 19, 20, 21), _UNKNOWN_AUTHORITY),
}
"""By the codes of X509_verify_cert (openssl, x509_vfy.h)."""
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and all that led to it, the nearest first: the libraries wrap what the sockets said."""
    left, seen = [error], set[int]()
    while left:
        error = left.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        inner = (*error.args, *getattr(error, "exceptions", ()), error.__cause__ or error.__context__)
        left.extend(each for each in inner if isinstance(each, BaseException))


def _words(error: BaseException) -> str:
    """Return what `error` says in words; "" where it only wraps another, or says no more than the stage does."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _OF_CERTIFICATES.get(error.verify_code, f"TLS: bad certificate, {error.verify_message}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, TimeoutError)):
        return f"TLS: no handshake, {error.reason or type(error).__name__}"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return "name not found"
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, TimeoutError):
        return _TIMEOUT
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return os.strerror(error.errno).lower()
    return ""


def _refused_by_proxy(chain: list[BaseException]) -> str:
    """Return what a proxy answered to CONNECT, by its status alone: the rest of the answer is its own text."""
    statuses = (re.match(r"(?:Tunnel connection failed: )?([1-5]\d\d)\b", str(each)) for each in chain)
    status = next((each[1] for each in statuses if each), "")
    asks = ", it asks for a user and password" if status == "407" else ""
    return f"status {status} to CONNECT{asks}" if status else ""
