"""The endpoints of sessions: refresh, sign-out, the list, and sessions that a server starts or ends."""

from __future__ import annotations

from .._access import check_publishable_key
from .._context import SERVER, Context, endpoint
from .._decode import expired_at
from .._request import body_of, schema_error
from .._responses import KnownError, PlainError, Response, server_fault
from .._schema import Field, boolean, number, one_of, uuid, uuid_or_me, validated

_OF_USER = {"user_id": Field(uuid_or_me, required=True)}
_NEW = {**_OF_USER, "expires_in_millis": Field(number), "is_impersonation": Field(boolean)}
_GRANT = {"grant_type": Field(one_of("authorization_code", "refresh_token"), required=True)}
_YEAR_MILLIS = 365 * 24 * 60 * 60 * 1000


def list_of_user(context: Context) -> Response:
    user_id = context.read(query=_OF_USER)["user_id"]
    context.require_own(user_id, "Client can only list sessions for their own user.")
    found = context.store.accounts.sessions(context.project_id, user_id)
    shown = [each for each in found if context.access.type == "admin" or not each.is_impersonation]
    return context.items([each.read(context.access.session_id) for each in shown])


def start(context: Context) -> Response:
    values = context.read(body=_NEW)
    account = context.store.account(values["user_id"], context.project_id)
    if account is None:
        raise KnownError("USER_ID_DOES_NOT_EXIST", {"user_id": values["user_id"]})
    session = context.store.start_session(
        account.id,
        context.project_id,
        impersonation=values.get("is_impersonation", False),
        seconds=values.get("expires_in_millis", _YEAR_MILLIS) / 1000,
    )
    token = context.mint(account, session, context.project_id)
    return context.json({"refresh_token": session.refresh_token, "access_token": token})


def end(context: Context) -> Response:
    session_id = context.read(query=_OF_USER, params={"session_id": Field(uuid)})["session_id"]
    session = context.store.accounts.session_by_id(session_id, context.project_id)
    own = context.access.account
    if session is None or (context.as_client and (own is None or own.id != session.user_id)):
        raise PlainError(404, "Session not found.")
    if session.id == context.access.session_id:
        raise KnownError("CANNOT_DELETE_CURRENT_SESSION")
    context.store.accounts.end_session(session.id)
    return context.success()


def sign_out(context: Context) -> Response:
    if context.access.seen is None:
        raise expired_at(context.store.now_millis)
    if not context.store.accounts.end_session(context.access.session_id or ""):
        raise server_fault()
    return context.success()


def refresh(context: Context) -> Response:
    if "x-stack-refresh-token" not in context.request.headers:
        raise schema_error(context.request, ["headers.x-stack-refresh-token must be defined"])
    return context.json({"access_token": _minted(context, context.request.header("refresh-token"), context.project_id)})


def grant(context: Context) -> Response:
    """Handle OAuth's refresh token grant."""
    body = {name: str(value) for name, value in body_of(context.request).items()}
    _, problems = validated("body", {"grant_type": body["grant_type"]} if "grant_type" in body else {}, _GRANT)
    if problems:
        raise schema_error(context.request, problems)
    project_id = _client(context, body.get("client_id", ""), body.get("client_secret", ""))
    if body["grant_type"] != "refresh_token":
        raise PlainError(501, "The local Stack Auth supports only the grant type refresh_token")
    if not body.get("refresh_token"):
        description = "Missing parameter: `refresh_token`"
        return context.json({"error": "invalid_request", "error_description": description}, status=400)
    members = {
        "access_token": _minted(context, body["refresh_token"], project_id),
        "token_type": "Bearer",
        # the default of the OAuth library, not the token's lifetime
        "expires_in": 3600,
        "scope": "legacy",
        "afterCallbackRedirectUrl": None,
        "after_callback_redirect_url": None,
    }
    response = context.json(members, cache_control="no-store")
    return response._replace(headers=(*response.headers, ("pragma", "no-cache")))


def _client(context: Context, client_id: str, client_secret: str) -> str:
    """Return the project of an OAuth client."""
    project_id, _, branch_id = client_id.partition("#")
    project = context.store.projects.get(project_id)
    error = KnownError("INVALID_OAUTH_CLIENT_ID_OR_SECRET", {"client_id": None})
    if project is None or branch_id not in ("", "main") or not client_secret:
        raise error
    try:
        check_publishable_key(project, client_secret)
    except KnownError as found:
        raise (error if found.code == "INVALID_PUBLISHABLE_CLIENT_KEY" else found) from None
    return project_id


def _minted(context: Context, refresh_token: str, project_id: str) -> str:
    accounts = context.store.accounts
    session = accounts.session(refresh_token, project_id, context.store.now_millis)
    account = None if session is None else context.store.account(session.user_id, project_id)
    if session is None or account is None:
        raise KnownError("REFRESH_TOKEN_NOT_FOUND_OR_EXPIRED")
    accounts.use_session(session, context.store.now_millis)
    return context.mint(account, session, project_id)


ENDPOINTS = (
    endpoint("sign-out", "DELETE", "/auth/sessions/current", sign_out),
    endpoint("refresh", "POST", "/auth/sessions/current/refresh", refresh),
    endpoint("refresh", "POST", "/auth/oauth/token", grant, access=()),
    endpoint("sessions", "GET", "/auth/sessions", list_of_user),
    endpoint("sessions", "POST", "/auth/sessions", start, access=SERVER),
    endpoint("sessions", "DELETE", "/auth/sessions/{session_id}", end),
)
