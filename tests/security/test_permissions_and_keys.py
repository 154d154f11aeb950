"""Permissions and API keys: random rules against an oracle of our own, and secrets that leave no trace."""

from __future__ import annotations

import logging
import pickle
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackauth_middleware import ErrorCode, Rule, StackAuthConfig
from stackauth_middleware._core.flow import Flow
from stackauth_middleware._core.outcome import Authenticated, KeyAuthenticated, Refused
from stackauth_middleware._core.paths import is_plain
from stackauth_middleware._core.policy import KeyType, Policy
from stackauth_middleware._core.records import RequestRecord
from stackauth_middleware._core.upstream import Answer, Call
from stackauth_middleware.errors import Event
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.core.helpers import PROJECT, USER_ID, Clock, FakeRunner, StackAuth, bounded, reply, token
from tests.unit.core.test_api_keys import body, key
from tests.unit.core.test_policy import TEAM
from tests.unit.core.test_rules import first_by_regex, in_path
from tests.unit.drive import asgi, environ_of, http_scope, wsgi

OTHER_TEAM = "06884b3f-72dd-4963-9a81-3aa6acba7591"
DEFAULT = Policy("required", profile=False, allow_restricted=False, allow_anonymous=False)
PATTERNS = ["/a", "/a/*", "/a/**", "/b/{id}", "/b/{id}/**", "/B/*", "/**", "/{id}/x"]
SEGMENTS = ["a", "b", "B", "x", TEAM, TEAM.upper(), OTHER_TEAM, "", "..", "x;y"]


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    made = []
    for _ in range(draw(st.integers(0, 4))):
        path, permission = draw(st.sampled_from(PATTERNS)), draw(st.sampled_from([None, "read", "write"]))
        team = "id" if permission and "{id}" in path and draw(st.booleans()) else None
        keys: Any = draw(st.sampled_from([None, (), ["user"], ["user", "team"]]))
        made.append(Rule(path, permission=permission, team=team, api_keys=keys))
    return made


PATHS = st.builds(
    lambda segments, end: "/" + "/".join(segments) + end,
    st.lists(st.sampled_from(SEGMENTS), max_size=3),
    st.sampled_from(["", "/"]),
)
HELD = st.frozensets(
    st.tuples(st.sampled_from(["read", "write"]), st.sampled_from([None, TEAM, OTHER_TEAM])), max_size=5
)
CREDENTIALS = {
    "nothing": {},
    "token": {"x-stack-access-token": token()},
    "user key": {"x-api-key": key()},
    "team key": {"authorization": f"Bearer {key(kind='team')}"},
    "both": {"x-stack-access-token": token(), "x-api-key": key()},
}


def expected(
    made: list[Rule], path: str, held: Any, credential: str, default_keys: frozenset[KeyType] = frozenset()
) -> ErrorCode | None:
    """Return the error code that a request must get, or None where it has to reach the app."""
    default = DEFAULT._replace(api_keys=default_keys)
    if is_plain(path):
        short = path.lower().removesuffix("/") or "/"
        readings = [first_by_regex(made, default, "GET", path, fold=False, empty=False)]
        readings.append(first_by_regex(made, default, "GET", short, fold=True, empty=False))
        if path.endswith("/"):
            readings.append(first_by_regex(made, default, "GET", path.lower(), fold=True, empty=True))
        needed = {in_path(each, path) for reading in readings for each in reading.permissions}
        keys = frozenset.intersection(*(reading.api_keys for reading in readings))
    else:  # every rule holds, and the path names no team
        needed = {(str(rule.permission), "?" if rule.team else None) for rule in made if rule.permission}
        keys = default_keys.intersection(*(rule.api_keys for rule in made if rule.api_keys is not None))
    if credential == "both" and keys:
        return ErrorCode.INVALID_REQUEST
    if credential.endswith("key") and keys:
        if credential.split(maxsplit=1)[0] not in keys:
            return ErrorCode.FORBIDDEN
    elif credential not in ("token", "both"):
        return ErrorCode.MISSING_TOKEN
    if credential == "team key":
        return ErrorCode.FORBIDDEN if needed else None
    return None if needed <= held else ErrorCode.FORBIDDEN


