"""Outcomes are stored in scopes and environs that other code logs, copies and pickles."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from stackauth_middleware._adapters import ERROR, OUTCOME, USER
from stackauth_middleware._core.api_keys import api_key_from_json
from stackauth_middleware._core.config import StackAuthConfig
from stackauth_middleware._core.outcome import Authenticated, KeyAuthenticated, Refused, Unauthenticated
from stackauth_middleware._core.policy import Policy
from stackauth_middleware._core.records import RequestRecord, Response
from stackauth_middleware._core.users import User, user_from_claims
from stackauth_middleware._handler_api import get_api_key, get_user, load_profile, outcome_of, require_user
from stackauth_middleware.errors import AuthServerError, ErrorCode, RefusedError

from .helpers import NORMAL, PROJECT, claims
from .test_api_keys import FORM, body

CANARY = "eyJ-canary"
POLICY = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)


CONFIG = StackAuthConfig(project_id=PROJECT)
REQUEST = RequestRecord("GET", "/", "", {"x-stack-access-token": CANARY})
JANE = user_from_claims(claims(NORMAL), NORMAL, b"{}")


def authenticated() -> Authenticated:
    return Authenticated(JANE, CONFIG, CANARY, POLICY, True, None, REQUEST)


def test_outcome_hides_the_token_from_repr_json_and_dict() -> None:
    """Debug pages and error reporters render an environ by repr, items, fields or `__dict__`."""
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
def test_copied_outcome_keeps_and_hides_the_token(copying: Callable[[Authenticated], Authenticated]) -> None:
    """Test clients and background tasks copy environs."""
    copied = copying(authenticated())
    assert copied.token == CANARY
    assert CANARY not in repr(copied)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_holds_the_user_and_no_token(protocol: int) -> None:
    """An environ stays picklable, and a session or queue that pickles it must not store a live token."""
    pickled = pickle.dumps({USER: JANE, ERROR: None, OUTCOME: authenticated()}, protocol)
    assert CANARY.encode() not in pickled
    environ = pickle.loads(pickled)
    assert get_user(environ) == environ[OUTCOME].user == JANE
    assert outcome_of(environ) is None
    with pytest.raises(RuntimeError, match="pickled"):
        load_profile(environ)


@pytest.mark.parametrize("owner", [JANE, None], ids=["of a user", "of a team"])
def test_pickle_of_an_outcome_with_an_api_key_holds_the_key_without_its_value(owner: User | None) -> None:
    key = api_key_from_json(body(), FORM)
    outcome = KeyAuthenticated(key, owner, CONFIG, POLICY, REQUEST, in_event_loop=True)
    published = {USER: owner, ERROR: None, OUTCOME: outcome}
    pickled = pickle.dumps(published)
    assert CANARY.encode() not in pickled
    assert get_api_key(published) == get_api_key(pickle.loads(pickled)) == key
    assert copy.deepcopy(outcome) is outcome
    with pytest.raises(RuntimeError if owner else RefusedError):
        load_profile(pickle.loads(pickled))


def test_pickle_of_an_unauthenticated_outcome_holds_no_header() -> None:
    """A token that could not be verified is in the headers of the request record."""
    outcome = Unauthenticated(CONFIG, REQUEST, ErrorCode.SERVER_ERROR, 7)
    pickled = pickle.dumps({USER: None, ERROR: outcome.error, OUTCOME: outcome})
    assert CANARY.encode() not in pickled
    with pytest.raises(AuthServerError) as raised:
        require_user(pickle.loads(pickled))
    assert raised.value.retry_after == 7
    assert copy.copy(outcome) is copy.deepcopy(outcome) is outcome


@pytest.mark.parametrize("holder", [authenticated(), Unauthenticated(CONFIG, REQUEST), REQUEST])
def test_state_and_pickle_hold_no_credential(holder: Any) -> None:
    """jsonpickle and others ask for the state; without a method of its own it is all slots."""
    assert holder.__getstate__() is None
    assert CANARY.encode() not in pickle.dumps(holder)


def test_pickled_request_record_keeps_all_but_the_headers() -> None:
    again = pickle.loads(pickle.dumps(REQUEST))
    assert (again.method, again.path, again.root_path, again.headers) == ("GET", "/", "", {})


def test_authenticated_holds_what_a_profile_fetch_needs() -> None:
    made = authenticated()
    assert (made.token, made.policy, made.in_event_loop) == (CANARY, POLICY, True)
    assert (made.user, made.error, made.refresh) == (JANE, None, None)
    assert (made.config, made.request, made.retry_after) == (CONFIG, REQUEST, None)


def test_refused_holds_its_response_and_no_user() -> None:
    response = Response.of(401, [], b"{}")
    refused = Refused(CONFIG, response)
    assert (refused.config, refused.response) == (CONFIG, response)
    assert (refused.user, refused.error, refused.refresh) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "retry_after"), [(None, None), (ErrorCode.SERVER_ERROR, 7), (ErrorCode.MISCONFIGURED, None)]
)
def test_unauthenticated_holds_config_request_and_reason(error: ErrorCode | None, retry_after: int | None) -> None:
    made = Unauthenticated(CONFIG, REQUEST, error, retry_after)
    assert (made.user, made.refresh, made.error, made.retry_after) == (None, None, error, retry_after)
    assert (made.config, made.request) == (CONFIG, REQUEST)
    assert not hasattr(made, "__dict__")
    assert CANARY not in repr(made)
