"""Responses as the real server sends them (docs/stack-auth.md section 6; recorded).

A known error is JSON, indented by two spaces, with its code in a header too; any other error is plain text.
`with_both_brands` adds the ``x-hexclave-*`` headers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._accounts import opaque

_DOCS = "https://docs.stack-auth.com/rest-api/overview#authentication"
_KNOWN: dict[str, tuple[int, str]] = {
    "ACCESS_TYPE_REQUIRED": (
        400,
        (
            "You must specify an access level for this Stack project. Make sure project API keys are provided"
            " (eg. x-stack-publishable-client-key) and you set the x-stack-access-type header to 'client', 'server',"
            f" or 'admin'.\n\nFor more information, see the docs on REST API authentication: {_DOCS}"
        ),
    ),
    "PROJECT_KEY_WITHOUT_ACCESS_TYPE": (
        400,
        (
            "Either an API key or an admin access token was provided, but the x-stack-access-type header is missing."
            " Set it to 'client', 'server', or 'admin' as appropriate."
        ),
    ),
    "INVALID_ACCESS_TYPE": (
        400,
        "The x-stack-access-type header must be 'client', 'server', or 'admin', but was '{access_type}'.",
    ),
    "ACCESS_TYPE_WITHOUT_PROJECT_ID": (
        400,
        (
            "The x-stack-access-type header was '{request_type}', but the x-stack-project-id header was not provided."
            f"\n\nFor more information, see the docs on REST API authentication: {_DOCS}"
        ),
    ),
    "INSUFFICIENT_ACCESS_TYPE": (
        401,
        "The x-stack-access-type header must be {allowed}, but was '{actual_access_type}'.",
    ),
    "CANNOT_GET_OWN_USER_WITHOUT_USER": (
        400,
        "You have specified 'me' as a userId, but did not provide authentication for a user.",
    ),
    "USER_AUTHENTICATION_REQUIRED": (401, "User authentication required for this endpoint."),
    "USER_NOT_FOUND": (404, "User not found."),
    "UNPARSABLE_ACCESS_TOKEN": (401, "Access token is not parsable."),
    "ACCESS_TOKEN_EXPIRED": (
        401,
        (
            "Access token has expired. Please refresh it and try again. (The access token expired at {expired_at}.)"
            "{ids}\n\nDebug info: Most likely, you fetched the access token before it expired (for example, in a server"
            " component, pre-rendered page, or on page load), but then didn't refresh it before it expired. If this is"
            " the case, and you're using the SDK, make sure you call getAccessToken() every time you need to use the"
            " access token. If you're not using the SDK, make sure you refresh the access token with the refresh"
            " endpoint."
        ),
    ),
    "INVALID_PROJECT_FOR_ACCESS_TOKEN": (
        401,
        (
            'Access token not valid for this project. Expected project ID "{expected_project_id}", but the token is for'
            ' project ID "{actual_project_id}".'
        ),
    ),
    "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED": (
        401,
        (
            "X-Stack-Access-Token is for an anonymous user, but anonymous users are not enabled. Set the"
            " X-Stack-Allow-Anonymous-User header of this request to 'true' to allow anonymous users."
        ),
    ),
    "RESTRICTED_USER_NOT_ALLOWED": (
        403,
        (
            "The user in the access token is in restricted state. Reason: {reason}. Please pass the"
            " X-Stack-Allow-Restricted-User header if this is intended."
        ),
    ),
    "CURRENT_PROJECT_NOT_FOUND": (
        400,
        (
            "The current project with ID {project_id} was not found. Please check the value of the x-stack-project-id"
            " header."
        ),
    ),
    "BRANCH_DOES_NOT_EXIST": (400, "The branch with ID {branch_id} does not exist."),
    "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT": (
        401,
        (
            "Publishable client keys are required for this project. Create one in Project Keys, or disable this"
            " requirement there to allow keyless client access."
        ),
    ),
    "INVALID_PUBLISHABLE_CLIENT_KEY": (
        401,
        'The publishable key is not valid for the project "{project_id}". Does the project and/or the key exist?',
    ),
    "SERVER_AUTHENTICATION_REQUIRED": (401, "The secret server key must be provided."),
    "INVALID_SECRET_SERVER_KEY": (
        401,
        'The secret server key is not valid for the project "{project_id}". Does the project and/or the key exist?',
    ),
    "ADMIN_AUTHENTICATION_REQUIRED": (401, "The super secret admin key must be provided."),
    "INVALID_SUPER_SECRET_ADMIN_KEY": (
        401,
        (
            'The super secret admin key is not valid for the project "{project_id}". Does the project and/or the key'
            " exist?"
        ),
    ),
    "REFRESH_TOKEN_NOT_FOUND_OR_EXPIRED": (
        401,
        "Refresh token not found for this project, or the session has expired/been revoked.",
    ),
    "INVALID_OAUTH_CLIENT_ID_OR_SECRET": (
        400,
        (
            "The OAuth client ID or secret is invalid. The client ID must be equal to the project ID (potentially with"
            " a hash and a branch ID), and the client secret must be a publishable client key."
        ),
    ),
    "USER_EMAIL_ALREADY_EXISTS": (409, 'A user with email "{email}" already exists.'),
    "USER_ID_DOES_NOT_EXIST": (400, "The given user with the ID {user_id} does not exist."),
    "CANNOT_DELETE_CURRENT_SESSION": (400, "Cannot delete the current session."),
    "TEAM_NOT_FOUND": (404, "Team {team_id} not found."),
    "TEAM_MEMBERSHIP_NOT_FOUND": (404, "User {user_id} is not found in team {team_id}."),
    "TEAM_MEMBERSHIP_ALREADY_EXISTS": (409, "Team membership already exists."),
    "TEAM_PERMISSION_REQUIRED": (401, "User {user_id} does not have permission {permission_id} in team {team_id}."),
    "TEAM_PERMISSION_NOT_FOUND": (401, "User {user_id} does not have permission {permission_id} in team {team_id}."),
    "PERMISSION_NOT_FOUND": (
        404,
        'Permission "{permission_id}" not found. Make sure you created it on the dashboard.',
    ),
    "WRONG_PERMISSION_SCOPE": (
        404,
        (
            'Permission "{permission_id}" not found. (It was found for a different scope "{actual_scope}", but scope'
            ' "{expected_scope}" was expected.)'
        ),
    ),
    "PERMISSION_ID_ALREADY_EXISTS": (
        400,
        'Permission with ID "{permission_id}" already exists. Choose a different ID.',
    ),
    "CONTAINED_PERMISSION_NOT_FOUND": (
        400,
        'Contained permission with ID "{permission_id}" not found. Make sure you created it on the dashboard.',
    ),
    "API_KEY_NOT_FOUND": (404, "API key not found."),
    "API_KEY_EXPIRED": (401, "API key has expired."),
    "API_KEY_REVOKED": (401, "API key has been revoked."),
    "WRONG_API_KEY_TYPE": (
        400,
        "This endpoint is for {expected_type} API keys, but a {actual_type} API key was provided.",
    ),
    "SCHEMA_ERROR": (400, "{message}"),
    "BODY_PARSING_ERROR": (400, "{message}"),
}

_REQUEST_HEADERS = (
    "content-type",
    "authorization",
    *(
        f"x-{brand}-{name}"
        for brand in ("stack", "hexclave")
        for name in (
            "project-id",
            "branch-id",
            "override-error-status",
            "random-nonce",
            "client-version",
            "access-type",
            "publishable-client-key",
            "secret-server-key",
            "super-secret-admin-key",
            "admin-access-token",
            "refresh-token",
            "access-token",
            "allow-anonymous-user",
        )
    ),
)
CORS = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    ("access-control-max-age", "86400"),
    ("access-control-allow-headers", ", ".join(_REQUEST_HEADERS)),
    ("access-control-expose-headers", "content-type, x-stack-actual-status, x-stack-known-error"),
)
"""Headers of every response of the API, also to a preflight."""
NO_STORE = "no-store, max-age=0"


class Response(NamedTuple):
    """A response. Header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class KnownError(Exception):
    """An error with a code.

    Args:
        code: an error code of Stack Auth.
        details: the member ``details``; None to leave it out. The message is formatted with it and `values`.
        values: more values for the message.
    """

    def __init__(self, code: str, details: Mapping[str, Any] | None = None, **values: object) -> None:
        self.code = code
        self.details = details
        self.status, template = _KNOWN[code]
        self.message = template.format(**{**(details or {}), **values})
        super().__init__(code)