@settings(bounded, max_examples=300)
@given(rules(), PATHS, HELD, st.sampled_from(sorted(CREDENTIALS)), st.frozensets(st.sampled_from(["user", "team"])))
def test_handler_runs_only_with_all_that_the_rules_demand(
    made: list[Rule],
    path: str,
    held: frozenset[tuple[str, str | None]],
    credential: str,
    default_keys: frozenset[KeyType],
) -> None:
    """And it runs then. No call is made with a key where the path accepts none."""
    events: list[Event] = []
    asked: list[str] = []

    def answer(call: Call) -> Answer:
        endpoint = urlsplit(call.url).path.removeprefix("/api/v1/")
        if endpoint.startswith("projects/"):
            return StackAuth()(call)
        asked.append(endpoint)
        if endpoint.endswith("/check"):
            owner = {"user_id": USER_ID} if endpoint.startswith("user") else {"type": "team", "team_id": TEAM}
            return reply(body(**{"expires_at_millis": None, **owner}))
        if endpoint == f"users/{USER_ID}":
            return reply({"id": USER_ID})
        assert parse_qs(urlsplit(call.url).query) == {"user_id": [USER_ID], "recursive": ["true"]}
        in_team = endpoint == "team-permissions"
        items = [{"id": each, "user_id": USER_ID, "team_id": team} for each, team in held if bool(team) is in_team]
        return reply({"items": items, "is_paginated": False})

    try:
        config = StackAuthConfig(
            project_id=PROJECT,
            secret_server_key="ssk_x",
            rules=made,
            api_keys=default_keys,
            observers=[events.append],
        )
    except ValueError:  # a rule that an earlier one hides
        return
    clock = Clock()
    request = RequestRecord("GET", path, "", CREDENTIALS[credential])
    step = Flow(config).authorize(request, clock.now, defer_refresh=True, in_event_loop=True)
    outcome = FakeRunner(clock, answer)(step)
    assert isinstance(outcome, Refused | Authenticated | KeyAuthenticated)
    wanted = expected(made, path, held, credential, default_keys)
    assert events[-1].code is wanted
    assert isinstance(outcome, Refused) is (wanted is not None)
    if not credential.endswith("key") or wanted is ErrorCode.MISSING_TOKEN:
        assert not [each for each in asked if each.endswith("/check")]


def test_value_of_an_api_key_leaves_no_trace(stackauth: LocalStackAuth, caplog: pytest.LogCaptureFixture) -> None:
    """Neither where it is accepted nor where it is refused: not in logs, responses, events or pickles."""
    events: list[Event] = []
    config = StackAuthConfig(
        project_id=PROJECT, secret_server_key="ssk_x", api_keys=["user"], observers=[events.append], prefetch_keys=False
    )
    values = [stackauth.api_key(), stackauth.api_key(revoked=True), stackauth.api_key(public=True)]
    values.append(values[0][:-1] + ("0" if values[0][-1] != "0" else "1"))
    shown: list[Any] = []
    with caplog.at_level(logging.DEBUG):
        for value in values:
            for headers in ({"x-api-key": value}, {"authorization": f"Bearer {value}"}):
                pairs = [(name.encode(), text.encode()) for name, text in headers.items()]
                for seen in (
                    asgi(http_scope("/", pairs), config=config),
                    wsgi(environ_of("/", headers), config=config),
                ):
                    shown += [seen.body, seen.headers]
                    for mapping in seen.reached:
                        outcome = mapping["stackauth.outcome"]
                        shown += [repr(outcome), pickle.dumps(outcome), repr(outcome.api_key), outcome.user.to_dict()]
    assert len([each for each in events if each.code is None]) == 4
    text = repr((shown, events)) + caplog.text
    assert not [value for value in values if value in text or value.encode() in text.encode()]
    assert stackauth.requests.count("api-keys") == 2  # one that is valid and one that is revoked


def test_made_up_rules_have_every_outcome() -> None:
    """The oracle is worth nothing if its cases never happen."""
    demanding = [Rule("/b/{id}", permission="read", team="id", api_keys=["user"])]
    held = frozenset({("read", TEAM)})
    found = {
        expected(demanding, path, held, credential)
        for path in (f"/b/{TEAM}", f"/b/{OTHER_TEAM}", "/b/x", f"//b/{TEAM}")
        for credential in CREDENTIALS
    }
    assert found == {None, ErrorCode.FORBIDDEN, ErrorCode.MISSING_TOKEN, ErrorCode.INVALID_REQUEST}
