"""Refused requests, by the middleware and inside the app, with the whole response to each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

from stackauth_middleware import ApiKey, ErrorCode, Rule, StackAuthConfig, User, UserProfile
from stackauth_middleware.errors import RefusalInfo
from stackauth_middleware.testing import LocalStackAuth

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d12"
ORIGIN = "https://app.example.com"
"""Origin of the front end, which is not that of the app."""

RULES = [
    Rule("/public/**", "public"),
    Rule("/optional/**", "optional"),
    Rule("/permitted", permission="admin"),
    Rule("/v1/**", api_keys=["user", "team"]),
    Rule("/admin", check=lambda user: user.display_name == "admin"),
]
"""Any other path requires a user."""


def config(**settings: Any) -> StackAuthConfig:
    """Return the settings of the apps under test. Keys are not prefetched: that would race with outages."""
    given = {"project_id": PROJECT, "secret_server_key": "ssk_for_tests", "rules": RULES, "prefetch_keys": False}
    return StackAuthConfig(**given | settings)


class Answer(NamedTuple):
    """A whole response. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: Any


def answer(status: int, headers: Any, content: bytes) -> Answer:
    """Return a response with the body read as JSON. Fails the test if a header is repeated."""
    pairs = [(name.lower(), value) for name, value in headers]
    assert len(dict(pairs)) == len(pairs), pairs
    return Answer(status, dict(pairs), json.loads(content) if content else None)


def answered(response: Any) -> Answer:
    """Return the response of a client with the interface of httpx."""
    return answer(response.status_code, response.headers.multi_items(), response.content)


def challenge(error: str = "") -> dict[str, str]:
    parameter = f', error="{error}"' if error else ""
    return {"www-authenticate": f'Bearer realm="stack-auth"{parameter}'}


Send = Callable[[LocalStackAuth], Mapping[str, str]]
Trouble = Callable[[LocalStackAuth], AbstractContextManager[Any]]