class PlainError(Exception):
    """An error without a code: a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


def server_fault() -> PlainError:
    """Return the error that clients see when the server fails in production."""
    return PlainError(
        500,
        "Something went wrong. Please make sure the data you entered is correct.\n\nRequest ID: " + opaque(16),
    )


def json_response(
    members: Mapping[str, Any], *, pretty: bool, status: int = 200, cache_control: str = NO_STORE
) -> Response:
    """Return a success with a JSON body."""
    layout: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
    text = json.dumps(members, ensure_ascii=False, **layout)
    return _response(status, "application/json; charset=utf-8", text, cache_control)


def error_response(error: KnownError | PlainError) -> Response:
    """Return the response for `error`."""
    if isinstance(error, PlainError):
        return _response(error.status, "text/plain; charset=utf-8", error.text)
    members: dict[str, Any] = {"code": error.code}
    if error.details is not None:
        members["details"] = error.details
    members["error"] = error.message
    text = json.dumps(members, ensure_ascii=False, indent=2)
    return _response(error.status, "application/json; charset=utf-8", text, **{"known-error": error.code})


def bare_response(status: int, *headers: tuple[str, str], body: bytes = b"") -> Response:
    """Return a response without the usual headers, as sent before an endpoint is called: 308, 405, 429, preflights."""
    return Response(status, (*headers, ("content-length", str(len(body)))), body)


def with_status_hidden(response: Response) -> Response:
    """Return a 4xx response as a 200 that has the actual status in a header; any other response unchanged."""
    if not 400 <= response.status < 500:
        return response
    headers = (*response.headers, ("x-stack-actual-status", str(response.status)))
    return Response(200, headers, response.body)


def with_both_brands(response: Response) -> Response:
    """Return the response with a copy of each ``x-stack-*`` header as ``x-hexclave-*``."""
    added = [
        (name.replace("x-stack-", "x-hexclave-", 1), value)
        for name, value in response.headers
        if name.startswith("x-stack-")
    ]
    return Response(response.status, (*response.headers, *added), response.body)


def _response(status: int, content_type: str, text: str, cache_control: str = NO_STORE, **ours: str) -> Response:
    body = text.encode("utf-8", "replace")
    headers = [
        *CORS,
        ("cache-control", cache_control),
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("x-stack-request-id", opaque(16)),
        *((f"x-stack-{name}", value) for name, value in ours.items()),
    ]
    return Response(status, tuple(headers), body)
