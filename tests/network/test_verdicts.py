"""Who is let in, by token and profile together: the stricter of the two wins, in ``rest`` mode and under a rule."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest

from stackauth_middleware import AuthServerError, RefusedError, Rule, User, UserType, Verifier

from .conftest import Attempts, Warp
from .sites import Ask, Kind, Site, both_doors, every_edge
from .upstream import USERS_ME, Upstream

NORMAL, RESTRICTED, ANONYMOUS = UserType
STRICTNESS = [NORMAL, RESTRICTED, ANONYMOUS]
Allowed = Literal["nobody else", "restricted", "anonymous"]
SETTINGS: dict[Allowed, dict[str, Any]] = {
    "nobody else": {},
    "restricted": {"allow_restricted": True},
    "anonymous": {"allow_anonymous": True},
}
ROWS = {RESTRICTED: (403, "restricted_not_allowed"), ANONYMOUS: (401, "anonymous_not_allowed")}
LETS_IN: dict[Allowed, set[UserType]] = {
    "nobody else": {NORMAL},
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


@both_doors
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("allowed", SETTINGS)
@pytest.mark.parametrize(("told", "true"), list(itertools.product(UserType, UserType)))
def test_the_stricter_of_token_and_profile(
    told: UserType, true: UserType, allowed: Allowed, way: str, door: Kind, up: Upstream
) -> None:
    user = up.local.users.create(**ACCOUNTS[true])
    token = up.token(user, user_type=told)
    holds = max(told, true, key=STRICTNESS.index)
    with Site(door, up.config(**WAYS[way], **SETTINGS[allowed])) as site:
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
        assert (answer.status, answer.row) == ROWS[blamed]


@both_doors
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flags", "row"),
    [
        ({"allow_restricted": True}, None),
        ({"allow_anonymous": True}, None),
        ({"allow_restricted": False}, "restricted_not_allowed"),
        ({}, "restricted_not_allowed"),
    ],
)
def test_a_rules_own_flags_hold_for_the_profile_too(
    flags: dict[str, Any], row: str | None, way: str, door: Kind, up: Upstream
) -> None:
    """And for a profile that the handler loads."""
    user = up.local.users.create(restricted_by_admin=True)
    token = up.token(user, user_type="normal")
    settings = {**WAYS[way], "rules": [Rule("/**", profile=way != "rest", **flags)]}
    with Site(door, up.config(**settings)) as site:
        assert site.ask(token).json.get("code") == row
    with Site(door, up.config(mode="jwt", rules=[Rule("/**", **flags)])) as site:
        assert site.ask(token, "/load").json.get("failed") == row


@both_doors
def test_a_check_sees_the_user_with_the_profile(door: Kind, up: Upstream) -> None:
    """What a handler decides by may stand in the metadata; and a check is never asked about half a user."""
    seen: list[User] = []

    def is_member(user: User) -> bool:
        seen.append(user)
        return user.profile is not None and user.profile.server_metadata == {"plan": "pro"}

    pro = up.token(up.local.users.create(server_metadata={"plan": "pro"}))
    free = up.token(up.local.users.create())
    gone = up.local.users.create(restricted_by_admin=True)
    with Site(door, up.config(mode="jwt", rules=[Rule("/**", profile=True, check=is_member)])) as site:
        assert site.ask(pro).user["profile"]["server_metadata"] == {"plan": "pro"}
        assert (site.ask(free).status, site.ask(free).row) == (403, "forbidden")
        assert site.ask(up.token(gone, user_type="normal")).row == "restricted_not_allowed"
    assert all(user.profile for user in seen)
    assert len(seen) == 3


@both_doors
@pytest.mark.parametrize("way", WAYS)
def test_somebody_deleted(way: str, door: Kind, up: Upstream, attempts: Attempts) -> None:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.delete(user.id)
    with Site(door, up.config(**WAYS[way])) as site:
        for _ in range(5):
            assert (site.ask(token).status, site.ask(token).row) == (401, "invalid_token")
        assert attempts.since() == 1
    with Site(door, up.config(mode="jwt")) as site:
        assert site.ask(token).status == 200
        assert site.ask(token, "/load").json["failed"] == "invalid_token"


@both_doors
def test_somebody_deleted_while_remembered_is_gone_within_profile_ttl(door: Kind, up: Upstream, warp: Warp) -> None:
    user = up.local.users.create()
    token = up.token(user)
    with Site(door, up.config(profile_ttl=30)) as site:
        assert site.ask(token).status == 200
        up.local.users.delete(user.id)
        warp.pass_by(29)
        assert site.ask(token).status == 200
        warp.pass_by(1)
        assert site.ask(token).row == "invalid_token"


@both_doors
def test_fresh_notices_at_once_and_for_all(door: Kind, up: Upstream) -> None:
    user = up.local.users.create()
    token = up.token(user)
    with Site(door, up.config()) as site:
        assert site.ask(token).status == 200
        up.local.users.restrict(user.id, "spam")
        assert site.ask(token).status == 200
        assert site.ask(token, "/fresh").json["failed"] == "restricted_not_allowed"
        assert site.ask(token).row == "restricted_not_allowed"
        assert site.ask(token).json["restricted_reason"] == "restricted_by_administrator"


@both_doors
def test_somebody_restricted_after_the_token_was_minted(door: Kind, up: Upstream) -> None:
    user = up.local.users.create()
    token = up.token(user)
    up.local.users.restrict(user.id)
    with Site(door, up.config()) as site:
        answer = site.ask(token)
        assert (answer.status, answer.row) == (403, "restricted_not_allowed")
        assert answer.json["restricted_reason"] == "restricted_by_administrator"
    with Site(door, up.config(mode="jwt")) as site:
        assert site.ask(token).user["is_restricted"] is False


@both_doors
def test_somebody_who_verified_the_address_after_the_token_was_minted(door: Kind, up: Upstream, warp: Warp) -> None:
    """The token is still a restricted one and is refused as such; the next token is not."""
    user = up.local.users.create(must_verify_email=True)
    token = up.token(user)
    up.local.users.verify(user.id)
    with Site(door, up.config()) as site:
        answer = site.ask(token)
        assert (answer.row, answer.json["restricted_reason"]) == ("restricted_not_allowed", "email_not_verified")
        assert up.calls == []
        assert site.ask(up.token(user.id)).user["email_verified"] is True
    with Site(door, up.config(allow_restricted=True)) as site:
        seen = site.ask(token).user
        assert (seen["is_restricted"], seen["restricted_reason"]) == (True, "email_not_verified")
        assert seen["email_verified"] is seen["profile"]["primary_email_verified"] is True
        assert seen["profile"]["is_restricted"] is False


@every_edge
def test_the_profile_is_what_the_user_is_told_by(door: Kind, up: Upstream) -> None:
    user = up.local.users.create(primary_email="new@example.com", display_name="New", primary_email_verified=True)
    token = up.token(user, email="old@example.com", name="Old", email_verified=False)
    with Site(door, up.config(mode="jwt", rules=[Rule("/whole", profile=True)])) as site:
        fast, whole = site.ask(token).user, site.ask(token, "/whole").user
    assert (fast["email"], fast["display_name"], fast["email_verified"]) == ("old@example.com", "Old", False)
    assert (whole["email"], whole["display_name"], whole["email_verified"]) == ("new@example.com", "New", True)
    assert fast["profile"] is None
    assert whole["profile"]["primary_email"] == "new@example.com"


# -- for how long -------------------------------------------------------------------------------------


@both_doors
@pytest.mark.parametrize(("settings", "calls"), [({}, 1), ({"profile_ttl": 0}, 5), ({"profile_cache_size": 0}, 5)])
def test_how_often_one_user_is_asked_for(settings: dict[str, Any], calls: int, door: Kind, up: Upstream) -> None:
    (token,) = up.tokens(1)
    with Site(door, up.config(**settings)) as site:
        for _ in range(5):
            assert site.ask(token).status == 200
    assert len(up.calls) == calls


@both_doors
def test_a_memory_for_two_profiles_holds_two(door: Kind, up: Upstream) -> None:
    one, two, three = up.tokens(3)
    with Site(door, up.config(profile_cache_size=2)) as site:
        for token in (one, two, one, two, three, two):
            site.ask(token)
        assert len(up.calls) == 3
        site.ask(one)
    assert len(up.calls) == 4


@both_doors
def test_nothing_is_remembered_past_the_end_of_the_token(door: Kind, up: Upstream, warp: Warp) -> None:
    """Stack Auth's clock is the judge of a token within the leeway: it is asked, and refuses."""
    user = up.local.users.create()
    short, long = up.token(user, expires_in=8), up.token(user, expires_in=600)
    with Site(door, up.config(profile_ttl=600, leeway=5)) as site:
        assert site.ask(short).status == site.ask(long).status == 200
        assert len(up.calls) == 1
        warp.pass_by(9)
        up.ahead = warp.seconds
        assert site.ask(short).row == "expired_token"
        assert site.ask(long).status == 200
        assert len(up.calls) == 3
        warp.pass_by(5)
        assert site.ask(short).row == "expired_token"
        assert len(up.calls) == 3


@both_doors
def test_a_refused_token_is_not_sent_again_within_a_second(
    door: Kind, up: Upstream, warp: Warp, attempts: Attempts
) -> None:
    user = up.local.users.create()
    tokens = [up.token(user, session_id=f"s{number}") for number in range(3)]
    up.local.users.delete(user.id)
    with Site(door, up.config()) as site:
        answers = site.ask_all([Ask(token) for token in tokens * 20], at_once=20)
        assert {answer.row for answer in answers} == {"invalid_token"}
        assert attempts.since() == 3
        warp.pass_by(1)
        assert site.ask(tokens[0]).row == "invalid_token"
        assert attempts.since() == 1


# -- without a door -----------------------------------------------------------------------------------


def test_a_verifier_in_rest_mode_asks_as_a_door_does(up: Upstream) -> None:
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


def test_a_verifier_in_jwt_mode_asks_only_for_the_profile(up: Upstream) -> None:
    with Verifier(up.config(mode="jwt")) as verifier:
        token = up.token()
        assert verifier.verify(token).profile is None
        assert up.calls == []
        assert verifier.profile(token).id == verifier.verify(token).user_id
        assert [each.target for each in up.calls] == [USERS_ME]