def in_order(_: LocalStackAuth) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Form:
    """Settings that determine the form of a refusal, and the expected form.

    Attributes:
        settings: settings of the config.
        body: returns the expected body, from the case and the default body.
        content_type: of the response.
        realm: in the challenge.
        allows: the origin in Access-Control-Allow-Origin, or "".
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    body: Callable[[Case, dict[str, Any]], Any] = lambda case, plain: plain
    content_type: str = "application/json"
    realm: str = "stack-auth"
    allows: str = ""


DEFAULT = Form()


@dataclass(frozen=True)
class Case:
    """A request that is refused.

    Attributes:
        path: path of the request.
        status: of the error code.
        code: the error code.
        message: of the error code.
        headers: response headers that the error code requires.
        send: returns the headers of the request.
        trouble: makes Stack Auth fail during the request.
        more: further members of the body.
        asks: whether Stack Auth may be called.
    """

    path: str
    status: int
    code: str
    message: str
    headers: Mapping[str, str]
    send: Send
    trouble: Trouble = in_order
    more: Mapping[str, str] = field(default_factory=dict)
    asks: bool = True

    def answer(self, form: Form = DEFAULT) -> Answer:
        """Return the whole response with the settings of `form`, to a request from `ORIGIN` where it names origins."""
        plain = {"error": self.message, "code": self.code, **self.more}
        body = form.body(self, plain)
        headers = {
            "content-type": form.content_type,
            "content-length": str(len(json.dumps(body))),
            "cache-control": "no-store",
            **{name: value.replace("stack-auth", form.realm) for name, value in self.headers.items()},
        }
        if form.allows:
            headers["access-control-allow-origin"] = form.allows
            headers["access-control-expose-headers"] = "WWW-Authenticate, Retry-After"
            headers["vary"] = "Origin"
        return Answer(self.status, headers, body)


def signed_in(stackauth: LocalStackAuth) -> Mapping[str, str]:
    return stackauth.headers()


def unreachable(stackauth: LocalStackAuth) -> AbstractContextManager[None]:
    return stackauth.down(cold=True)


@contextmanager
def _no_project(stackauth: LocalStackAuth) -> Any:
    stackauth.remove_project(PROJECT)
    stackauth.reset()
    yield
    stackauth.add_project(PROJECT)


@contextmanager
def _other_key(stackauth: LocalStackAuth) -> Any:
    stackauth.add_project(PROJECT, secret_server_key="ssk_of_another_project")
    yield
    stackauth.add_project(PROJECT)


@contextmanager
def _restricted(stackauth: LocalStackAuth) -> Any:
    (account,) = stackauth.users
    stackauth.users.restrict(account.id)
    yield
    stackauth.users.unrestrict(account.id)


@contextmanager
def _deleted(stackauth: LocalStackAuth) -> Any:
    (account,) = stackauth.users
    stackauth.users.delete(account.id)
    yield


@contextmanager
def _no_keys(stackauth: LocalStackAuth) -> Any:
    stackauth.add_project(PROJECT, user_api_keys=False)
    yield
    stackauth.add_project(PROJECT)


def _with_key(**how: Any) -> Send:
    def send(stackauth: LocalStackAuth) -> Mapping[str, str]:
        team = stackauth.team(team_id=TEAM) if how.get("team") else None
        return {"x-api-key": stackauth.api_key(**{**how, "team": team})}

    return send


def _revoked(stackauth: LocalStackAuth) -> Mapping[str, str]:
    return {"authorization": f"Bearer {stackauth.api_key(revoked=True)}"}


@contextmanager
def _owner_deleted(stackauth: LocalStackAuth) -> Any:
    (account,) = stackauth.users
    stackauth.users.delete(account.id)
    yield


def _twice(stackauth: LocalStackAuth) -> Mapping[str, str]:
    token = stackauth.token()
    return {"x-stack-access-token": f"{token},{token}"}


TEAM = "1af0611d-13cf-4386-949c-541de130e3f0"
FORBIDDEN = (403, "forbidden", "Not allowed", challenge("insufficient_scope"))
INVALID_KEY = (401, "invalid_api_key", "Invalid API key", challenge("invalid_token"))
EXPIRED_KEY = (401, "expired_api_key", "API key has expired", challenge("invalid_token"))
MISSING = (401, "missing_token", "Access token required", challenge())
INVALID = (401, "invalid_token", "Invalid or expired access token", challenge("invalid_token"))
RESTRICTED = (403, "restricted_not_allowed", "Account is restricted", challenge("insufficient_scope"))
SERVER = (503, "auth_server_error", "Authentication server error")
AFTER_1, AFTER_10 = {"retry-after": "1"}, {"retry-after": "10"}
MISCONFIGURED = (500, "auth_misconfigured", "Authentication server error", {})

REFUSED: dict[str, Case] = {
    "missing": Case("/me", *MISSING, lambda _: {}, asks=False),
    "ambiguous": Case(
        "/me",
        400,
        "invalid_request",
        "Ambiguous or malformed credentials",
        challenge("invalid_request"),
        _twice,
        asks=False,
    ),
    "garbage": Case("/me", *INVALID, lambda _: {"x-stack-access-token": "undefined"}, asks=False),
    "expired": Case(
        "/me",
        401,
        "expired_token",
        "Access token has expired",
        challenge("invalid_token"),
        lambda stackauth: stackauth.headers(expires_in=-60),
    ),
    "anonymous": Case(
        "/me",
        401,
        "anonymous_not_allowed",
        "Sign-in required",
        challenge("invalid_token"),
        lambda stackauth: stackauth.headers(is_anonymous=True),
    ),
    "restricted": Case(
        "/me",
        *RESTRICTED,
        lambda stackauth: stackauth.headers(is_restricted=True),
        more={"restricted_reason": "email_not_verified"},
    ),
    "forbidden": Case("/admin", *FORBIDDEN, signed_in),
    "no permission": Case("/permitted", *FORBIDDEN, signed_in),
    "permissions unreachable": Case(
        "/permitted", *SERVER, AFTER_1, signed_in, lambda stackauth: stackauth.down(only="permissions")
    ),
    "token and key": Case(
        "/v1/hello",
        *(400, "invalid_request", "Ambiguous or malformed credentials", challenge("invalid_request")),
        lambda stackauth: {**signed_in(stackauth), **_with_key()(stackauth)},
        asks=False,
    ),
    "key elsewhere": Case("/me", *MISSING, _with_key(), asks=False),
    "junk key": Case("/v1/hello", *INVALID_KEY, lambda _: {"x-stack-api-key": "sk_junk"}, asks=False),
    "public key": Case("/v1/hello", *INVALID_KEY, _with_key(public=True), asks=False),
    "revoked key": Case("/v1/hello", *INVALID_KEY, _revoked),
    "expired key": Case("/v1/hello", *EXPIRED_KEY, _with_key(expires_in=-1)),
    "key of another project": Case("/v1/hello", *INVALID_KEY, _with_key(project_id=PROJECT[:-1] + "0")),
    "key of a deleted user": Case("/v1/hello", *INVALID_KEY, _with_key(), _owner_deleted),
    "key of a restricted user": Case(
        "/v1/hello", *RESTRICTED, _with_key(), _restricted, {"restricted_reason": "restricted_by_administrator"}
    ),
    "keys turned off": Case("/v1/hello", *MISCONFIGURED, _with_key(), _no_keys),
    "keys unreachable": Case("/v1/hello", *SERVER, AFTER_1, _with_key(), lambda stackauth: stackauth.down()),
    "unreachable": Case("/me", *SERVER, AFTER_10, signed_in, unreachable),
    "misconfigured": Case("/me", *MISCONFIGURED, signed_in, _no_project),
}
"""Refused by the middleware: the app is not called."""

REFUSED_INSIDE: dict[str, Case] = {
    "unauthenticated": Case("/optional/guarded", *MISSING, lambda _: {}),
    "key of a team": Case("/v1/guarded", *FORBIDDEN, _with_key(team=True)),
    "no permission": Case("/optional/permitted", *FORBIDDEN, signed_in),
    "unauthenticated, for a permission": Case("/optional/permitted", *MISSING, lambda _: {}),
    "no permission in the team": Case(f"/optional/teams/{TEAM}", *FORBIDDEN, signed_in),
    "no team": Case("/optional/teams/x", *FORBIDDEN, signed_in),
    "permissions unreachable": Case(
        "/optional/permitted", *SERVER, AFTER_1, signed_in, lambda stackauth: stackauth.down(only="permissions")
    ),
    "unauthenticated on a public route": Case("/public/guarded", *MISSING, signed_in),
    "unreachable": Case("/optional/guarded", *SERVER, AFTER_10, signed_in, unreachable),
    "misconfigured": Case("/optional/guarded", *MISCONFIGURED, signed_in, _no_project),
}
"""Passed on by the middleware, refused where the app requires a user."""

NO_PROFILE: dict[str, Case] = {
    "unauthenticated": Case("/optional/profile", *MISSING, lambda _: {}),
    "restricted since": Case(
        "/optional/profile",
        *RESTRICTED,
        signed_in,
        _restricted,
        more={"restricted_reason": "restricted_by_administrator"},
    ),
    "deleted since": Case("/optional/profile", *INVALID, signed_in, _deleted),
    "unreachable": Case(
        "/optional/profile", *SERVER, AFTER_1, signed_in, lambda stackauth: stackauth.down(only="users/me")
    ),
    "another's key": Case("/optional/profile", *MISCONFIGURED, signed_in, _other_key),
}
"""Refused where the app loads the profile."""


def _problem(case: Case, plain: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in plain.items() if name != "error"}
    phrase = HTTPStatus(case.status).phrase
    return {"type": "about:blank", "title": phrase, "status": case.status, "detail": case.message, **rest}


def _fields(code: ErrorCode, info: RefusalInfo) -> list[Any]:
    return [code.value, *dataclasses.astuple(info)]


FORMS: dict[str, Form] = {
    "default": DEFAULT,
    "problem": Form(
        {"error_body": "problem", "realm": "shop", "cors_origins": [ORIGIN]},
        _problem,
        "application/problem+json",
        "shop",
        ORIGIN,
    ),
    "function": Form(
        {"error_body": _fields, "cors_origins": ["https://elsewhere.example.com"]},
        lambda case, plain: [
            case.code,
            "GET",
            case.path,
            case.more.get("restricted_reason"),
            int(case.headers["retry-after"]) if "retry-after" in case.headers else None,
        ],
    ),
}
"""The settings for the form of a refusal."""


def seen_profile(profile: UserProfile) -> dict[str, Any]:
    """Return what a handler sends of a profile."""
    return {"id": profile.id, "email": profile.primary_email, "profile": True}


def seen_key(key: ApiKey | None, user: User | None) -> dict[str, Any]:
    """Return what a handler sends of an API key."""
    return {"key": key and key.type.value, "owner": key and (key.user_id or key.team_id), "email": user and user.email}


def seen(user: User) -> dict[str, Any]:
    """Return what a handler sends of its user."""
    return {"id": user.user_id, "email": user.email, "profile": user.profile is not None}


JANE = {"id": "11111111-1111-4111-8111-111111111111", "email": "jane@example.com"}
"""Default user of the tokens of the local Stack Auth."""
