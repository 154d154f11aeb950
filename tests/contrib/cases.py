"""What every framework is shown: each way to be refused, by the middleware and inside the app, and the whole answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stackauth_middleware import Rule, StackAuthConfig, User
from stackauth_middleware.testing import LocalStackAuth

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d12"
ORIGIN = "https://app.example.com"
"""Where the front end is, which is not where the app is."""

RULES = [
    Rule("/public/**", "public"),
    Rule("/optional/**", "optional"),
    Rule("/admin", check=lambda user: user.display_name == "admin"),
]
"""All but these paths is closed."""


def config(**settings: Any) -> StackAuthConfig:
    """Return the settings of the apps under test. No early fetch: it would race with what a test takes down."""
    given = {"project_id": PROJECT, "secret_server_key": "ssk_for_tests", "rules": RULES, "warm_up": False}
    return StackAuthConfig(**given | settings)


class Answer(NamedTuple):
    """A whole answer. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: Any


def answer(status: int, headers: Any, content: bytes) -> Answer:
    """Return what came back, the body read as JSON; a header that is there twice fails the test."""
    pairs = [(name.lower(), value) for name, value in headers]
    assert len(dict(pairs)) == len(pairs), pairs
    return Answer(status, dict(pairs), json.loads(content) if content else None)


def answered(response: Any) -> Answer:
    """Return the answer that a client in the manner of httpx got."""
    return answer(response.status_code, response.headers.multi_items(), response.content)


def challenge(error: str = "") -> dict[str, str]:
    told = f', error="{error}"' if error else ""
    return {"www-authenticate": f'Bearer realm="stack-auth"{told}'}


Send = Callable[[LocalStackAuth], Mapping[str, str]]
Trouble = Callable[[LocalStackAuth], AbstractContextManager[Any]]


def in_order(_: LocalStackAuth) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Case:
    """A request that is refused.

    Attributes:
        path: where it goes.
        status, code, message: the row.
        headers: those that the row calls for.
        send: the request's headers.
        trouble: what is wrong meanwhile.
        more: what the body says beside message and code.
        asks: whether Stack Auth may have to be asked first.
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

    def answer(self, body: Mapping[str, Any] | None = None, separators: tuple[str, str] = (", ", ": ")) -> Answer:
        """Return the whole answer.

        Args:
            body: its JSON, where that is not the middleware's own.
            separators: as the framework's encoder writes them.
        """
        told = {"error": self.message, "code": self.code, **self.more} if body is None else body
        length = len(json.dumps(told, separators=separators, ensure_ascii=False))
        headers = {"content-type": "application/json", "content-length": str(length), "cache-control": "no-store"}
        return Answer(self.status, headers | dict(self.headers), told)


def signed_in(stackauth: LocalStackAuth) -> Mapping[str, str]:
    return stackauth.headers()


def unreachable(stackauth: LocalStackAuth) -> AbstractContextManager[None]:
    return stackauth.down(cold=True)


@contextmanager
def _no_project(stackauth: LocalStackAuth) -> Any:
    stackauth.remove_project(PROJECT)
    stackauth.forget()
    yield
    stackauth.add_project(PROJECT)


@contextmanager
def _other_key(stackauth: LocalStackAuth) -> Any:
    stackauth.add_project(PROJECT, secret_server_key="ssk_of_somebody_else")
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


def _twice(stackauth: LocalStackAuth) -> Mapping[str, str]:
    token = stackauth.token()
    return {"x-stack-access-token": f"{token},{token}"}


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
    "forbidden": Case("/admin", 403, "forbidden", "Not allowed", challenge("insufficient_scope"), signed_in),
    "unreachable": Case("/me", *SERVER, AFTER_10, signed_in, unreachable),
    "misconfigured": Case("/me", *MISCONFIGURED, signed_in, _no_project),
}
"""Refused by the middleware: the app is not called."""

REFUSED_INSIDE: dict[str, Case] = {
    "nobody": Case("/optional/guarded", *MISSING, lambda _: {}),
    "nobody is looked for": Case("/public/guarded", *MISSING, signed_in),
    "unreachable": Case("/optional/guarded", *SERVER, AFTER_1, signed_in, unreachable),
    "misconfigured": Case("/optional/guarded", *MISCONFIGURED, signed_in, _no_project),
}
"""Let through by the middleware, refused where the app requires a user."""

NO_PROFILE: dict[str, Case] = {
    "nobody": Case("/optional/profile", *MISSING, lambda _: {}),
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
"""Refused where the app asks for the profile."""


def seen(user: User) -> dict[str, Any]:
    """Return what a handler tells of its user."""
    return {"id": user.user_id, "email": user.email, "profile": user.profile is not None}


JANE = {"id": "11111111-1111-4111-8111-111111111111", "email": "jane@example.com"}
"""Who the local Stack Auth's tokens are for by default."""
