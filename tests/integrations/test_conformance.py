"""Behaviour that is the same in every framework.

`adapters` has one adapter per framework. Tests of a single framework are in a file of its own in this folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stackauth_middleware import Rule
from stackauth_middleware.testing import LocalStackAuth

from . import cases
from .adapters import ADAPTERS
from .cases import JANE, ORIGIN, Answer, Case
from .serving import client, uvicorn_serving, wsgiref_serving
from .site import Site, running

NATIVE = [name for name, adapter in ADAPTERS.items() if adapter.native]
SOCKETS = [name for name, adapter in ADAPTERS.items() if adapter.sockets]
ONE_OF_EACH = {name for name, adapter in ADAPTERS.items() if not adapter.is_variant}
INSIDE = {
    **{f"guard, {name}": case for name, case in cases.REFUSED_INSIDE.items()},
    **{f"profile, {name}": case for name, case in cases.NO_PROFILE.items()},
}
FORMS = [(name, form) for name in ADAPTERS for form in cases.FORMS if form == "problem" or name in ONE_OF_EACH]
PREFLIGHT = {"access-control-request-method": "GET", "access-control-request-headers": "x-stack-access-token"}
every_framework = pytest.mark.parametrize("name", ADAPTERS)
every_socket = pytest.mark.parametrize("name", SOCKETS)


@pytest.fixture
def site(name: str, stackauth: LocalStackAuth) -> Iterator[Site]:
    with running(name, request_user=True) as site:
        yield site


def handlers(site: Site) -> list[Any]:
    """Return what handlers noted, without the notes of Django middlewares below ours."""
    return [each for each in site.ran if each != "below"]


# -- users -----------------------------------------------------------------------------


@every_framework
def test_handler_receives_verified_user(site: Site, stackauth: LocalStackAuth) -> None:
    """The handler sends the fields of the user, without token and claims.

    The response is its own, except that Django's middleware marks it as private.
    """
    answer = site.get("/me", stackauth.headers(a_claim="canary"))
    (user,) = handlers(site)
    assert (answer.status, answer.body) == (200, user.to_dict())
    assert (user.user_id, user.email) == (JANE["id"], JANE["email"])
    assert not {"www-authenticate", "retry-after"} & answer.headers.keys()
    assert answer.headers.get("cache-control") == ("private" if site.adapter.module == "django" else None)


@every_framework
def test_handler_that_sends_user_with_profile_sends_what_clients_may_see(name: str, stackauth: LocalStackAuth) -> None:
    with running(name, rules=[Rule("/me", profile=True)], request_user=True) as site:
        account = stackauth.users.create(
            client_metadata={"a": [1, {"b": None}]},
            server_metadata="canary",
            restricted_by_admin_private_details="canary",
            country_code="canary",
        )
        headers = stackauth.headers(account, a_claim="canary")
        answer = site.get("/me", headers)
        (user,) = handlers(site)
    assert answer[::2] == (200, user.to_dict())
    assert answer.body["profile"]["client_metadata"] == {"a": [1, {"b": None}]}
    (token,) = headers.values()
    secrets = ["canary", "risk_scores", "ssk_for_tests", *token.split(".")]
    assert [each for each in secrets if each in str(answer)] == []
    assert user.profile.server_metadata == "canary"


@every_framework
@pytest.mark.parametrize("access", ["public", "optional"])
def test_handler_receives_none_for_unauthenticated_request(access: str, site: Site) -> None:
    assert site.get(f"/{access}/hello")[::2] == (200, {"email": None})


@every_framework
def test_optional_route_receives_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/optional/hello", stackauth.headers()).body == {"email": JANE["email"]}
    assert site.get("/optional/guarded", stackauth.headers()).body == {**JANE, "profile": False}


@every_framework
def test_public_route_ignores_token(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/public/hello", stackauth.headers()).body == {"email": None}
    assert stackauth.requests.count() == 0


@every_framework
def test_profile_is_loaded_once(site: Site, stackauth: LocalStackAuth) -> None:
    stackauth.users.create(JANE["id"], primary_email="new@example.com")
    for _ in range(2):
        answer = site.get("/optional/profile", stackauth.headers())
        assert answer[::2] == (200, {"id": JANE["id"], "email": "new@example.com", "profile": True})
    assert stackauth.requests.count("users/me") == 1
    assert stackauth.requests.count("jwks") == 1


@every_framework
def test_permission_lets_the_user_in(site: Site, stackauth: LocalStackAuth) -> None:
    """By a rule, and by what the contrib module demands it with; in the project and in a team."""
    headers, team = stackauth.headers(), stackauth.team()
    stackauth.grant("admin")
    stackauth.grant("read", team=team)
    assert site.get("/permitted", headers).status == 200
    for path in ("/optional/permitted", f"/optional/teams/{team.id}", f"/optional/teams/{team.id.upper()}"):
        assert site.get(path, headers)[::2] == (200, {**JANE, "profile": False})
    assert stackauth.requests.count("permissions") == 2


@every_framework
@pytest.mark.parametrize("source", ["x-api-key", "x-stack-api-key", "authorization"])
def test_api_key_of_a_user_brings_the_user(source: str, site: Site, stackauth: LocalStackAuth) -> None:
    value = stackauth.api_key(description="canary")
    headers = {source: f"Bearer {value}" if source == "authorization" else value}
    expected = {"key": "user", "owner": JANE["id"], "email": JANE["email"]}
    for _ in range(2):
        assert site.get("/v1/hello", headers)[::2] == (200, expected)
        assert site.get("/v1/guarded", headers)[::2] == (200, {**JANE, "profile": True})
    assert stackauth.requests.count("api-keys") == stackauth.requests.count("users") == 1


@every_framework
def test_api_key_of_a_team_brings_no_user(site: Site, stackauth: LocalStackAuth) -> None:
    team = stackauth.team()
    answer = site.get("/v1/hello", {"x-api-key": stackauth.api_key(team=team)})
    assert answer[::2] == (200, {"key": "team", "owner": team.id, "email": None})
    assert stackauth.requests.count("users") == 0


@every_framework
def test_token_is_accepted_where_api_keys_are(site: Site, stackauth: LocalStackAuth) -> None:
    answer = site.get("/v1/hello", stackauth.headers())
    assert answer[::2] == (200, {"key": None, "owner": None, "email": JANE["email"]})


# -- refusals -------------------------------------------------------------------------------------


@every_framework
@pytest.mark.parametrize("case", cases.REFUSED.values(), ids=cases.REFUSED)
def test_middleware_refuses(case: Case, site: Site, stackauth: LocalStackAuth) -> None:
    headers = case.send(stackauth)
    with case.trouble(stackauth):
        assert site.get(case.path, headers) == case.answer()
    assert site.ran == []
    assert case.asks or stackauth.requests.count() == 0


@pytest.mark.parametrize(("name", "form"), FORMS)
@pytest.mark.parametrize("case", INSIDE.values(), ids=INSIDE)
def test_app_refuses_as_middleware_does(case: Case, name: str, form: str, stackauth: LocalStackAuth) -> None:
    """Status, headers and body are exactly those of the middleware with the same settings."""
    expected = case.answer(cases.FORMS[form])
    with running(name, request_user=True, **cases.FORMS[form].settings) as site:
        headers = {"origin": ORIGIN, **case.send(stackauth)}
        with case.trouble(stackauth):
            answer = site.get(case.path, headers)
        assert (answer.status, answer.body) == expected[::2]
        assert answer.headers == expected.headers
        assert handlers(site) == []


@every_framework
def test_app_refuses_below_root_path_as_middleware_does(name: str, stackauth: LocalStackAuth) -> None:
    """Both pass the same path to a function for `error_body`."""
    with running(name, error_body=lambda code, info: [code.value, info.path]) as site:
        status, _, (code, path) = site.get("/me", root_path="/r1")
        assert (status, code) == (401, "missing_token")
        inside = site.get("/optional/guarded", root_path="/r1")
    if name != "falcon-asgi":  # it does not remove the root path, and finds no route
        assert inside[::2] == (401, ["missing_token", path.replace("/me", "/optional/guarded")])


@pytest.mark.parametrize("name", NATIVE)
def test_own_handler_takes_refusal_in_native_form(name: str, stackauth: LocalStackAuth) -> None:
    """The exception has our exception as its cause, and our headers. Refusals of the middleware do not reach it."""
    with running(name, own=True, request_user=True, realm="shop") as site:
        for path in ("/public/guarded", "/optional/profile"):
            answer = site.get(path)
            assert answer[::2] == (401, {"own": "missing_token"})
            assert answer.headers["www-authenticate"] == 'Bearer realm="shop"'
        assert site.get("/me").body == {"error": "Access token required", "code": "missing_token"}


def readable(answer: Answer, origin: str) -> bool:
    """Return whether a browser lets a script of `origin` read `answer`: the CORS check of the Fetch standard.

    `Site.get` joins repeated headers by a comma, which no browser takes for an origin.
    """
    return answer.headers.get("access-control-allow-origin") in ("*", origin)


@every_framework
@pytest.mark.parametrize("passing", [False, True], ids=["answered", "passed"])
def test_cors_tool_with_cors_origins_names_origin_once(name: str, passing: bool, stackauth: LocalStackAuth) -> None:
    """In responses of the app, refusals and preflights, which the middleware answers or passes on to the tool."""
    with running(name, cors=True, request_user=True, cors_origins=[ORIGIN], pass_preflights=passing) as site:
        headers = stackauth.headers()
        for origin in (ORIGIN, "https://evil.example.com"):
            allowed, sent = origin == ORIGIN, {"origin": origin}
            for path in ("/me", "/public/guarded"):
                refusal = site.get(path, sent)
                assert (refusal.status, readable(refusal, origin)) == (401, allowed)
                assert not allowed or "Origin" in refusal.headers["vary"]
            granted = site.get("/me", sent | headers)
            assert (granted.status, readable(granted, origin)) == (200, allowed)
            preflight = site.get("/me", sent | PREFLIGHT, "OPTIONS")
            assert readable(preflight, origin) is allowed
            assert passing or not allowed or preflight.status in (200, 204)
        with stackauth.down(cold=True):
            unavailable = site.get("/me", {"origin": ORIGIN, **headers})
        assert (unavailable.status, readable(unavailable, ORIGIN)) == (503, True)


@every_framework
def test_cors_tool_alone_leaves_refusals_of_the_middleware_unreadable(name: str, stackauth: LocalStackAuth) -> None:
    """This is what `cors_origins` is for. Refusals inside the app pass the tool; Litestar's is outside of both."""
    with running(name, cors=True, request_user=True) as site:
        for path, expected in (("/me", name == "litestar"), ("/public/guarded", True)):
            refusal = site.get(path, {"origin": ORIGIN})
            assert (refusal.status, readable(refusal, ORIGIN)) == (401, expected)


