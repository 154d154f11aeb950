"""The server: one function from method, target, headers and body to a response."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote

from ._access import checked_access
from ._context import Context, Endpoint, Mint
from ._endpoints import ENDPOINTS
from ._faults import Kind
from ._request import Request, one_brand
from ._responses import (
    CORS,
    KnownError,
    PlainError,
    Response,
    bare_response,
    error_response,
    server_fault,
    with_both_brands,
    with_status_hidden,
)
from ._store import Store

_PREFIX = re.compile(r"/api/(?:v1|latest|v2beta[1-5])(/.*)\Z", re.DOTALL)


class Server:
    """The endpoints of a Stack Auth server.

    Args:
        store: what the server stores.
        mint: creates an access token for a session.
        issuer_urls: returns the base URLs of the accepted issuers.
        hexclave: whether ``x-hexclave-*`` headers are read and sent too.
    """

    def __init__(
        self, store: Store, mint: Mint, *, issuer_urls: Callable[[], frozenset[str]], hexclave: bool = True
    ) -> None:
        self._store = store
        self._mint = mint
        self._issuer_urls = issuer_urls
        self._hexclave = hexclave

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, database_down: bool = False
    ) -> Response:
        """Return the response to a request.

        Args:
            method: in upper case.
            target: path and query, percent-encoded.
            headers: names in lower case.
            body: the whole body.
            database_down: fail where the database is needed.
        """
        path, _, query = target.partition("?")
        if method == "OPTIONS":
            return bare_response(200, *CORS)
        if path.endswith("/") and path != "/":
            location = path.rstrip("/") + (f"?{query}" if query else "")
            headers_of_redirect = (("location", location), ("refresh", f"0;url={location}"))
            return bare_response(308, *headers_of_redirect, body=location.encode())
        pairs = parse_qsl(query, keep_blank_values=True)
        request = Request(method, path, dict(pairs), one_brand(headers) if self._hexclave else headers, body)
        try:
            response = self._handle(request, database_down=database_down)
        except (KnownError, PlainError) as error:
            response = error_response(error)
        if "x-stack-override-error-status" in request.headers:
            response = with_status_hidden(response)
        return with_both_brands(response) if self._hexclave else response

    def _handle(self, request: Request, *, database_down: bool) -> Response:
        found = _matching(request.path)
        if not found:
            raise PlainError(404, _no_such_page(request))
        if request.method == "HEAD":
            raise PlainError(405, "")
        endpoint = next((each for each in found if each.method == request.method), None)
        if endpoint is None:
            return bare_response(405, *CORS)
        access = checked_access(request, self._store, self._issuer_urls, database_down=database_down)
        if database_down:
            raise server_fault()
        context = Context(self._store, self._mint, request, _params(endpoint, request.path), access)
        if endpoint.access and context.access.type not in endpoint.access:
            details = {"actual_access_type": context.access.type, "allowed_access_types": list(endpoint.access)}
            allowed = " or ".join(f"'{each}'" for each in endpoint.access)
            raise KnownError("INSUFFICIENT_ACCESS_TYPE", details, allowed=allowed)
        return endpoint.handle(context)


def kind_of(target: str) -> Kind:
    """Return the kind of a request with this target."""
    found = _matching(target.partition("?")[0])
    return found[0].kind if found else "other"


def _matching(path: str) -> list[Endpoint]:
    """Return the endpoints of the resource with this path."""
    prefixed = _PREFIX.match(path)
    found = [each for each in ENDPOINTS if prefixed and each.path.match(prefixed[1])]
    return [each for each in found if each.path == found[0].path]


def _params(endpoint: Endpoint, path: str) -> dict[str, str]:
    matched = endpoint.path.match(path[path.index("/", len("/api/")) :])
    return {name: unquote(value) for name, value in matched.groupdict().items()} if matched else {}


def _no_such_page(request: Request) -> str:
    host = request.headers.get("host", "localhost")
    return (
        "404 — this page does not exist in Stack Auth's API.\n\nPlease see the API documentation at"
        " https://docs.stack-auth.com, or visit the Stack Auth dashboard at https://app.stack-auth.com.\n\n"
        f"URL: http://{host}{request.path}"
    )
