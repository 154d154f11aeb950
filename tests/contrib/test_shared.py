"""What the modules for frameworks share, without any of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
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
from stackauth_middleware._responses import Responder
from stackauth_middleware.contrib._shared import auser_with_profile, can_respond, refusal_of, user_with_profile
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .cases import JANE


def error_of(row: ErrorCode) -> RefusedError | AuthServerError:
    if row.status < 500:
        reason = "email_not_verified" if row is ErrorCode.RESTRICTED_NOT_ALLOWED else None
        return RefusedError(row, "for a test", restricted_reason=reason)
    return AuthServerError(row, 7 if row is ErrorCode.SERVER_ERROR else None)


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_a_refusal_is_the_middlewares_own(row: ErrorCode) -> None:
    """The same status, body and headers, whoever refuses; the message and code are those of the body."""
    error = error_of(row)
    refusal = refusal_of(error)
    response = Responder(cases.config())(error, "GET", "/", "")
    headers = dict(response.headers)
    assert headers.pop("Content-Type") == "application/json"
    assert headers.pop("Content-Length") == str(len(response.body))
    assert (refusal.status, refusal.headers, refusal.body) == (response.status, headers, json.loads(response.body))
    assert (refusal.message, refusal.code) == (refusal.body["error"], refusal.body["code"])


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_a_refusal_closes_a_socket_as_the_middleware_does(row: ErrorCode) -> None:
    """3000 Unauthorized, 3003 Forbidden, 1013 Try Again Later."""
    expected = {400: 3000, 401: 3000, 403: 3003, 500: 1013, 503: 1013}
    assert refusal_of(error_of(row)).close_code == expected[row.status]


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


def test_the_package_alone_imports_no_framework() -> None:
    """Though they are installed here: each is imported by its own module only."""
    program = (
        "import sys, stackauth_middleware, stackauth_middleware.contrib, stackauth_middleware.contrib._shared; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "stackauth_middleware" in loaded
    assert not loaded & {"fastapi", "starlette", "litestar", "falcon", "quart", "flask", "bottle", "django", "werkzeug"}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("fastapi", {"litestar", "falcon", "quart", "flask", "bottle", "django"}),
        ("starlette", {"fastapi", "litestar", "falcon", "quart", "flask", "bottle", "django"}),
        ("litestar", {"fastapi", "starlette", "falcon", "quart", "flask", "bottle", "django"}),
        ("falcon", {"fastapi", "starlette", "litestar", "quart", "flask", "bottle", "django"}),
        ("quart", {"fastapi", "starlette", "litestar", "falcon", "bottle", "django"}),
        ("flask", {"fastapi", "starlette", "litestar", "falcon", "quart", "bottle", "django"}),
        ("bottle", {"fastapi", "starlette", "litestar", "falcon", "quart", "flask", "django"}),
    ],
)
def test_a_module_imports_its_own_framework_only(name: str, others: set[str]) -> None:
    """FastAPI is made of Starlette, and Quart of Flask."""
    program = (
        f"import sys, stackauth_middleware.contrib.{name}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert name in loaded
    assert not loaded & others