@every_framework
def test_missing_middleware_is_a_config_error(name: str, stackauth: LocalStackAuth) -> None:
    """It is not a 401, which signing in could never resolve."""
    with running(name, mounted=False) as site:
        answer = site.get("/public/guarded", stackauth.headers())
        assert (answer.status, answer.body["raised"]) == (409, "ConfigError")
        assert "no Stack Auth middleware saw this request" in answer.body["message"]
        assert handlers(site) == []


@every_framework
def test_missing_key_for_profiles_is_a_config_error(name: str, stackauth: LocalStackAuth) -> None:
    with running(name, secret_server_key="", rules=[Rule("/**", "optional")], request_user=True) as site:
        answer = site.get("/optional/profile", stackauth.headers())
        assert (answer.status, answer.body["raised"]) == (409, "ConfigError")
        assert "secret_server_key" in answer.body["message"]


# -- the rest of an app ---------------------------------------------------------------------------


@every_framework
def test_errors_of_the_app_are_unchanged(site: Site, stackauth: LocalStackAuth) -> None:
    headers = stackauth.headers()
    assert site.get("/buy", headers)[::2] == (409, {"raised": "OutOfStock", "message": ""})
    for path, status in (("/gone", 410), ("/nowhere", 404)):
        answer = site.get(path, headers)
        assert answer.status == status
        assert "www-authenticate" not in answer.headers


