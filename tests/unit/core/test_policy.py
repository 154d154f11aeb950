"""Policies: the stricter of two, and the users that one accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackauth_middleware._core.policy import Access, Policy, enforce
from stackauth_middleware._core.users import User
from stackauth_middleware.errors import ErrorCode, RefusedError

from .helpers import ANONYMOUS, NORMAL, RESTRICTED, as_id, bounded
from .test_users import user

STRICTNESS: dict[Access, int] = {"public": 0, "optional": 1, "required": 2}


def always(_: User) -> bool:
    return True


# -- the stricter of two ------------------------------------------------------------------------------


def test_stricter_policy_demands_what_both_demand() -> None:
    loose = Policy("public", False, True, True, (always,))
    other: Callable[[User], bool] = bool
    strict = Policy("optional", True, False, True, (other, always))
    both = Policy("optional", True, False, True, (always, other))
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
)


def is_at_least(policy: Policy, other: Policy) -> bool:
    """Return whether every request that meets `policy` meets `other` too."""
    return (
        STRICTNESS[policy.access] >= STRICTNESS[other.access]
        and policy.profile >= other.profile
        and policy.allow_restricted <= other.allow_restricted
        and policy.allow_anonymous <= other.allow_anonymous
        and set(other.checks) <= set(policy.checks)
    )


@bounded
@given(POLICIES, POLICIES)
def test_stricter_of_two_is_at_least_as_strict_as_either(one: Policy, other: Policy) -> None:
    both = one.stricter(other)
    assert is_at_least(both, one)
    assert is_at_least(both, other)
    assert is_at_least(one, both) or is_at_least(other, both) or both not in (one, other)


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
