"""The module shared by the contrib modules, without a framework."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stackauth_middleware import (
    AuthServerError,
    ConfigError,
    ErrorCode,
    RefusedError,
    StackAuthASGIMiddleware,
    StackAuthWSGIMiddleware,
    User,
)
from stackauth_middleware._core.outcome import Unauthenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.responses import Responder
from stackauth_middleware.contrib._shared import Demand, can_respond, refusal_of
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE


def error_of(code: ErrorCode) -> RefusedError | AuthServerError:
    if code.status < 500:
        reason = "email_not_verified" if code is ErrorCode.RESTRICTED_NOT_ALLOWED else None
        return RefusedError(code, "for a test", restricted_reason=reason)
    return AuthServerError(code, 7 if code is ErrorCode.SERVER_ERROR else None)


def scope_of(outcome: Any) -> dict[str, Any]:
    return {"stackauth.user": None, "stackauth.error": None, "stackauth.outcome": outcome}


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_refusal_has_the_response_of_the_middleware(code: ErrorCode) -> None:
    """With the settings and the request of the outcome, and with the parts for a framework's own exception."""
    error, origin = error_of(code), "https://app.example.com"
    config = cases.config(realm="shop", cors_origins=[origin], error_body=lambda code, info: [code.value, info.path])
    request = RequestRecord("GET", "/x", "", {"origin": origin})
    refusal = refusal_of(scope_of(Unauthenticated(config, request)), error)
    assert refusal.response == Responder(config)(error, "GET", "/x", origin)
    assert json.loads(refusal.response.body) == [code.value, "/x"]
    assert (refusal.status, refusal.message) == (code.status, code.message)
    reason = {"restricted_reason": "email_not_verified"} if code is ErrorCode.RESTRICTED_NOT_ALLOWED else {}
    assert refusal.detail == {"error": code.message, "code": code.value, **reason}
    own = {"Content-Type": "application/json", "Content-Length": str(len(refusal.response.body))}
    assert refusal.headers | own == dict(refusal.response.headers)
    assert refusal.close_code == {400: 3000, 401: 3000, 403: 3003, 500: 1013, 503: 1013}[code.status]


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
def test_websocket_gets_a_response_only_with_the_extension(scope: Any, can: bool) -> None:
    assert can_respond(scope) is can


def users_seen(kind: str, headers: dict[str, str], by_rule: bool) -> tuple[User, User | None]:
    """Return the user with the profile, and the user that the middleware wrote, as an app behind it sees them."""
    rules = [cases.Rule("/me", profile=by_rule)]
    found: list[Any] = []
    if kind == "wsgi":

        def app(environ: Any, start_response: Any) -> list[bytes]:
            found.extend((Demand(profile=True).user(environ, {}), environ["stackauth.user"]))
            return []

        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        middleware = StackAuthWSGIMiddleware(app, cases.config(rules=rules))
        middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/me", **environ}, None)
    else:

        async def aapp(scope: Any, receive: Any, send: Any) -> None:
            found.extend((await Demand(profile=True).auser(scope, {}), scope["stackauth.user"]))

        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": "/me", "headers": pairs}
        asyncio.run(StackAuthASGIMiddleware(aapp, cases.config(rules=rules))(scope, None, None))
    user, written = found
    return user, written


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_profile_is_loaded(kind: str, stackauth: LocalStackAuth) -> None:
    """The user returned has the data of the profile; the user that the middleware wrote is unchanged."""
    config = cases.config()
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    user, written = users_seen(kind, stackauth.headers(email="old@example.com", project_id=config.project_id), False)
    assert user.profile is not None
    assert (user.email, user.profile.primary_email) == ("new@example.com", "new@example.com")
    assert written is not None
    assert (written.email, written.profile) == ("old@example.com", None)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_profile_that_a_rule_loaded_is_not_loaded_again(kind: str, stackauth: LocalStackAuth) -> None:
    user, written = users_seen(kind, stackauth.headers(project_id=cases.PROJECT), True)
    assert user is written
    assert user.profile is not None
    assert stackauth.requests.count("users/me") == 1


def test_demand_for_a_wrong_permission_or_team_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="must be the id of a permission"):
        Demand.of("Not Good", None)
    for team in ("", "{team_id}", 5):
        with pytest.raises(ConfigError, match="must be the name of the path parameter"):
            Demand.of("read", team)


def test_path_without_the_parameter_is_a_config_error() -> None:
    """It is not a 403, which no permission could ever resolve."""
    for parameters in ({}, {"team": "x"}):
        with pytest.raises(ConfigError, match="the path has no parameter 'team_id'"):
            Demand.of("read", "team_id").user({}, parameters)
