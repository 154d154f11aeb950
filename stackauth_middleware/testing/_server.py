"""The endpoints: one function from method, target, headers and body to a response.

Checks run in the order of the back end (docs/stack-auth.md section 5): combinations of headers, token, project,
project keys, branch; then the rules of the route; then the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

from ._account import Account
from ._accounts import Accounts, Session
from ._decode import Seen, decode
from ._faults import Kind
from ._issuer import Issuer
from ._projects import Project, Projects
from ._request import Request, check_schema, form, one_brand, preflight, wants_pretty
from ._responses import (
    CORS,
    KnownError,
    PlainError,
    Response,
    bare_response,
    error_response,
    json_response,
    server_fault,
    with_status_hidden,
)

PUBLIC_CLIENT = "__stack_public_client__"
"""Placeholder for the publishable client key if none is required."""

_ACCESS_TYPES = ("client", "server", "admin")
_PREFIX = re.compile(r"/api/(?:v1|latest|v2beta[1-5])(/.*)\Z", re.DOTALL)
_ROUTES: tuple[tuple[Kind, re.Pattern[str], frozenset[str]], ...] = (
    ("jwks", re.compile(r"/projects/(?P<id>[^/]+)/\.well-known/jwks\.json\Z"), frozenset({"GET"})),
    ("users/me", re.compile(r"/users/me\Z"), frozenset({"GET", "PATCH", "DELETE"})),
    ("users", re.compile(r"/users/(?P<id>[^/]+)\Z"), frozenset({"GET", "PATCH", "DELETE"})),
    ("refresh", re.compile(r"/auth/(?P<id>oauth/token|sessions/current/refresh)\Z"), frozenset({"POST"})),
    ("sign-out", re.compile(r"/auth/sessions/current\Z"), frozenset({"DELETE"})),
)


class Access(NamedTuple):
    """The caller, after all checks that every route makes."""

    project: Project
    access_type: str
    seen: Seen | None
    account: Account | None


Mint: TypeAlias = Callable[[Account, Session], str]


class Server:
    """The endpoints of a Stack Auth server.

    Args:
        issuer: the keys.
        projects: the projects.
        accounts: users and sessions.
        mint: creates an access token for a session.
        issuer_urls: returns the base URLs of the accepted issuers.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        projects: Projects,
        accounts: Accounts,
        mint: Mint,
        issuer_urls: Callable[[], frozenset[str]],
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._projects = projects
        self._accounts = accounts
        self._mint = mint
        self._issuer_urls = issuer_urls
        self._clock = clock

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, database_down: bool = False
    ) -> Response:
        """Return the response to a request.

        Args:
            method: in upper case.
            target: path and query, percent-encoded.
            headers: names in lower case.
            body: the whole of it.
            database_down: fail where the database is needed.
        """
        path, _, query = target.partition("?")
        if method == "OPTIONS":
            return preflight()
        if path.endswith("/") and path != "/":
            location = path.rstrip("/") + (f"?{query}" if query else "")
            return bare_response(308, ("location", location), body=location.encode())
        kind, captured, methods = _route(path)
        if method not in methods and kind != "other":
            return bare_response(405, CORS)
        pairs = parse_qsl(query, keep_blank_values=True)
        request = Request(method, path, dict(pairs), one_brand(headers), body)
        try:
            response = self._handle(kind, captured, request, database_down=database_down)
        except (KnownError, PlainError) as error:
            response = error_response(error)
        return with_status_hidden(response) if "x-stack-override-error-status" in request.headers else response

    def _handle(self, kind: Kind, captured: str, request: Request, *, database_down: bool) -> Response:
        if captured == "oauth/token":
            if database_down:
                raise server_fault()
            return self._oauth_token(request)
        if kind == "other":
            raise PlainError(404, _no_such_page(request))
        access = self._access(request, database_down=database_down)
        if kind == "jwks":
            if database_down:
                raise server_fault()
            return self._key_set(unquote(captured), request)
        if access is None:
            raise KnownError("ACCESS_TYPE_REQUIRED")
        if kind == "refresh":
            return self._refresh(access, request)
        if kind == "sign-out":
            return self._sign_out(access, request)
        return self._user(access, captured or "me", request)

    def _access(self, request: Request, *, database_down: bool) -> Access | None:
        """Run the checks that all routes share. Return None if the request has no access type."""
        access_type = request.header("access-type")
        names = ("publishable-client-key", "secret-server-key", "super-secret-admin-key", "admin-access-token")
        if not access_type:
            if any(request.header(name) for name in names):
                raise KnownError("PROJECT_KEY_WITHOUT_ACCESS_TYPE")
            return None
        if access_type not in _ACCESS_TYPES:
            raise KnownError("INVALID_ACCESS_TYPE", access_type=access_type)
        project_id = request.header("project-id")
        if not project_id:
            raise KnownError("ACCESS_TYPE_WITHOUT_PROJECT_ID", {"request_type": access_type})
        seen = self._seen(request, project_id)
        if database_down:
            raise server_fault()
        project = self._projects.get(project_id)
        if project is None:
            raise KnownError("CURRENT_PROJECT_NOT_FOUND", {"project_id": project_id})
        _check_key(project, access_type, request)
        branch_id = request.header("branch-id") or "main"
        if branch_id != "main":
            raise KnownError("BRANCH_DOES_NOT_EXIST", {"branch_id": branch_id})
        return Access(project, access_type, seen, None if seen is None else self._accounts.get(seen.user_id))

    def _seen(self, request: Request, project_id: str) -> Seen | None:
        token = request.header("access-token")
        if not token:
            return None
        seen = decode(token, self._issuer, self._issuer_urls(), self._clock())
        if seen.project_id != project_id:
            details = {"expected_project_id": project_id, "actual_project_id": seen.project_id}
            raise KnownError("INVALID_PROJECT_FOR_ACCESS_TOKEN", details)
        allow_anonymous = request.header("allow-anonymous-user") == "true"
        if seen.is_anonymous and not allow_anonymous:
            raise KnownError("ANONYMOUS_AUTHENTICATION_NOT_ALLOWED")
        if seen.is_restricted and not (allow_anonymous or request.header("allow-restricted-user") == "true"):
            reason = seen.restricted_reason
            raise KnownError("RESTRICTED_USER_NOT_ALLOWED", {"restricted_reason": reason}, reason=reason["type"])
        return seen

    def _key_set(self, project_id: str, request: Request) -> Response:
        names = ("include_anonymous", "include_restricted")
        problems = [
            f"query.{name} must be one of the following values: true, false"
            for name in names
            if request.query.get(name, "true") not in ("true", "false")
        ]
        check_schema(request, problems, names)
        if "\0" in project_id:  # the database rejects such text
            raise server_fault()
        if self._projects.get(project_id) is None:
            raise PlainError(404, "Project not found")
        restricted, anonymous = (request.query.get(f"include_{each}") == "true" for each in ("restricted", "anonymous"))
        document = self._issuer.key_set(project_id, restricted=restricted, anonymous=anonymous)
        return json_response(document, pretty=wants_pretty(request), cache_control="public, max-age=3600")

    def _user(self, access: Access, user_id: str, request: Request) -> Response:
        if request.method != "GET":
            raise PlainError(501, f"The local Stack Auth does not support {request.method} {request.path}")
        as_client = access.access_type == "client"
        if user_id != "me" and as_client:
            details = {"actual_access_type": access.access_type, "allowed_access_types": ["server", "admin"]}
            raise KnownError("INSUFFICIENT_ACCESS_TYPE", details)
        check_schema(request)
        account = access.account if user_id == "me" else self._accounts.get(unquote(user_id))
        if account is None:
            raise KnownError("CANNOT_GET_OWN_USER_WITHOUT_USER" if user_id == "me" else "USER_NOT_FOUND")
        return json_response(account.read(as_client=as_client), pretty=wants_pretty(request))

    def _refresh(self, access: Access, request: Request) -> Response:
        refresh_token = request.header("refresh-token")
        problems = (
            [] if "x-stack-refresh-token" in request.headers else ["headers.x-stack-refresh-token must be defined"]
        )
        check_schema(request, problems)
        token = self._minted(refresh_token, access.project.id)
        return json_response({"access_token": token}, pretty=wants_pretty(request))

    def _oauth_token(self, request: Request) -> Response:
        grant = form(request)
        client_id = grant.get("client_id", "")
        project_id, _, branch_id = client_id.partition("#")
        project = self._projects.get(project_id)
        if project is None or branch_id not in ("", "main") or not grant.get("client_secret"):
            raise KnownError("INVALID_OAUTH_CLIENT_ID_OR_SECRET", {"client_id": client_id or None})
        try:
            _check_publishable(project, grant["client_secret"])
        except KnownError as error:
            if error.code != "INVALID_PUBLISHABLE_CLIENT_KEY":
                raise
            raise KnownError("INVALID_OAUTH_CLIENT_ID_OR_SECRET", {"client_id": client_id}) from None
        if grant.get("grant_type") != "refresh_token":
            raise PlainError(501, "The local Stack Auth supports only the grant type refresh_token")
        token = self._minted(grant.get("refresh_token", ""), project.id)
        # expires_in is the default of the OAuth library, not the token's lifetime
        members = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "legacy"}
        return json_response(members, pretty=wants_pretty(request))

    def _minted(self, refresh_token: str, project_id: str) -> str:
        session = self._accounts.session(refresh_token, project_id)
        account = None if session is None else self._accounts.get(session.user_id)
        if session is None or account is None:
            raise KnownError("REFRESH_TOKEN_NOT_FOUND_OR_EXPIRED")
        return self._mint(account, session)

    def _sign_out(self, access: Access, request: Request) -> Response:
        check_schema(request)
        if access.seen is None or access.account is None:
            raise KnownError("USER_AUTHENTICATION_REQUIRED")
        if not self._accounts.end_session(access.seen.session_id or ""):
            raise server_fault()
        return json_response({"success": True}, pretty=wants_pretty(request))


