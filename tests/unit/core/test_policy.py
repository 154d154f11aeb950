"""Policies: the stricter of two, and the users that one accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.policy import PERMISSION_ID, Access, KeyType, Permission, Policy, enforce, uuid_of
from stackauth_middleware._core.users import User
from stackauth_middleware.errors import ErrorCode, RefusedError

from .helpers import ANONYMOUS, NORMAL, RESTRICTED, as_id, bounded
from .test_users import user

STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}


TEAM = "1af0611d-13cf-4386-949c-541de130e3f0"
PERMISSIONS = [
    *(Permission("read", TEAM), Permission("write", TEAM), Permission("admin"), Permission("read", segment=1)),
]
BOTH: frozenset[KeyType] = frozenset({"user", "team"})


def always(_: User) -> bool:
    return True


# -- the stricter of two ------------------------------------------------------------------------------


def test_stricter_policy_demands_what_both_demand() -> None:
    read, write, admin = PERMISSIONS[:3]
    loose = Policy("public", False, True, True, (always,), (read, admin), BOTH)
    other: Callable[[User], bool] = bool
    strict = Policy("optional", True, False, True, (other, always), (admin, write), frozenset({"user"}))
    both = Policy("optional", True, False, True, (always, other), (read, admin, write), frozenset({"user"}))
    assert loose.stricter(strict) == both
    assert loose.stricter(loose) == loose
    assert strict.stricter(loose).checks == (other, always)


POLICIES = st.builds(
    Policy,
    st.sampled_from(list(STRICTNESS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from([always, bool, callable]), unique=True, max_size=3).map(tuple),
    st.lists(st.sampled_from(PERMISSIONS), unique=True, max_size=3).map(tuple),
    st.frozensets(st.sampled_from(["user", "team"])),
)


def is_at_least(policy: Policy, other: Policy) -> bool:
    """Return whether every request that meets `policy` meets `other` too."""
    return (
        STRICTNESS[policy.access] >= STRICTNESS[other.access]
        and policy.profile >= other.profile
        and policy.allow_restricted <= other.allow_restricted
        and policy.allow_anonymous <= other.allow_anonymous
        and set(other.checks) <= set(policy.checks)
        and (nobody_holds(policy) or set(other.permissions) <= set(policy.permissions))
        and policy.api_keys <= other.api_keys
    )


def nobody_holds(policy: Policy) -> bool:
    return any(each.segment is not None for each in policy.permissions)


@bounded
@given(POLICIES, POLICIES)
def test_stricter_of_two_is_at_least_as_strict_as_either(one: Policy, other: Policy) -> None:
    both = one.stricter(other)
    assert is_at_least(both, one)
    assert is_at_least(both, other)
    assert is_at_least(one, both) or is_at_least(other, both) or both not in (one, other)


# -- permissions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "team"),
    [
        (f"/teams/{TEAM}", TEAM),
        (f"/teams/{TEAM.upper()}/x", TEAM),
        (f"/teams/{TEAM}x", None),
        (f"/teams/{{{TEAM}}}", None),
        (f"/teams/{TEAM.replace('-', '')}", None),
        (f"/teams/{TEAM[:-2]}\ufb00", None),
        (f"/teams/{TEAM}\n", None),
        ("/teams/", None),
        ("/teams", None),
        ("/", None),
    ],
)
def test_team_is_read_from_its_segment_and_must_be_a_uuid(path: str, team: str | None) -> None:
    """A ligature becomes ``ff`` in the folded form of a path, and handlers get it as it is."""
    policy = Policy("required", False, False, False, (), (Permission("admin"), Permission("read", segment=1)))
    found = Permission("read", team) if team else Permission("read", segment=1)
    assert policy.in_path(path) == policy._replace(permissions=(Permission("admin"), found))


def test_permission_in_a_team_that_the_path_does_not_name_refuses_everybody() -> None:
    policy = Policy("required", False, False, False, (always,), (Permission("admin"), Permission("read", segment=1)))
    with pytest.raises(RefusedError) as caught:
        enforce(user(), policy)
    assert (caught.value.code, caught.value.detail) == (
        ErrorCode.FORBIDDEN,
        "a permission in a team, and the path does not name one",
    )
    enforce(user(), policy.in_path(f"/teams/{TEAM}"))
    without = policy._replace(permissions=())
    assert without.in_path(f"/teams/{TEAM}") is without


@pytest.mark.parametrize("value", [TEAM, TEAM.upper(), UUID(TEAM)])
def test_uuid_is_text_in_lower_case(value: object) -> None:
    assert uuid_of(value) == TEAM


@pytest.mark.parametrize("value", ["", "me", f"{TEAM}\n", f" {TEAM}", "\uff11" + TEAM[1:], None, 5, TEAM.encode()])
def test_anything_else_is_no_uuid(value: object) -> None:
    assert uuid_of(value) is None


@pytest.mark.parametrize("value", ["read", "$read_members", "a:b", "_", "0", "$0:_a"])
def test_id_of_a_permission(value: str) -> None:
    assert PERMISSION_ID.fullmatch(value)


@pytest.mark.parametrize("value", ["", "$", "Read", "a b", "a$", "$$a", "a-b", "a\n", "\xe9", "read&user_id=x"])
def test_text_that_is_no_id_of_a_permission(value: str) -> None:
    assert not PERMISSION_ID.fullmatch(value)


# -- enforcing a policy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "restricted", "anonymous", "code"),
    [
        (NORMAL, False, False, None),
        (NORMAL, True, True, None),
        (RESTRICTED, False, False, ErrorCode.RESTRICTED_NOT_ALLOWED),
        (RESTRICTED, True, False, None),
        (RESTRICTED, False, True, None),
        (ANONYMOUS, False, False, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        (ANONYMOUS, True, False, ErrorCode.ANONYMOUS_NOT_ALLOWED),
        (ANONYMOUS, False, True, None),
        (ANONYMOUS, True, True, None),
    ],
    ids=str,
)
def test_user_types_that_a_policy_accepts(kind: Any, restricted: bool, anonymous: bool, code: ErrorCode | None) -> None:
    """Accepting anonymous users includes restricted ones, and not the other way round."""
    policy = Policy("required", False, restricted, anonymous)
    if code is None:
        enforce(user(kind), policy)
        return
    with pytest.raises(RefusedError) as caught:
        enforce(user(kind), policy)
    assert caught.value.code is code
    expected = {
        ErrorCode.ANONYMOUS_NOT_ALLOWED: ("an anonymous user", None),
        ErrorCode.RESTRICTED_NOT_ALLOWED: ("a restricted user", "email_not_verified"),
    }
    assert (caught.value.detail, caught.value.restricted_reason) == expected[code]


@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes", [], object()], ids=as_id)
def test_check_accepts_by_true_only(answer: Any) -> None:
    """A check without a return, or one that returns a match object, must not accept every user."""
    with pytest.raises(RefusedError) as caught:
        enforce(user(), Policy("required", False, False, False, (lambda _: answer,)))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.detail == "the check of a rule did not return True"


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(), RefusedError(ErrorCode.INVALID_TOKEN)], ids=repr)
def test_check_that_raises_refuses(error: Exception) -> None:
    def check(_: User) -> bool:
        raise error

    with pytest.raises(RefusedError) as caught:
        enforce(user(), Policy("required", False, False, False, (check,)))
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.detail == "the check of a rule raised"
    assert caught.value.__cause__ is error


def test_checks_are_called_with_the_user_until_one_refuses() -> None:
    called: list[tuple[str, User]] = []

    def ask(name: str, answer: bool) -> Callable[[User], bool]:
        def check(who: User) -> bool:
            called.append((name, who))
            return answer

        return check

    who = user()
    with pytest.raises(RefusedError):
        enforce(who, Policy("required", False, False, False, (ask("a", True), ask("b", False), ask("c", True))))
    assert called == [("a", who), ("b", who)]


def test_no_check_is_called_for_a_refused_user_type() -> None:
    def check(_: User) -> bool:
        raise AssertionError

    with pytest.raises(RefusedError) as caught:
        enforce(user(RESTRICTED), Policy("required", False, False, False, (check,)))
    assert caught.value.code is ErrorCode.RESTRICTED_NOT_ALLOWED
