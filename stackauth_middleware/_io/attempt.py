"""One attempt to send a call: its deadline, its progress, and the reason for its failure.

Both HTTP clients use it, so that they wait equally long and report the same reason for the same fault.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum

from .._core.upstream import Call, NoReply, NoReplyKind
from ..errors import ConfigError
from . import network
from .network import monotonic

FIRST_WAIT = 2.0
"""Seconds to wait for a reply on a pooled connection, limited to half of the remaining time. The connection may be
dead, and the other half is for a new one. A slow server receives a call at most twice."""
MAX_IDLE = 4.0
"""Seconds after which an idle connection is closed. Node, on which Stack Auth runs, closes its end after 5."""


class Stage(Enum):
    """How far an attempt has got. The value completes the message "timeout after 5 s ..."."""

    CONNECTING = "while connecting"
    WAITING = "while waiting for the answer"
    READING = "while reading the answer"


class Attempt:
    """One attempt to send a call.

    Attributes:
        call: the HTTP request.
        deadline: when the attempt must be finished (monotonic seconds).
        proxied: whether the call goes through a proxy.
        stage: how far the attempt has got.
        reused: whether the call was sent on a pooled connection.
    """

    def __init__(self, call: Call, deadline: float) -> None:
        self.call = call
        self.deadline = deadline
        self.proxied = False
        self.stage = Stage.CONNECTING
        self.reused = False
        self._began = monotonic()

    @property
    def due(self) -> float:
        """When the current stage must be finished (monotonic seconds).

        That is before `deadline` while an idempotent call waits for its reply on a pooled connection.
        """
        if self.reused and self.call.idempotent and self.stage is not Stage.READING:
            return self._began + min(FIRST_WAIT, (self.deadline - self._began) / 2)
        return self.deadline

    def failed(self, error: Exception) -> NoReply:
        """Return why there is no reply, given the `error` that the HTTP client raised."""
        chain = list(_chain(error))
        reason = next(filter(None, map(_reason_of, chain)), "")
        kind = NoReplyKind.UNSENT
        if reason == _TIMEOUT:
            kind = NoReplyKind.TIMED_OUT
            reason = f"timeout after {round(self.due - self._began, 1):g} s {self.stage.value}"
        elif self.stage is Stage.READING:
            kind = NoReplyKind.BROKEN
            reason = "broken off within the answer"
        elif self.stage is Stage.WAITING:
            reason = "broken off before an HTTP answer"
        else:
            reason = reason or (self.proxied and _proxy_refusal(chain)) or "broken off while connecting"
            if self.proxied and not reason.startswith("TLS"):
                reason = f"proxy: {reason}"
        return NoReply(kind, reason + self._hints(reason), self.reused)

    def too_large(self) -> NoReply:
        """Return the failure for a reply larger than the call allows."""
        return NoReply(NoReplyKind.TOO_LARGE, f"the answer was over its limit of {self.call.max_bytes} bytes")

    def _hints(self, reason: str) -> str:
        """Return in parentheses the settings to check for the failure `reason`, or "" if none is relevant."""
        hints = ["timeout"] if reason.startswith(_TIMEOUT) else []
        if reason == _UNKNOWN_AUTHORITY:
            hints.append("SSL_CERT_FILE")
        elif self.stage is Stage.CONNECTING:
            hints.append("the proxy of the environment" if self.proxied else "api_url")
            if not self.proxied and network.names_proxy(self.call.url):
                hints.append("trust_env_proxies, for the environment names a proxy that is not used")
        return f" (check {', '.join(hints)})" if hints else ""


def out_of_time() -> NoReply:
    """Return the failure for a call that could not be sent within the time budget."""
    return NoReply(NoReplyKind.TIMED_OUT, "no time was left to ask (check timeout)", inconclusive=True)


ENCODED = NoReply(NoReplyKind.ENCODED, NoReplyKind.ENCODED.value)

_TIMEOUT = "timeout"
_UNKNOWN_AUTHORITY = "TLS: certificate by an unknown authority"
_CERTIFICATE_FAULTS = {
    9: "TLS: certificate that is not valid yet",
    10: "TLS: expired certificate",
    62: "TLS: certificate for another name",
    64: "TLS: certificate for another name",
    **dict.fromkeys((2, 18, 19, 20, 21), _UNKNOWN_AUTHORITY),
}
"""Messages by the error code of X509_verify_cert (OpenSSL, x509_vfy.h)."""
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, the nearest first: the HTTP libraries wrap the errors of sockets."""
    pending, seen = [error], set[int]()
    while pending:
        error = pending.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        inner = (*error.args, *getattr(error, "exceptions", ()), error.__cause__ or error.__context__)
        pending.extend(each for each in inner if isinstance(each, BaseException))


def _reason_of(error: BaseException) -> str:
    """Return the reason that `error` gives, or "" if it only wraps another error or adds nothing to the stage."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAULTS.get(error.verify_code, f"TLS: bad certificate, {error.verify_message}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, TimeoutError)):
        return f"TLS: no handshake, {getattr(error, 'reason', None) or type(error).__name__}"
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


def _proxy_refusal(chain: list[BaseException]) -> str:
    """Return the failure status of a proxy's response to CONNECT; the rest of the response may hold anything."""
    statuses = (re.match(r"(?:Tunnel connection failed: )?([1-5]\d\d)\b", str(each)) for each in chain)
    status = next((each[1] for each in statuses if each), "")
    asks = ", it asks for a user and password" if status == "407" else ""
    return f"status {status} to CONNECT{asks}" if status else ""
