"""The WSGI door: what the app gets, what a client gets, and that PEP 3333 is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from stackauth_middleware import (
    ConfigError,
    ErrorCode,
    Rule,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    UserType,
    get_user,
    require_user,
)
from stackauth_middleware._core.outcome import Unauthenticated
from stackauth_middleware.testing import LocalStackAuth

from .drive import PROJECT, environ_of, wsgi


def test_the_user_arrives(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(headers=stackauth.headers(project_id=PROJECT)))
    assert (seen.status, seen.body) == (200, b"app")
    user = seen.reached[0]["stackauth.user"]
    assert user.user_type is UserType.NORMAL
    assert get_user(seen.reached[0]) is user
    assert require_user(seen.reached[0]) is user
    assert seen.reached[0]["stackauth.error"] is None
    assert seen.headers == {}, "nothing is added to the app's own answer"


def test_nobody(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of())
    assert seen.reached == []
    assert seen.status == 401
    assert seen.body == b'{"error": "Access token required", "code": "missing_token"}'
    assert seen.headers == {
        "content-type": "application/json",
        "content-length": str(len(seen.body)),
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="stack-auth"',
    }
    assert stackauth.requests.count() == 0


def test_restricted(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(headers=stackauth.headers(user_type="restricted", project_id=PROJECT)))
    assert (seen.status, seen.code, seen.reached) == (403, "restricted_not_allowed", [])
    assert seen.headers["www-authenticate"] == 'Bearer realm="stack-auth", error="insufficient_scope"'
    assert b'"restricted_reason": "email_not_verified"' in seen.body


def test_stack_auth_down_is_no_401(stackauth: LocalStackAuth) -> None:
    token = stackauth.headers(project_id=PROJECT)
    with stackauth.down(cold=True):
        seen = wsgi(environ_of(headers=token))
    assert (seen.status, seen.code, seen.reached) == (503, "auth_server_error", [])
    assert seen.headers["retry-after"] == "10"
    assert "www-authenticate" not in seen.headers


def test_the_apps_own_iterable_comes_back(stackauth: LocalStackAuth) -> None:
    body: list[bytes] = [b"own"]
    door = StackAuthWSGIMiddleware(lambda environ, start_response: body, project_id=PROJECT, default_access="public")
    assert door(environ_of(), lambda *_: None) is body


def test_what_was_planted_is_overwritten(stackauth: LocalStackAuth) -> None:
    """E7: on a public route too."""
    planted = {"stackauth.user": "root", "stackauth.error": "x", "stackauth.outcome": "y"}
    seen = wsgi(environ_of(**planted), default_access="public")
    *said, outcome = (seen.reached[0][name] for name in planted)
    assert said == [None, None]
    assert isinstance(outcome, Unauthenticated)


@pytest.mark.parametrize("access", ["required", "public"])
def test_pep_3333_is_kept(access: Any, stackauth: LocalStackAuth) -> None:
    """The validator of the standard library finds nothing, whether we refuse or let through."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"app"]

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    checked = validator(StackAuthWSGIMiddleware(validator(app), project_id=PROJECT, default_access=access))
    statuses: list[str] = []
    answer = checked(environ, lambda status, headers, exc_info=None: statuses.append(status) or (lambda data: None))
    try:
        body = b"".join(answer)
    finally:
        answer.close()
    assert statuses == ["401 Unauthorized" if access == "required" else "200 OK"]
    assert body == (b"app" if access == "public" else b'{"error": "Access token required", "code": "missing_token"}')


def test_head_has_no_body(stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of(REQUEST_METHOD="HEAD"))
    assert (seen.status, seen.body) == (401, b"")
    assert seen.headers["content-length"] == str(len(b'{"error": "Access token required", "code": "missing_token"}'))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/open", 200),
        ("/open/", 401),
        ("//open", 401),
        ("", 401),
        ("/caf\xc3\xa9", 200),
        ("/caf\xe9", 401),
        ("/open/../x", 401),
        ("/\u20ac", 401),
    ],
)
def test_paths(path: str, status: int, stackauth: LocalStackAuth) -> None:
    """Octets in latin-1 are read as UTF-8; what is neither cannot match a rule."""
    seen = wsgi(environ_of(path), rules=[Rule("/open", "public"), Rule("/caf\xe9", "public")])
    assert seen.status == status


def test_an_empty_path_is_the_root(stackauth: LocalStackAuth) -> None:
    assert wsgi(environ_of(""), rules=[Rule("/", "public")]).status == 200


@pytest.mark.parametrize(
    ("setting", "script_name", "status"),
    [
        ("", "", 200),
        ("", "/api", 200),
        ("scope", "/api", 200),
        ("/api", "/api", 200),
        ("/api", "", 401),
        ("/api", "/b", 401),
    ],
)
def test_rules_match_path_info_if_script_name_is_the_root_path(
    stackauth: LocalStackAuth, setting: str, script_name: str, status: int
) -> None:
    rules = [Rule("/open", "public")]
    assert wsgi(environ_of("/open", SCRIPT_NAME=script_name), rules=rules, root_path=setting).status == status
    assert wsgi(environ_of("/api/open", SCRIPT_NAME=script_name), rules=rules, root_path=setting).status == 401


@pytest.mark.parametrize(
    "odd",
    [{"PATH_INFO": 5}, {"REQUEST_METHOD": b"GET"}, {"HTTP_AUTHORIZATION": 7}, {"HTTP_X_STACK_AUTH": b"{}"}],
    ids=str,
)
def test_an_environ_that_is_none_is_refused(odd: dict[str, Any], stackauth: LocalStackAuth) -> None:
    seen = wsgi(environ_of() | odd)
    assert (seen.status, seen.code, seen.reached) == (400, "invalid_request", [])


@pytest.mark.parametrize("method", ["WEBSOCKET", "WebSocket"])
def test_no_http_method_falls_under_the_rule_of_a_websocket(stackauth: LocalStackAuth, method: str) -> None:
    """Rules are often shared by both doors, and Django's views run for any method."""
    rules = [Rule("/feed", "public", methods=["WEBSOCKET"])]
    seen = wsgi(environ_of("/feed", REQUEST_METHOD=method), rules=rules)
    assert (seen.status, seen.code, seen.reached) == (401, "missing_token", [])
    assert wsgi(environ_of("/feed", REQUEST_METHOD=method), default_access="public").status == 200


def test_the_apps_exception_passes(stackauth: LocalStackAuth) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise LookupError("the app's own")

    with pytest.raises(LookupError, match="the app's own"):
        wsgi(environ_of(), app, default_access="public")


def test_no_app_is_said_where_it_is_written() -> None:
    async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(ConfigError, match="must be a WSGI app"):
        StackAuthWSGIMiddleware(asgi_app, project_id=PROJECT)  # type: ignore[arg-type]
    assert StackAuthWSGIMiddleware(type, project_id=PROJECT).app is type, "written in C, so it cannot be told"


def test_doors_of_one_config_share_what_lives(stackauth: LocalStackAuth) -> None:
    config = StackAuthConfig(project_id=PROJECT)
    headers = stackauth.headers(project_id=PROJECT)
    for _ in range(3):
        assert wsgi(environ_of(headers=headers), config=config).status == 200
    assert stackauth.requests.count("jwks") == 1


def test_optional_goes_on_as_nobody_in_an_outage(stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers(project_id=PROJECT)
    with stackauth.down(cold=True):
        seen = wsgi(environ_of(headers=headers), default_access="optional")
    assert seen.status == 200
    assert seen.reached[0]["stackauth.user"] is None
    assert seen.reached[0]["stackauth.error"] is ErrorCode.SERVER_ERROR