@every_framework
def test_stream_can_read_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/stream", stackauth.headers()).body == f"{JANE['email']}\n" * 3


@every_framework
def test_background_work_can_read_the_user(site: Site, stackauth: LocalStackAuth) -> None:
    assert site.get("/later", stackauth.headers()).status == 200
    site.ran[:] = handlers(site)
    assert site.wait_for_work() == [JANE["email"]]


@every_framework
def test_rules_are_relative_to_root_path(name: str, stackauth: LocalStackAuth) -> None:
    """Falcon does not take the root path off under ASGI, and finds no route."""
    with running(name, root_path="/r1", request_user=True) as site:
        assert site.get("/me", root_path="/r1").status == 401
        assert site.get("/public/hello", root_path="/r1").status == (404 if name == "falcon-asgi" else 200)


@every_framework
def test_other_root_path_than_the_setting_opens_no_path(name: str, stackauth: LocalStackAuth) -> None:
    with running(name, root_path="/r1", request_user=True) as site:
        assert site.get("/public/hello", root_path="/r2").status == 401
        assert site.ran == []


@every_framework
def test_behind_a_server(site: Site, stackauth: LocalStackAuth) -> None:
    serving = uvicorn_serving if site.adapter.asgi else wsgiref_serving
    case = cases.REFUSED_INSIDE["unauthenticated"]
    with serving(site.application) as url, client(url) as http:
        assert http.get("/me", headers=stackauth.headers()).json()["email"] == JANE["email"]
        assert http.get("/stream", headers=stackauth.headers()).text == f"{JANE['email']}\n" * 3
        refusal: httpx.Response = http.get(case.path)
        assert (refusal.status_code, refusal.json()) == case.answer()[::2]
        assert dict(refusal.headers).items() >= case.answer().headers.items()
    assert stackauth.requests.count("jwks") == 1


