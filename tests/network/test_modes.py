"""The modes compared: where they agree, and where they differ, as in docs/howto/modes.md."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stackauth_middleware import Rule, StackAuthConfig
from stackauth_middleware.testing import team
from tests.unit.core.helpers import OTHER_PROJECT, PROJECT

from .conftest import Warp
from .sites import Answer, Kind, Site, both_middlewares
from .upstream import Upstream

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "modes.md"
RULES = [
    Rule("/public", "public"),
    Rule("/maybe", "optional"),
    Rule("/never", check=lambda user: False),
    Rule("/broken", check=lambda user: bool(1 / 0)),
    Rule("/jane", check=lambda user: user.display_name == "Jane"),
    Rule("/guests", allow_anonymous=True),
    Rule("/restricted", allow_restricted=True),
    Rule("/posts", "public", methods=["GET"]),
]
ORIGIN = "https://app.example"


Headers = Callable[[Upstream], dict[str, str]]
"""Returns the headers of a client, after it has set up the account."""


class Request(NamedTuple):
    """A request, and the status and error code of its response."""

    headers: Headers
    status: int
    code: str | None
    path: str = "/"
    method: str = "GET"


def bearing(user_type: str = "normal", **claims: Any) -> Headers:
    """Send a token of a user with an account, with `claims` overridden."""

    def headers(up: Upstream) -> dict[str, str]:
        if user_type == "anonymous":
            user = up.local.users.create(is_anonymous=True)
        else:
            user = up.local.users.create(display_name="Jane", restricted_by_admin=user_type == "restricted")
        return {"x-stack-access-token": up.token(user, user_type=user_type, **claims)}

    return headers


def sending(**headers: str) -> Headers:
    return lambda up: {name.replace("_", "-"): value for name, value in headers.items()}


def carried(wrap: Callable[[str], dict[str, str]]) -> Headers:
    return lambda up: wrap(bearing()(up)["x-stack-access-token"])


def wrapped(token: str) -> str:
    return json.dumps({"accessToken": token, "refreshToken": "r"})


def cut(up: Upstream) -> dict[str, str]:
    return {"x-stack-access-token": bearing()(up)["x-stack-access-token"][:-1]}


def signed_out(up: Upstream) -> dict[str, str]:
    signed_in = up.local.sign_in(up.local.users.create(display_name="Jane"))
    up.local.sign_out(signed_in)
    return {"x-stack-access-token": signed_in.access_token}


def verified_since(up: Upstream) -> dict[str, str]:
    user = up.local.users.create(must_verify_email=True)
    token = up.token(user)
    up.local.users.verify(user.id)
    return {"x-stack-access-token": token}


def upgraded_since(up: Upstream) -> dict[str, str]:
    user = up.local.users.create(is_anonymous=True)
    token = up.token(user)
    up.local.users.update(user.id, is_anonymous=False, display_name="Jane")
    return {"x-stack-access-token": token}


PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "GET"}
AGREE: dict[str, Request] = {
    "no token": Request(sending(), 401, "missing_token"),
    "an empty header": Request(sending(x_stack_access_token=""), 401, "missing_token"),
    "nulls": Request(sending(x_stack_auth='{"accessToken": null, "refreshToken": null}'), 401, "missing_token"),
    "an API key of the app": Request(sending(authorization="Bearer sk_123"), 401, "missing_token"),
    "undefined": Request(sending(x_stack_access_token="undefined"), 401, "invalid_token"),
    "garbage": Request(sending(x_stack_access_token="a.b.c"), 401, "invalid_token"),
    "a signature that was cut": Request(cut, 401, "invalid_token"),
    "a foreign key": Request(bearing(key="foreign"), 401, "invalid_token"),
    "a key of another user type": Request(bearing(key="anonymous"), 401, "invalid_token"),
    "another project": Request(bearing(project_id=OTHER_PROJECT), 401, "invalid_token"),
    "another issuer": Request(bearing(issuer_url="https://evil.example"), 401, "invalid_token"),
    "another branch": Request(bearing(branch_id="dev"), 401, "invalid_token"),
    "flags that contradict the audience": Request(bearing(is_restricted=True), 401, "invalid_token"),
    "expired": Request(bearing(expires_in=-60), 401, "expired_token"),
    "not valid yet": Request(bearing(nbf=9_999_999_999), 401, "invalid_token"),
    "one token source twice": Request(
        lambda up: {"x-stack-access-token": "a.b.c", "x-hexclave-access-token": "a.b.c"}, 400, "invalid_request"
    ),
    "broken JSON": Request(sending(x_stack_auth="{"), 400, "invalid_request"),
    "an anonymous user": Request(bearing("anonymous"), 401, "anonymous_not_allowed"),
    "a restricted user": Request(bearing("restricted"), 403, "restricted_not_allowed"),
    "an anonymous user where guests may": Request(bearing("anonymous"), 200, None, "/guests"),
    "a restricted user where guests may": Request(bearing("restricted"), 200, None, "/guests"),
    "a restricted user where those may": Request(bearing("restricted"), 200, None, "/restricted"),
    "an anonymous user where those may": Request(bearing("anonymous"), 401, "anonymous_not_allowed", "/restricted"),
    "a user": Request(bearing(), 200, None),
    "by x-stack-auth": Request(carried(lambda token: {"x-stack-auth": wrapped(token)}), 200, None),
    "by a bearer token": Request(carried(lambda token: {"authorization": f"Bearer {token}"}), 200, None),
    "by a bearer token of the SDK": Request(
        carried(
            lambda token: {"authorization": f"Bearer stackauth_{base64.b64encode(wrapped(token).encode()).decode()}"}
        ),
        200,
        None,
    ),
    "a user, by POST": Request(bearing(), 200, None, method="POST"),
    "no token, by HEAD": Request(sending(), 401, "missing_token", method="HEAD"),
    "no token, from an origin that may read it": Request(sending(origin=ORIGIN), 401, "missing_token"),
    "no token, from another origin": Request(sending(origin="https://evil.example"), 401, "missing_token"),
    "a preflight": Request(sending(**PREFLIGHT), 204, None, method="OPTIONS"),
    "no token where it is public": Request(sending(), 200, None, "/public"),
    "a bad token where it is public": Request(bearing(key="foreign"), 200, None, "/public"),
    "no token where it is optional": Request(sending(), 200, None, "/maybe"),
    "a user where it is optional": Request(bearing(), 200, None, "/maybe"),
    "a bad token where it is optional": Request(bearing(key="foreign"), 401, "invalid_token", "/maybe"),
    "a check that says no": Request(bearing(), 403, "forbidden", "/never"),
    "a check that raises": Request(bearing(), 403, "forbidden", "/broken"),
    "a check that says yes": Request(bearing(), 200, None, "/jane"),
    "a method that is public": Request(sending(), 200, None, "/posts"),
    "a method that is not": Request(sending(), 401, "missing_token", "/posts", "DELETE"),
    "a doubtful path": Request(sending(), 401, "missing_token", "//public"),
    "a user who signed out": Request(signed_out, 200, None),
    "a user who verified the address since": Request(verified_since, 403, "restricted_not_allowed"),
    "an anonymous user who signed up since": Request(upgraded_since, 401, "anonymous_not_allowed"),
}
"""Requests by name, whose response is the same in all modes."""

SETTINGS: dict[str, dict[str, Any]] = {
    "jwt": {"mode": "jwt", "secret_server_key": ""},
    "hybrid": {"mode": "jwt"},
    "rest": {"mode": "rest"},
    "rest by the publishable key": {"mode": "rest", "publishable_client_key": "pck_" + "p" * 45},
}


def make(up: Upstream, mode: str, **more: Any) -> StackAuthConfig:
    return up.config(rules=RULES, cors_origins=[ORIGIN], **SETTINGS[mode], **more)


def without_profile(answer: Answer) -> tuple[int, dict[str, str], Any]:
    """Return the response without the profile, in which the modes differ on purpose."""
    if answer.status != 200:
        return answer.status, answer.headers, answer.body
    body = answer.json
    if body["user"]:
        body["user"].pop("profile")
    return answer.status, answer.headers, body


@both_middlewares
@pytest.mark.parametrize("name", AGREE)
def test_modes_agree(name: str, kind: Kind, up: Upstream) -> None:
    """They agree on status, headers and body of a refusal, and on the user."""
    request = AGREE[name]
    headers = {key.replace("-", "_"): value for key, value in request.headers(up).items()}
    answers = {}
    for mode in SETTINGS:
        with Site(kind, make(up, mode)) as site:
            answers[mode] = site.ask(None, request.path, request.method, **headers)
    assert {answer.status for answer in answers.values()} == {request.status}
    if request.method in ("HEAD", "OPTIONS"):
        assert not answers["jwt"].body
    else:
        assert {answer.code for answer in answers.values()} == {request.code}
    told = [without_profile(answer) for answer in answers.values()]
    assert told[1:] == told[:1] * 3


@both_middlewares
@pytest.mark.parametrize("error_body", ["problem", {401: {"no": "way"}}, lambda code, info: [code.value, info.path]])
def test_modes_agree_on_custom_bodies(error_body: Any, kind: Kind, up: Upstream) -> None:
    sent = [{}, bearing(key="foreign")(up), bearing("restricted")(up), {"x-stack-auth": "{"}]
    told = []
    for mode in SETTINGS:
        with Site(kind, make(up, mode, error_body=error_body)) as site:
            told.append([site.ask(**{k.replace("-", "_"): v for k, v in each.items()}) for each in sent])
    assert told[1:] == told[:1] * 3


@both_middlewares
@pytest.mark.parametrize(("status", "code"), [(503, "auth_server_error"), (500, "auth_misconfigured")])
def test_modes_agree_without_keys(status: int, code: str, kind: Kind, up: Upstream) -> None:
    token = up.token()
    if status == 500:
        up.local.remove_project(PROJECT)
    else:
        up.server.answer = lambda exchange: exchange.reply(b"", 500)
    told = []
    for mode in SETTINGS:
        with Site(kind, make(up, mode)) as site:
            told.append(site.ask(token))
    assert (told[0].status, told[0].code) == (status, code)
    assert told[1:] == told[:1] * 3


# -- where they differ --------------------------------------------------------------------------------


class Difference(NamedTuple):
    """A situation in which the modes differ. `happens` returns the token.

    Attributes:
        jwt: what ``jwt`` says: a status and a code, or the text of docs/howto/modes.md for an accepted user.
        rest: likewise, ``rest`` and a rule with ``profile=True``.
    """

    happens: Callable[[Upstream, Warp], str]
    jwt: str
    rest: str


def deleted(up: Upstream, warp: Warp) -> str:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.delete(user.id)
    return token


def restricted(up: Upstream, warp: Warp) -> str:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.restrict(user.id)
    return token


def renamed(up: Upstream, warp: Warp) -> str:
    old = team("old")
    user = up.local.users.create(display_name="Old", primary_email="old@example.com", selected_team=old)
    token = up.token(user)
    new = team("new")
    up.local.users.update(user.id, display_name="New", primary_email="new@example.com", selected_team=new)
    return token


def just_expired(up: Upstream, warp: Warp) -> str:
    token = up.token(up.local.users.create(), expires_in=10)
    warp.pass_by(12)
    up.ahead = 12
    return token


def broken(up: Upstream, warp: Warp) -> str:
    up.me = lambda exchange: exchange.reply(b"", 500)
    return up.token()


def throttled(up: Upstream, warp: Warp) -> str:
    up.me = lambda exchange: exchange.reply(b"", 429, Retry_After="20")
    return up.token()


def key_refused(up: Upstream, warp: Warp) -> str:
    up.local.add_project(PROJECT, secret_server_key="ssk_another")
    return up.token()


LET_IN = "let in"
DIFFER: dict[str, Difference] = {
    "The account was deleted": Difference(deleted, LET_IN, "401 `invalid_token`"),
    "The user was restricted": Difference(restricted, LET_IN, "403 `restricted_not_allowed`"),
    "Name, address or team changed": Difference(renamed, "the old ones", "the new ones"),
    "The token expired less than `leeway` ago": Difference(just_expired, LET_IN, "401 `expired_token`"),
    "users/me is down": Difference(broken, LET_IN, "503 `auth_server_error`"),
    "users/me is throttled": Difference(throttled, LET_IN, "503 `auth_server_error`"),
    "Stack Auth refuses our key": Difference(key_refused, LET_IN, "500 `auth_misconfigured`"),
}
"""Events after the token was issued, with the responses of the modes. docs/howto/modes.md has the same table."""
WITH_PROFILE: dict[str, dict[str, Any]] = {
    "rest": {"mode": "rest"},
    "rule": {"mode": "jwt", "rules": [Rule("/", profile=True)]},
}


def check(answer: Answer, says: str) -> None:
    if says == LET_IN:
        assert answer.status == 200
    elif "`" in says:
        status, code = re.fullmatch(r"(\d+) `(\w+)`", says).groups()
        assert (answer.status, answer.code) == (int(status), code)
    else:
        told = tuple(answer.user[name] for name in ("display_name", "email", "selected_team_id"))
        old, new = ("Old", "old@example.com", "old"), ("New", "new@example.com", "new")
        assert told == {"the old ones": old, "the new ones": new}[says]


@both_middlewares
@pytest.mark.parametrize("way", WITH_PROFILE)
@pytest.mark.parametrize("name", DIFFER)
def test_modes_differ(name: str, way: str, kind: Kind, up: Upstream, warp: Warp) -> None:
    difference = DIFFER[name]
    token = difference.happens(up, warp)
    with Site(kind, up.config(mode="jwt")) as site:
        answer = site.ask(token)
        check(answer, difference.jwt)
        assert answer.user["profile"] is None
        assert up.calls == []
    with Site(kind, up.config(**WITH_PROFILE[way])) as site:
        check(site.ask(token), difference.rest)
    assert len(up.calls) == 1


@both_middlewares
def test_user_in_rest_mode_has_a_profile(kind: Kind, up: Upstream) -> None:
    for way in WITH_PROFILE.values():
        with Site(kind, up.config(**way)) as site:
            assert site.ask(up.token()).user["profile"]["id"]


def test_docs_list_all_differences() -> None:
    lines = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    shown = [line for line in lines if line[0] in DIFFER or line[2] in {each.rest for each in DIFFER.values()}]
    assert shown == [(name, each.jwt, each.rest) for name, each in DIFFER.items()]