def kind_of(target: str) -> Kind:
    """Return the kind of a request with this target."""
    return _route(target.partition("?")[0])[0]


def _route(path: str) -> tuple[Kind, str, frozenset[str]]:
    prefixed = _PREFIX.match(path)
    for kind, pattern, methods in _ROUTES if prefixed else ():
        matched = pattern.match(prefixed[1]) if prefixed else None
        if matched:
            return kind, matched.groupdict().get("id", ""), methods
    return "other", "", frozenset()


def _check_key(project: Project, access_type: str, request: Request) -> None:
    if access_type == "client":
        _check_publishable(project, request.header("publishable-client-key"))
        return
    name = "secret-server-key" if access_type == "server" else "super-secret-admin-key"
    right = project.secret_server_key if access_type == "server" else project.super_secret_admin_key
    sent = request.header(name)
    if not sent:
        raise KnownError(f"{access_type.upper()}_AUTHENTICATION_REQUIRED")
    if right not in (None, sent):
        raise KnownError(f"INVALID_{name.upper().replace('-', '_')}", {"project_id": project.id})


def _check_publishable(project: Project, sent: str) -> None:
    if sent in ("", PUBLIC_CLIENT):
        if project.require_publishable_client_key:
            raise KnownError("PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT", {"project_id": project.id})
    elif project.publishable_client_key not in (None, sent):
        raise KnownError("INVALID_PUBLISHABLE_CLIENT_KEY", {"project_id": project.id})


def _no_such_page(request: Request) -> str:
    host = request.headers.get("host", "localhost")
    return (
        "404 — this page does not exist in Stack Auth's API.\n\nPlease see the API documentation at"
        " https://docs.stack-auth.com, or visit the Stack Auth dashboard at https://app.stack-auth.com.\n\n"
        f"URL: http://{host}{request.path}"
    )
