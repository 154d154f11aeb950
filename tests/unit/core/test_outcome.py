"""What the gate hands to a door: it lies in scopes and environs that others write out."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping, Sequence

import pytest

from stackauth_middleware._adapters import ERROR, OUTCOME, USER
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import Authenticated, Unauthenticated
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.rules import Policy
from stackauth_middleware._core.users import user_from_claims
from stackauth_middleware._handler_api import get_user, load_profile, outcome_of, require_user
from stackauth_middleware.errors import AuthServerError, ErrorCode

from .helpers import NORMAL, PROJECT, claims

CANARY = "eyJ-canary"
POLICY = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)


CONFIG = StackAuthConfig(project_id=PROJECT)
INBOUND = RequestRecord("GET", "/", "", {"x-stack-access-token": CANARY})
SOMEBODY = user_from_claims(claims(NORMAL), NORMAL, b"{}")


def authenticated() -> Authenticated:
    return Authenticated(SOMEBODY, CONFIG, CANARY, POLICY, True, None, INBOUND)


def test_nothing_that_writes_out_a_scope_writes_the_token() -> None:
    """Debug pages and error reporters walk an environ: by repr, by mapping, by fields, by `__dict__`."""
    made = authenticated()
    assert CANARY not in repr(made)
    assert CANARY not in f"{made}"
    assert not isinstance(made, Mapping | Sequence)
    assert not dataclasses.is_dataclass(made)
    assert not hasattr(made, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(made)
    assert CANARY not in json.dumps(made, default=str)


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copied_environ_keeps_the_token_and_shows_no_more(copying: Callable[[Authenticated], Authenticated]) -> None:
    """Test clients and background tasks copy environs."""
    copied = copying(authenticated())
    assert copied.token == CANARY
    assert CANARY not in repr(copied)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_the_user_and_no_token(protocol: int) -> None:
    """An environ that could be pickled still can; a session or a queue that takes it must not store a live token."""
    pickled = pickle.dumps({USER: SOMEBODY, ERROR: None, OUTCOME: authenticated()}, protocol)
    assert CANARY.encode() not in pickled
    environ = pickle.loads(pickled)
    assert get_user(environ) == environ[OUTCOME].user == SOMEBODY
    assert outcome_of(environ) is None
    with pytest.raises(RuntimeError, match="pickled"):
        load_profile(environ)


def test_a_pickle_of_an_unauthenticated_request_holds_no_header() -> None:
    """A token that could not be judged is in the headers of the request record."""
    outcome = Unauthenticated(CONFIG, INBOUND, ErrorCode.SERVER_ERROR, 7)
    pickled = pickle.dumps({USER: None, ERROR: outcome.error, OUTCOME: outcome})
    assert CANARY.encode() not in pickled
    with pytest.raises(AuthServerError) as raised:
        require_user(pickle.loads(pickled))
    assert raised.value.retry_after == 7
    assert copy.copy(outcome) is copy.deepcopy(outcome) is outcome


def test_it_holds_what_a_profile_is_asked_for_with() -> None:
    made = authenticated()
    assert (made.token, made.policy, made.in_event_loop) == (CANARY, POLICY, True)
    assert (made.user, made.error, made.refresh) == (SOMEBODY, None, None)
    assert (made.config, made.request, made.retry_after) == (CONFIG, INBOUND, None)


@pytest.mark.parametrize(
    ("error", "retry_after"), [(None, None), (ErrorCode.SERVER_ERROR, 7), (ErrorCode.MISCONFIGURED, None)]
)
def test_unauthenticated_leads_back_to_its_settings_and_tells_the_reason(
    error: ErrorCode | None, retry_after: int | None
) -> None:
    made = Unauthenticated(CONFIG, INBOUND, error, retry_after)
    assert (made.user, made.refresh, made.error, made.retry_after) == (None, None, error, retry_after)
    assert (made.config, made.request) == (CONFIG, INBOUND)
    assert not hasattr(made, "__dict__")
    assert CANARY not in repr(made)