# -- WebSockets -----------------------------------------------------------------------------------


def texts(sent: list[dict[str, Any]]) -> list[Any]:
    """Return the JSON that an app sent on a WebSocket, text or bytes, and check that it was accepted and closed."""
    first, *messages, last = sent
    assert (first["type"], last["type"]) == ("websocket.accept", "websocket.close")
    return [json.loads(each.get("text") or each["bytes"]) for each in messages]


@every_socket
def test_websocket_receives_user(site: Site, stackauth: LocalStackAuth) -> None:
    for path in ("/socket", "/optional/socket"):
        assert texts(site.connect(path, stackauth.headers())) == [{**JANE, "profile": False}]
    assert texts(site.connect("/public/socket")) == [None]


@every_socket
@pytest.mark.parametrize("path", ["/socket", "/optional/socket"])
def test_websocket_is_refused_with_a_response(path: str, name: str, stackauth: LocalStackAuth) -> None:
    """By the middleware in every framework; inside the app only where the framework can send one."""
    form = cases.FORMS["problem"]
    expected = cases.REFUSED["missing"].answer(form)
    with running(name, request_user=True, **form.settings) as site:
        first, *rest = site.connect(path, {"origin": ORIGIN})
    if path == "/optional/socket" and name in ("litestar", "falcon-asgi"):
        assert first["type"] == "websocket.close"
        return
    assert (first["type"], first["status"]) == ("websocket.http.response.start", 401)
    headers = {name.decode().lower(): value.decode() for name, value in first["headers"]}
    assert headers == expected.headers
    assert json.loads(b"".join(each.get("body", b"") for each in rest)) == expected.body


@every_socket
@pytest.mark.parametrize(
    ("path", "down", "code"),
    [
        ("/socket", False, 3000),
        ("/optional/socket", False, 3000),
        ("/optional/socket", True, 1013),
    ],
)
def test_websocket_is_refused_with_a_code(
    path: str, down: bool, code: int, site: Site, name: str, stackauth: LocalStackAuth
) -> None:
    """Where the server cannot send a response. Falcon and Quart close by codes of their own inside the app."""
    headers = stackauth.headers() if down else {}
    if down:
        with stackauth.down(cold=True):
            sent = site.connect(path, headers, extension=False)
    else:
        sent = site.connect(path, headers, extension=False)
    (closed,) = sent
    own = {"falcon-asgi": 3503 if down else 3401, "quart": 1000}
    assert closed["type"] == "websocket.close"
    assert closed["code"] == (own.get(name, code) if path == "/optional/socket" else code)
