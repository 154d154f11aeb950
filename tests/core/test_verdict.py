"""What the gate hands to a door: it lies in scopes and environs that others write out."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping, Sequence

import pytest

from stackauth_middleware._config import StackAuthConfig
from stackauth_middleware._rules import Policy
from stackauth_middleware._user import user_from_claims
from stackauth_middleware._verdict import Admitted, Unauthenticated
from stackauth_middleware._wire import Inbound
from stackauth_middleware.errors import ErrorCode

from .helpers import NORMAL, PROJECT, claims

CANARY = "eyJ-canary"
POLICY = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)


CONFIG = StackAuthConfig(project_id=PROJECT)
INBOUND = Inbound("GET", "/", "", {"x-stack-access-token": CANARY})
SOMEBODY = user_from_claims(claims(NORMAL), NORMAL, b"{}")


def admitted() -> Admitted:
    return Admitted(SOMEBODY, CONFIG, CANARY, POLICY, True, None, INBOUND)


def test_nothing_that_writes_out_a_scope_writes_the_token() -> None:
    """Debug pages and error reporters walk an environ: by repr, by mapping, by fields, by `__dict__`."""
    made = admitted()
    assert CANARY not in repr(made)
    assert CANARY not in f"{made}"
    assert not isinstance(made, Mapping | Sequence)
    assert not dataclasses.is_dataclass(made)
    assert not hasattr(made, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(made)
    assert CANARY not in json.dumps(made, default=str)


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copied_environ_keeps_the_token_and_shows_no_more(copying: Callable[[Admitted], Admitted]) -> None:
    """Test clients and background tasks copy environs."""
    copied = copying(admitted())
    assert copied.token == CANARY
    assert CANARY not in repr(copied)


def test_it_cannot_be_pickled() -> None:
    """A session or a queue that swallows an environ must not store a live token."""
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(admitted())


def test_it_holds_what_a_profile_is_asked_for_with() -> None:
    made = admitted()
    assert (made.token, made.policy, made.in_threads) == (CANARY, POLICY, True)
    assert (made.user, made.error, made.refresh) == (SOMEBODY, None, None)
    assert (made.config, made.inbound, made.retry_after) == (CONFIG, INBOUND, None)


@pytest.mark.parametrize(
    ("error", "retry_after"), [(None, None), (ErrorCode.SERVER_ERROR, 7), (ErrorCode.MISCONFIGURED, None)]
)
def test_unauthenticated_leads_back_to_its_settings_and_tells_the_reason(
    error: ErrorCode | None, retry_after: int | None
) -> None:
    made = Unauthenticated(CONFIG, INBOUND, error, retry_after)
    assert (made.user, made.refresh, made.error, made.retry_after) == (None, None, error, retry_after)
    assert (made.config, made.inbound) == (CONFIG, INBOUND)
    assert not hasattr(made, "__dict__")
    assert CANARY not in repr(made)
