"""HTTP client for threads, built on requests and urllib3.

This client uses the transport adapter of requests without a session, so that there is nothing that could keep a cookie,
follow a redirect or read a netrc file.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import requests
import urllib3

from .._core.upstream import Call, NoReply, NoReplyKind, Reply
from . import network
from .attempt import ENCODED, Attempt
from .deadline_adapter import AttemptTimeout, DeadlineAdapter


class RequestsClient:
    """Sends calls over pooled connections of one process, from any thread.

    Args:
        trust_env_proxies: whether to use the proxies that the environment names.
    """

    def __init__(self, *, trust_env_proxies: bool) -> None:
        self._proxied = trust_env_proxies
        self._lock = threading.Lock()
        self._adapter: DeadlineAdapter | None = None

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def send(self, call: Call, deadline: float) -> Reply | NoReply:
        """Send `call` and return its reply, or why there is none.

        Args:
            call: the HTTP request.
            deadline: when the last byte of the reply must have arrived (monotonic seconds).
        """
        attempt = Attempt(call, deadline)
        try:
            proxy = network.proxy_for(call.url) if self._proxied else None
            attempt.proxied = proxy is not None
            request = _prepared(call)
            proxies = {"http": proxy, "https": proxy} if proxy else {}
            timeout = cast("Any", AttemptTimeout(attempt))
            with self._pooled().send(request, stream=True, timeout=timeout, proxies=proxies) as response:
                return _read(response, attempt)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return attempt.failed(error)

    def _pooled(self) -> DeadlineAdapter:
        with self._lock:
            if self._adapter is None:
                self._adapter = DeadlineAdapter(pool_connections=4, pool_maxsize=32)
            return self._adapter


def _prepared(call: Call) -> requests.PreparedRequest:
    headers = {**network.REQUEST_HEADERS, **call.headers}
    return requests.Request(call.method, call.url, headers=headers, data=call.body or None).prepare()


def _read(response: requests.Response, attempt: Attempt) -> Reply | NoReply:
    # http.client takes an interim response (103) for the final one, and the final one for that of the next request.
    if response.status_code < 200:
        return NoReply(NoReplyKind.BROKEN, f"an interim answer {response.status_code}, which threads cannot read")
    headers = {name.lower(): value for name, value in response.headers.items()}
    if network.is_encoded(headers):
        return ENCODED
    body = bytearray()
    for chunk in response.raw.stream(16384, decode_content=False):
        body += chunk
        if len(body) > attempt.call.max_bytes:
            return attempt.too_large()
    return Reply(response.status_code, headers, bytes(body))
