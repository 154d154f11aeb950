"""Decisions by token and profile together: the stricter one wins, in ``rest`` mode and with rules."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest

from stackauth_middleware import AuthServerError, RefusedError, Rule, User, UserType, Verifier

from .conftest import Attempts, Warp
from .sites import Kind, Site, both_middlewares, every_runner
from .upstream import Upstream

NORMAL, RESTRICTED, ANONYMOUS = UserType
STRICTNESS = [NORMAL, RESTRICTED, ANONYMOUS]
Allowed = Literal["no other", "restricted", "anonymous"]
SETTINGS: dict[Allowed, dict[str, Any]] = {
    "no other": {},
    "restricted": {"allow_restricted": True},
    "anonymous": {"allow_anonymous": True},
}
REFUSALS = {RESTRICTED: (403, "restricted_not_allowed"), ANONYMOUS: (401, "anonymous_not_allowed")}
LETS_IN: dict[Allowed, set[UserType]] = {
    "no other": {NORMAL},
    "restricted": {NORMAL, RESTRICTED},
    "anonymous": {NORMAL, RESTRICTED, ANONYMOUS},
}
ACCOUNTS: dict[UserType, dict[str, Any]] = {
    NORMAL: {},
    RESTRICTED: {"restricted_by_admin": True},
    ANONYMOUS: {"is_anonymous": True},
}
WAYS: dict[str, dict[str, Any]] = {
    "rest": {"mode": "rest"},
    "rule": {"mode": "jwt", "rules": [Rule("/**", profile=True)]},
}


@both_middlewares
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("allowed", SETTINGS)
@pytest.mark.parametrize(("told", "true"), list(itertools.product(UserType, UserType)))
def test_stricter_of_token_and_profile_wins(
    told: UserType, true: UserType, allowed: Allowed, way: str, kind: Kind, up: Upstream
) -> None:
    user = up.local.users.create(**ACCOUNTS[true])
    token = up.token(user, user_type=told)
    holds = max(told, true, key=STRICTNESS.index)
    with Site(kind, up.config(**WAYS[way], **SETTINGS[allowed])) as site:
        answer = site.ask(token)
    assert len(up.calls) == (told in LETS_IN[allowed])
    if holds in LETS_IN[allowed]:
        seen = answer.user
        assert seen["user_type"] == holds.value
        assert seen["is_anonymous"] == (holds is ANONYMOUS)
        assert seen["is_restricted"] == (holds is not NORMAL)
        assert (seen["restricted_reason"] is None) == (holds is NORMAL)
    else:
        blamed = told if told not in LETS_IN[allowed] else holds
        assert (answer.status, answer.code) == REFUSALS[blamed]


@both_middlewares
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"allow_restricted": True}, None),
        ({"allow_anonymous": True}, None),
        ({"allow_restricted": False}, "restricted_not_allowed"),
        ({}, "restricted_not_allowed"),
    ],
)
def test_flags_of_a_rule_apply_to_the_profile(
    flags: dict[str, Any], code: str | None, way: str, kind: Kind, up: Upstream
) -> None:
    """Also for a profile that the handler loads."""
    user = up.local.users.create(restricted_by_admin=True)
    token = up.token(user, user_type="normal")
    settings = {**WAYS[way], "rules": [Rule("/**", profile=way != "rest", **flags)]}
    with Site(kind, up.config(**settings)) as site:
        assert site.ask(token).json.get("code") == code
    with Site(kind, up.config(mode="jwt", rules=[Rule("/**", **flags)])) as site:
        assert site.ask(token, "/load").json.get("failed") == code


@both_middlewares
def test_a_check_sees_the_user_with_the_profile(kind: Kind, up: Upstream) -> None:
    """A check that needs metadata is called only with the profile."""
    seen: list[User] = []

    def is_member(user: User) -> bool:
        seen.append(user)
        return user.profile is not None and user.profile.server_metadata == {"plan": "pro"}

    pro = up.token(up.local.users.create(server_metadata={"plan": "pro"}))
    free = up.token(up.local.users.create())
    gone = up.local.users.create(restricted_by_admin=True)
    with Site(kind, up.config(mode="jwt", rules=[Rule("/**", profile=True, check=is_member)])) as site:
        assert site.ask(pro).user["profile"]["server_metadata"] == {"plan": "pro"}
        assert (site.ask(free).status, site.ask(free).code) == (403, "forbidden")
        assert site.ask(up.token(gone, user_type="normal")).code == "restricted_not_allowed"
    assert all(user.profile for user in seen)
    assert len(seen) == 3


@both_middlewares
@pytest.mark.parametrize("way", WAYS)
def test_deleted_user_is_refused(way: str, kind: Kind, up: Upstream, attempts: Attempts) -> None:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.delete(user.id)
    with Site(kind, up.config(**WAYS[way])) as site:
        for _ in range(5):
            assert (site.ask(token).status, site.ask(token).code) == (401, "invalid_token")
        assert attempts.since() == 1
    with Site(kind, up.config(mode="jwt")) as site:
        assert site.ask(token).status == 200
        assert site.ask(token, "/load").json["failed"] == "invalid_token"


@both_middlewares
def test_user_restricted_after_token_issue_is_refused(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.restrict(user.id)
    with Site(kind, up.config()) as site:
        answer = site.ask(token)
        assert (answer.status, answer.code) == (403, "restricted_not_allowed")
        assert answer.json["restricted_reason"] == "restricted_by_administrator"
    with Site(kind, up.config(mode="jwt")) as site:
        assert site.ask(token).user["is_restricted"] is False


@both_middlewares
def test_user_who_verified_after_token_issue_needs_a_new_token(kind: Kind, up: Upstream, warp: Warp) -> None:
    """The old token is still that of a restricted user; the next token is not."""
    user = up.local.users.create(must_verify_email=True)
    token = up.token(user)
    up.local.users.verify(user.id)
    with Site(kind, up.config()) as site:
        answer = site.ask(token)
        assert (answer.code, answer.json["restricted_reason"]) == ("restricted_not_allowed", "email_not_verified")
        assert up.calls == []
        assert site.ask(up.token(user.id)).user["email_verified"] is True
    with Site(kind, up.config(allow_restricted=True)) as site:
        seen = site.ask(token).user
        assert (seen["is_restricted"], seen["restricted_reason"]) == (True, "email_not_verified")
        assert seen["email_verified"] is seen["profile"]["primary_email_verified"] is True
        assert seen["profile"]["is_restricted"] is False


@every_runner
def test_user_fields_come_from_the_profile(kind: Kind, up: Upstream) -> None:
    user = up.local.users.create(primary_email="new@example.com", display_name="New", primary_email_verified=True)
    token = up.token(user, email="old@example.com", name="Old", email_verified=False)
    with Site(kind, up.config(mode="jwt", rules=[Rule("/whole", profile=True)])) as site:
        fast, whole = site.ask(token).user, site.ask(token, "/whole").user
    assert (fast["email"], fast["display_name"], fast["email_verified"]) == ("old@example.com", "Old", False)
    assert (whole["email"], whole["display_name"], whole["email_verified"]) == ("new@example.com", "New", True)
    assert fast["profile"] is None
    assert whole["profile"]["primary_email"] == "new@example.com"


# -- for how long -------------------------------------------------------------------------------------


@both_middlewares
def test_profile_is_not_cached_past_the_expiry_of_the_token(kind: Kind, up: Upstream, warp: Warp) -> None:
    """Within the leeway Stack Auth is called, and refuses by its own clock."""
    user = up.local.users.create()
    short, long = up.token(user, expires_in=8), up.token(user, expires_in=600)
    with Site(kind, up.config(profile_ttl=600, leeway=5)) as site:
        assert site.ask(short).status == site.ask(long).status == 200
        assert len(up.calls) == 1
        warp.pass_by(9)
        up.ahead = warp.seconds
        assert site.ask(short).code == "expired_token"
        assert site.ask(long).status == 200
        assert len(up.calls) == 3
        warp.pass_by(5)
        assert site.ask(short).code == "expired_token"
        assert len(up.calls) == 3


# -- without a middleware -----------------------------------------------------------------------------------


def test_verifier_in_rest_mode_calls_like_the_middleware(up: Upstream) -> None:
    user = up.local.users.create(display_name="Jane")
    token = up.token(user)
    with Verifier(up.config()) as verifier:
        seen = verifier.verify(token)
        assert seen.profile is not None
        assert seen.display_name == seen.profile.display_name == "Jane"
        assert verifier.authenticate({"x-stack-access-token": token}) == seen
        assert verifier.authenticate({}) is None
        assert verifier.profile(token) == seen.profile
        assert len(up.calls) == 1
        up.local.users.delete(user.id)
        with pytest.raises(RefusedError) as refused:
            verifier.profile(token, fresh=True)
        assert refused.value.code.value == "invalid_token"
        up.me = lambda exchange: exchange.reply(b"", 500)
        with pytest.raises(AuthServerError) as failed:
            verifier.verify(up.token(up.local.users.create()))
        assert (failed.value.code.value, failed.value.retry_after) == ("auth_server_error", 1)
