"""What the modules for frameworks share, without any of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stackauth_middleware import (
    AuthServerError,
    ErrorCode,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthWSGIMiddleware,
    User,
)
from stackauth_middleware._core.outcome import Unauthenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.responses import Responder
from stackauth_middleware.contrib._shared import auser_with_profile, can_respond, refusal_of, user_with_profile
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE


def error_of(row: ErrorCode) -> RefusedError | AuthServerError:
    if row.status < 500:
        reason = "email_not_verified" if row is ErrorCode.RESTRICTED_NOT_ALLOWED else None
        return RefusedError(row, "for a test", restricted_reason=reason)
    return AuthServerError(row, 7 if row is ErrorCode.SERVER_ERROR else None)


def scope_of(outcome: Any) -> dict[str, Any]:
    return {"stackauth.user": None, "stackauth.error": None, "stackauth.outcome": outcome}


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_refusal_is_the_middlewares_own(row: ErrorCode) -> None:
    """By the settings and the request that the outcome leads back to; what a framework's form needs goes along."""
    error, origin = error_of(row), "https://app.example.com"
    config = cases.config(realm="shop", cors_origins=[origin], error_body=lambda code, info: [code.value, info.path])
    request = RequestRecord("GET", "/x", "", {"origin": origin})
    refusal = refusal_of(scope_of(Unauthenticated(config, request)), error)
    assert refusal.response == Responder(config)(error, "GET", "/x", origin)
    assert json.loads(refusal.response.body) == [row.value, "/x"]
    assert (refusal.status, refusal.message) == (row.status, row.message)
    reason = {"restricted_reason": "email_not_verified"} if row is ErrorCode.RESTRICTED_NOT_ALLOWED else {}
    assert refusal.detail == {"error": row.message, "code": row.value, **reason}
    own = {"Content-Type": "application/json", "Content-Length": str(len(refusal.response.body))}
    assert refusal.headers | own == dict(refusal.response.headers)
    assert refusal.close_code == {400: 3000, 401: 3000, 403: 3003, 500: 1013, 503: 1013}[row.status]


def test_refusal_without_a_middleware_has_the_default_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_API_URL", "no address")
    error = RefusedError(ErrorCode.INVALID_TOKEN)
    assert refusal_of({}, error).response == Responder(cases.config(api_url="https://x.test"))(error, "GET", "/", "")


@pytest.mark.parametrize(
    ("scope", "can"),
    [
        ({"type": "http"}, True),
        ({"type": "websocket"}, False),
        ({"type": "websocket", "extensions": None}, False),
        ({"type": "websocket", "extensions": {"tls": {}}}, False),
        ({"type": "websocket", "extensions": {"websocket.http.response": {}}}, True),
    ],
)
def test_a_socket_can_be_answered_by_extension_only(scope: Any, can: bool) -> None:
    assert can_respond(scope) is can


def asked(kind: str, headers: dict[str, str], rule_brings_it: bool) -> tuple[User, User | None]:
    """Return the user with the profile, and the user that the middleware wrote, as an app behind it sees them."""
    rules = [cases.Rule("/me", profile=rule_brings_it)]
    found: list[Any] = []
    if kind == "wsgi":

        def app(environ: Any, start_response: Any) -> list[bytes]:
            found.extend((user_with_profile(environ), environ["stackauth.user"]))
            return []

        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        door = StackAuthWSGIMiddleware(app, cases.config(rules=rules))
        door({"REQUEST_METHOD": "GET", "PATH_INFO": "/me", **environ}, None)  # type: ignore[arg-type]
    else:

        async def aapp(scope: Any, receive: Any, send: Any) -> None:
            found.extend((await auser_with_profile(scope), scope["stackauth.user"]))

        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": "/me", "headers": pairs}
        asyncio.run(StackAuthASGIMiddleware(aapp, cases.config(rules=rules))(scope, None, None))  # type: ignore[arg-type]
    user, written = found
    return user, written


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_profile_is_asked_for(kind: str, stackauth: LocalStackAuth) -> None:
    """What it says is the user's then; the user that the middleware wrote stays as it was."""
    config = cases.config()
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    user, written = asked(kind, stackauth.headers(email="old@example.com", project_id=config.project_id), False)
    assert user.profile is not None
    assert (user.email, user.profile.primary_email) == ("new@example.com", "new@example.com")
    assert written is not None
    assert (written.email, written.profile) == ("old@example.com", None)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_profile_that_a_rule_has_brought_is_not_asked_for_again(kind: str, stackauth: LocalStackAuth) -> None:
    user, written = asked(kind, stackauth.headers(project_id=cases.PROJECT), True)
    assert user is written
    assert user.profile is not None
    assert stackauth.requests.count("users/me") == 1
