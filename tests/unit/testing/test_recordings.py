"""The local answers beside those of the real server: a replay of the recordings.

The recorded requests are sent to a local Stack Auth that was put into the recorded state, with the
clock of the recorded answer, and with the recorded tokens signed anew: their claims and what is
wrong with them stay. Not compared are the values of keys and request ids, and what a server in
development mode says of its own faults.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import pytest

from stackauth_middleware.testing import Account, LocalStackAuth, team
from stackauth_middleware.testing._issuer import compact
from tests.data import load_recorded
from tests.unit.testing.helpers import Got, ask, claims_of, header_of

BASE = "http://localhost:8102"
KINDS = re.compile(
    r"/api/(?:v1|latest|v2beta1)/"
    r"(?:projects[^/]*/[^/]+/\.well-known/|users/|auth/sessions/current)"
)
NOT_OFFERED = {"192-users-me-client-patch", "193-users-me-client-patch-forbidden-field", "194-users-me-client-delete"}
ENDED = {
    "095-refresh-after-session-revoked",
    "098-client-sign-out-twice",
    "100-refresh-after-sign-out",
    "190-refresh-session-expired",
}
DELETED = "b6b45007-c4ac-4965-8a47-12f009aa956e"
OTHER = "caa276ff-9e44-45cb-8e6f-2520e87ef887"
SHORT = "27c0b29f-2976-40fc-a0a0-e23075d9bdb4"
KEYS = {
    "x-stack-secret-server-key": "secret_server_key",
    "x-stack-publishable-client-key": "publishable_client_key",
    "x-stack-super-secret-admin-key": "super_secret_admin_key",
}


@cache
def recordings() -> list[dict[str, Any]]:
    every: list[dict[str, Any]] = load_recorded("recordings")
    return every


@cache
def projects() -> dict[str, dict[str, Any]]:
    """Return the projects that there were, with the keys that they were seen to take."""
    found: dict[str, dict[str, Any]] = {DELETED: {}, OTHER: {}}
    for each in recordings():
        sent, response = each["request"]["headers"], each["response"]
        in_address = re.search(r"(?<=/projects/)[0-9a-f-]{36}", each["request"]["url"])
        if in_address and response["status"] == 200:
            found.setdefault(in_address[0], {})
        if (
            "x-stack-project-id" in sent
            and response["status"] == 200
            and "x-stack-actual-status" not in response["headers"]
        ):
            keys = {name: sent[header] for header, name in KEYS.items() if header in sent}
            found.setdefault(sent["x-stack-project-id"], {}).update(keys)
    return found


def names() -> list[str]:
    try:
        every = recordings()
    except pytest.skip.Exception:
        return []
    return [
        each["name"]
        for each in every
        if KINDS.match(each["request"]["url"].removeprefix(BASE)) and each["name"] not in NOT_OFFERED
    ]


NAMES = names()


def test_recordings_exist() -> None:
    recordings()
    assert len(NAMES) == 112


class State:
    """The local Stack Auth in the state of one recording."""

    def __init__(self, recording: dict[str, Any]) -> None:
        self.recording = recording
        self.request = recording["request"]
        self.response = recording["response"]
        date = self.response["headers"]["date"]
        self.local = LocalStackAuth(
            api_url=BASE, any_project=False, clock=lambda: parsedate_to_datetime(date).timestamp()
        )
        self.sessions: dict[str, str] = {}
        self.add_projects()
        self.add_account()

    def add_projects(self) -> None:
        for project_id, taken in projects().items():
            self.local.add_project(project_id, short_coordinates=project_id == SHORT == self.asked_for, **taken)
        self.local.remove_project(DELETED)

    @property
    def asked_for(self) -> str:
        """The project in the address, if there is one."""
        found = re.search(r"(?<=/projects/)[0-9a-f-]{36}", self.request["url"])
        return found[0] if found else ""

    def add_account(self) -> None:
        """Add the user of the recorded token, or the one that was answered."""
        if self.response["status"] == 200 and "access_token" in self.response["body"]:
            claims = claims_of(json.loads(self.response["body"])["access_token"])
            token_user = self.from_claims(claims)
            self.sessions[self.request["headers"]["x-stack-refresh-token"]] = self.session(token_user.id)
        elif self.response["status"] == 200 and '"signed_up_at_millis"' in self.response["body"]:
            self.from_answer(json.loads(self.response["body"]))
        else:
            token = self.request["headers"].get("x-stack-access-token", "")
            if token.count(".") == 2 and not token.startswith(("aaa", "Bearer")):
                self.from_claims(claims_of(token))

    def from_claims(self, claims: dict[str, Any]) -> Account:
        account = self.local.users.create(
            claims["sub"],
            primary_email=claims["email"],
            primary_email_verified=claims["email_verified"],
            display_name=claims["name"],
            signed_up_at_millis=claims["signed_up_at"] * 1000,
            is_anonymous=claims["is_anonymous"],
            restricted_by_admin=claims["restricted_reason"] == {"type": "restricted_by_administrator"},
        )
        if "deleted-user" in self.recording["name"]:
            self.local.users.delete(account.id)
        return account

    def from_answer(self, body: dict[str, Any]) -> None:
        """Store what was answered, less what is worked out from the rest."""
        reason = body["restricted_reason"] or {}
        worked_out = {"id", "auth_with_email", "selected_team_id", "is_restricted", "restricted_reason"}
        stored = {name: value for name, value in body.items() if name not in worked_out}
        if body["selected_team"]:
            stored["selected_team"] = team(body["selected_team_id"], body["selected_team"]["display_name"])
        stored["must_verify_email"] = reason.get("type") == "email_not_verified"
        self.local.users.create(body["id"], **stored)

    def session(self, user_id: str) -> str:
        project_id = self.request["headers"]["x-stack-project-id"]
        return self.local.users.start_session(user_id, project_id).refresh_token

    def signed_anew(self, token: str) -> str:
        """Return the recorded token with a local signature, unless it is no token, or has a signature of its own."""
        if token.startswith("Bearer "):
            return "Bearer " + self.signed_anew(token.removeprefix("Bearer "))
        if token.count(".") != 2 or token.startswith("aaa"):
            return token
        claims = claims_of(token)
        if self.recording["name"] in ENDED:
            claims["refresh_token_id"] = "gone"
        elif self.request["method"] == "DELETE":
            project_id = self.request["headers"]["x-stack-project-id"]
            claims["refresh_token_id"] = self.local.users.start_session(claims["sub"], project_id).id
        project_id, _, suffix = claims["aud"].partition(":")
        user_type = {"": "normal", "restricted": "restricted", "anon": "anonymous"}[suffix]
        key = self.local.issuer.key(project_id, user_type, "first")  # type: ignore[arg-type]
        assert header_of(token).keys() == {"alg", "kid"}
        signed = compact(key, {"alg": "ES256", "kid": key.kid}, claims)
        if "bad-signature" in self.recording["name"]:
            signed = signed.rpartition(".")[0] + "." + token.rpartition(".")[2]
        return signed

    def answer(self) -> Got:
        headers = {"host": "localhost:8102", **self.request["headers"]}
        if "x-stack-access-token" in headers:
            headers["x-stack-access-token"] = self.signed_anew(headers["x-stack-access-token"])
        if "x-stack-refresh-token" in headers:
            refresh_token = headers["x-stack-refresh-token"]
            headers["x-stack-refresh-token"] = self.sessions.get(refresh_token, refresh_token)
        body = self.request["body"]
        with ExitStack() as stack:
            if self.response["status"] == 429:
                stack.enter_context(self.local.throttle(self.response["headers"].get("retry-after")))
            if "-db-down-" in self.recording["name"]:
                stack.enter_context(self.local.database_down())
            return ask(
                self.local,
                self.request["url"].removeprefix(BASE),
                headers,
                method=self.request["method"],
                body=(body if isinstance(body, str) else json.dumps(body)).encode() if body else b"",
            )


@pytest.mark.parametrize("name", NAMES)
def test_response_equals_the_recorded_one(name: str) -> None:
    state = State(next(each for each in recordings() if each["name"] == name))
    got, recorded = state.answer(), state.response
    assert got.status == recorded["status"]
    compare_headers(got.headers, recorded["headers"], exact_origin=got.status != 429)
    recorded_body = recorded["body"]
    if recorded_body.startswith("Internal Server Error. The error message follows, but will be stripped in production"):
        assert re.fullmatch(r"Something went wrong\. [\w ,.]+\n\nRequest ID: [0-9a-z]{16}", got.body.decode())
    elif '"keys"' in recorded_body:
        compare_key_sets(got, recorded_body, short=SHORT in state.request["url"])
    elif recorded_body.startswith('{"access_token"'):
        compare_tokens(got, recorded_body)
    elif '"signed_up_at_millis"' in recorded_body:
        assert got.json == json.loads(recorded_body)
        assert (b"\n" in got.body) == ("\n" in recorded_body)
    else:
        assert got.body.decode() == recorded_body


def compare_headers(got: dict[str, str], recorded: dict[str, str], *, exact_origin: bool) -> None:
    """Compare the headers, less the second brand, and what the recorder dropped: all of CORS but the origin."""

    def comparable(headers: dict[str, str]) -> dict[str, str]:
        kept = {}
        for name, value in headers.items():
            if name == "x-stack-request-id":
                assert re.fullmatch(r"[0-9a-z]{16}", value)
                kept[name] = ""
            elif name == "access-control-allow-origin":
                kept.update({name: value} if exact_origin else {})
            elif name not in ("date", "content-length") and not name.startswith(("x-hexclave-", "access-control-")):
                kept[name] = value
        return kept

    assert comparable(got) == comparable(recorded)
    for name, value in got.items():
        if name.startswith("x-stack-"):
            assert got[name.replace("x-stack-", "x-hexclave-")] == value


def compare_key_sets(got: Got, recorded: str, *, short: bool) -> None:
    """Compare all but the values: members, order, number, layout, and the width of ids and coordinates."""

    def shape(text: str) -> str:
        ids_hidden = re.sub(r'("kid": ?)"[\w-]{12}"', r"\1…", text)
        return re.sub(r'("[xy]": ?)"[\w-]{38,43}"' if short else r'("[xy]": ?)"[\w-]{43}"', r"\1…", ids_hidden)

    assert shape(got.body.decode()) == shape(recorded)
    for body in (got.body.decode(), recorded):
        assert (re.search(r'"[xy]": ?"[\w-]{42}"', body) is not None) is short


def compare_tokens(got: Got, recorded: str) -> None:
    ours, theirs = got.json, json.loads(recorded)
    assert list(ours) == list(theirs) == ["access_token"]
    one, two = claims_of(ours["access_token"]), claims_of(theirs["access_token"])
    assert list(one) == list(two)
    assert {name: type(value) for name, value in one.items()} == {name: type(value) for name, value in two.items()}
    own = {"iat", "exp", "refresh_token_id"}
    assert {name: one[name] for name in one if name not in own} == {name: two[name] for name in two if name not in own}
    assert header_of(ours["access_token"]).keys() == header_of(theirs["access_token"]).keys()
