"""Replay of recordings of the real server against the local Stack Auth.

The recorded requests of a file are sent in order to one local Stack Auth, with the clock of the recorded response and
with the recorded tokens signed anew. What the recorder did between two recordings is in `BETWEEN`. Where the real
server chose an id, the local Stack Auth goes on with the recorded one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from email.utils import parsedate_to_datetime
from typing import Any

from stackauth_middleware.testing import Account, LocalStackAuth
from stackauth_middleware.testing._accounts import Session
from stackauth_middleware.testing._api_keys import StoredApiKey
from stackauth_middleware.testing._issuer import compact
from stackauth_middleware.testing._responses import Response
from stackauth_middleware.testing._teams import Team
from tests.unit.testing.helpers import claims_of

BASE = "http://localhost:8102"
KEYS = ("secret-server-key", "publishable-client-key", "super-secret-admin-key")
DEVELOPMENT_ERROR = ("Internal Server Error. The error message follows", "(500 with a development stack trace")
PRODUCTION_ERROR = re.compile(r"Something went wrong\. [\w ,.]+\n\nRequest ID: [0-9a-z]{16}")
CHOSEN = {"id", "value", "refresh_token", "x-stack-request-id", "expired_at_millis"}
"""Members that the server chooses; the kind of value is compared."""
CORS = ("access-control-allow-methods", "access-control-expose-headers", "access-control-max-age", "refresh")

Recording = dict[str, Any]


PROJECT = "22e29d4e-417d-47b1-9dda-05533869ff81"
DELETED = "b6b45007-c4ac-4965-8a47-12f009aa956e"
OTHER = "4d724447-6980-4596-b7a7-a8a61a14b8c5"

THIRD = "83a0398b-c1f5-4cf4-be83-06e36761ab8a"


def _delete(user_id: str) -> Callable[[Replay], None]:
    def act(replay: Replay) -> None:
        replay.local.users.delete(user_id)
        replay.deleted.add(user_id)

    return act


def _keys(project_id: str = PROJECT, **enabled: bool) -> Callable[[Replay], None]:
    def act(replay: Replay) -> None:
        replay.local.add_project(project_id, **{**replay.projects.get(project_id, {}), **enabled})

    return act


def _teams(*rows: tuple[str, str, int, str]) -> Callable[[Replay], None]:
    def act(replay: Replay) -> None:
        for team_id, name, created_at_millis, admin in rows:
            replay.add_team(team_id, PROJECT, name=name, created_at_millis=created_at_millis, admin=admin)

    return act


BETWEEN: dict[str, Callable[[Replay], None]] = {
    "091-server-list-sessions-alice": lambda replay: replay.add_listed_sessions("091-server-list-sessions-alice"),
    "095-refresh-after-session-revoked": lambda replay: replay.end("5ykm1tk70768"),
    "106-users-me-server-deleted-user": _delete("da29f092-b2d4-4b3c-b690-e135cf985888"),
    "172-apikey-user-check-deleted-user": _delete("b755a956-6c46-40b6-9d5a-dfbc40245533"),
    "175-apikey-user-check-feature-disabled": _keys("439ef463-8f43-4903-a208-6d929e6d224a", user_api_keys=False),
    "211-D-jwks-after-project-deleted": lambda replay: replay.local.remove_project(DELETED),
    "user by id, server: deleted": _delete("3e77bbca-85d4-4722-91bb-7251eac03bee"),
    "team key: create, client access of an admin": _teams(
        ("742808de-eb54-4509-bd9c-30e3fc548f1d", "T", 0, "d30111a7-ccda-4967-9ad3-d442d87484b6")
    ),
    "user check: in another project, not enabled there": _keys(THIRD, user_api_keys=False, team_api_keys=False),
    "user check: in another project where keys are enabled": _keys(OTHER),
    "user check: disabled after the key was made": _keys(user_api_keys=False, team_api_keys=False),
    "team check: only team keys disabled": _keys(team_api_keys=False),
    "user check: owner deleted": _keys(),
    "teams, no user_id, server": _teams(
        ("e2fb0262-7a73-46b9-b4d2-53211b5e4f73", "T", 1795806913174, "7fd93f4a-5e98-406a-bfab-030de2926341"),
        ("36e9a6b1-6752-421a-9df9-3bde563f07ed", "KeyTeam2", 1795807263277, "a7e356f5-6504-45c1-a898-a85f71841bfa"),
        ("fc847416-755c-4682-88ed-05baf84d4a2e", "KeyTeam3", 1795807308757, "b03e3621-9a46-4f9b-97b1-1b4d2c7c56c6"),
    ),
}
"""What happened before a recording, by its name."""


NOT_OFFERED = {
    "174-create-project-C-apikeys-disabled",
    "sign-up with password",
    "sign-in with password",
    "sign-in again",
    "sign-in, wrong password",
    "sign-in before the user is deleted",
    "anonymous sign-up",
    "sign-up, anonymous token, password taken, server",
}
"""Recordings that differ, all since the local Stack Auth has no such endpoint: sign-up, sign-in, new projects."""


def differences(recordings: list[Recording]) -> dict[str, str]:
    """Return how the local responses differ from the recorded ones, by name, where the endpoint is offered."""
    found = dict(Replay(recordings).differences())
    for name in NOT_OFFERED & found.keys():
        assert found.pop(name).startswith("status 404")
    return {name: text for name, text in found.items() if text}


class Replay:
    """A local Stack Auth that the recordings of one file are replayed against."""

    def __init__(self, recordings: list[Recording]) -> None:
        self.recordings = recordings
        self.now = 0.0
        self.local = LocalStackAuth(api_url=BASE, any_project=False, hexclave=False, clock=lambda: self.now)
        self.store = self.local._store
        self.deleted: set[str] = set()
        self.ended: set[str] = set()
        self.forged = {
            each["request"]["headers"]["x-stack-access-token"] for each in recordings if "bad-sig" in each["name"]
        }
        self.projects = _projects(recordings)
        for project_id, values in self.projects.items():
            self.local.add_project(project_id, **values)
        for recording in recordings:
            self.create_token_user(recording["request"])
        for recording in recordings:
            self.create_owner(recording["request"], recording["response"])

    def differences(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each recording and how the local response differs from it; "" if it does not."""
        for recording in self.recordings:
            name, request, response = recording["name"], recording["request"], recording["response"]
            self.now = parsedate_to_datetime(response["headers"]["date"]).timestamp() + 1  # the header lags
            BETWEEN.get(name, _nothing)(self)
            self.prepare(request, response)
            with self.fault(name, response):
                got = self.send(request)
            yield name, _difference(got, response)
            self.adopt(request, response, got)

    # -- before -------------------------------------------------------------------------------------------

    def prepare(self, request: Recording, response: Recording) -> None:
        """Create the users that the recording shows, unless they were deleted; make times agree."""
        self.create_token_user(request)
        body = _json(response["body"])
        if claims := _claims(request):
            self.add_session(claims)
        sent = re.findall(r"(?<=refresh_token=)\w+", str(request["body"]))
        refresh_token = request["headers"].get("x-stack-refresh-token", "".join(sent))
        if refresh_token and isinstance(body, dict) and "access_token" in body:
            self.add_session(claims_of(body["access_token"]), refresh_token)
        if request["method"] != "GET" or not isinstance(body, dict):
            return
        items = body.get("items", ())
        members = (body, *items, *(each["user"] for each in items if "user" in each))
        for member in members:
            if "signed_up_at_millis" in member:
                self.add_user(**_from_answer(member), projects=_projects_of(request), update=True)
            elif "last_used_at" in member and (session := self.session(member["id"])):
                times = {"created_at_millis": member["created_at"], "last_used_at_millis": member["last_used_at"]}
                self.store.accounts.add_session(session._replace(**times))
        if cursor := body.get("pagination", {}).get("next_cursor"):
            later = members[-1]["signed_up_at_millis"] + 1
            self.add_user(id=cursor, projects=_projects_of(request), signed_up_at_millis=later)

    def create_token_user(self, request: Recording) -> None:
        if claims := _claims(request):
            self.add_user(**_from_claims(claims))

    def create_owner(self, request: Recording, response: Recording) -> None:
        """Create the user or team that a recorded response names by id only."""
        body = _json(response["body"])
        if not isinstance(body, dict) or response["status"] not in (200, 201) or "refresh_token" in body:
            return
        if "user_id" in body:
            self.add_user(id=body["user_id"], projects=_projects_of(request))
        if "api-keys" in _target(request) and "team_id" in body:
            self.add_team(body["team_id"], request["headers"]["x-stack-project-id"])

    def add_team(
        self, team_id: str, project_id: str, *, name: str = "T", created_at_millis: int = 0, admin: str = ""
    ) -> None:
        team = Team(id=team_id, project_id=project_id, display_name=name, created_at_millis=created_at_millis)
        self.store.teams.add(team)
        if admin:
            self.store.teams.add_member(team_id, admin, permission_id="team_admin")

    def add_user(self, *, id: str, update: bool = False, **values: Any) -> None:  # noqa: A002
        if id not in self.deleted and id not in self.local.users:
            self.local.users.create(id, **values)
        elif id not in self.deleted and update:
            self.local.users.update(id, **values)

    def add_session(self, claims: Mapping[str, Any], refresh_token: str = "", **values: Any) -> None:
        """Add the session of an access token, unless it has ended. A known one gets its refresh token."""
        session_id, project_id = claims["refresh_token_id"], claims["aud"].partition(":")[0]
        if session_id not in self.ended and claims["sub"] not in self.deleted:
            known = self.session(session_id)
            if known is not None:
                self.store.accounts._sessions.pop(known.refresh_token)
            refresh_token = refresh_token or (known.refresh_token if known else session_id)
            session = known or Session(session_id, "", claims["sub"], project_id, **values)
            self.store.accounts.add_session(session._replace(refresh_token=refresh_token))

    def add_listed_sessions(self, name: str) -> None:
        """Add the sessions that a recording lists."""
        recording = next(each for each in self.recordings if each["name"] == name)
        for item in json.loads(recording["response"]["body"])["items"]:
            session = {"refresh_token_id": item["id"], "sub": item["user_id"]}
            self.add_session({**session, "aud": recording["request"]["headers"]["x-stack-project-id"]})

    def end(self, end_of_refresh_token: str) -> None:
        for token in [each for each in self.store.accounts._sessions if each.endswith(end_of_refresh_token)]:
            self.ended.add(self.store.accounts._sessions.pop(token).id)

    def session(self, session_id: str) -> Session | None:
        return next((each for each in self.store.accounts._sessions.values() if each.id == session_id), None)

    # -- the request --------------------------------------------------------------------------------------

    def send(self, request: Recording) -> Response:
        headers = {"host": "localhost:8102", **request["headers"]}
        if "x-stack-access-token" in headers:
            headers["x-stack-access-token"] = self.signed(headers["x-stack-access-token"])
        body = request["body"]
        text = body if isinstance(body, str) else json.dumps(body) if body else ""
        got = self.local._handle(request["method"], _target(request), headers, text.encode()).response
        assert got is not None
        return got

    def fault(self, name: str, response: Recording) -> AbstractContextManager[None]:
        """Return the fault that the real server was made to show."""
        if response["status"] == 429:
            return self.local.throttle(response["headers"].get("retry-after"))
        if "db-down" in name or "database stopped" in name:
            return self.local.database_down()
        return nullcontext()

    def signed(self, token: str) -> str:
        """Return the token with a local signature, unless it is none, or its own signature does not hold."""
        if token in self.forged:
            return token
        if token.startswith("Bearer "):
            return "Bearer " + self.signed(token.removeprefix("Bearer "))
        if token.count(".") != 2 or token.startswith("aaa"):
            return token
        claims = claims_of(token)
        project_id, _, suffix = claims["aud"].partition(":")
        user_type = {"": "normal", "restricted": "restricted", "anon": "anonymous"}[suffix]
        key = self.local.issuer.key(project_id, user_type, "first")
        return compact(key, {"alg": "ES256", "kid": key.kid}, claims)

    # -- after --------------------------------------------------------------------------------------------

    def adopt(self, request: Recording, response: Recording, got: Response) -> None:
        """Go on with what the real server chose, also where the local Stack Auth does not have the endpoint."""
        recorded, ours = _json(response["body"]), _json(got.body.decode())
        headers = request["headers"]
        project_id = headers.get("x-stack-project-id", "")
        if response["status"] not in (200, 201) or not isinstance(recorded, dict) or request["method"] != "POST":
            if request["method"] == "DELETE" and response["status"] == 200:
                last = _target(request).partition("?")[0].rpartition("/")[2]
                token = headers.get("x-stack-access-token", "")
                (self.deleted if "/users/" in _target(request) else self.ended).add(last)
                self.ended |= {claims_of(token)["refresh_token_id"]} if last == "current" else set()
            return
        sent = _json(request["body"]) if isinstance(request["body"], str) else request["body"]
        if "refresh_token" in recorded:
            claims = claims_of(recorded["access_token"])
            self.add_user(**_from_claims(claims))
            if isinstance(ours, dict) and "refresh_token" in ours:
                self.store.accounts._sessions.pop(ours["refresh_token"])
            impersonation = bool(isinstance(sent, dict) and sent.get("is_impersonation"))
            self.add_session(claims, recorded["refresh_token"], is_impersonation=impersonation)
        elif "-api-keys" in _target(request) and isinstance(recorded.get("value"), str):
            if isinstance(ours, dict):
                self.store.api_keys._keys.pop(ours.get("id"), None)
            owner = recorded.pop("user_id", None) or recorded.pop("team_id")
            self.store.api_keys.add(StoredApiKey(owner_id=owner, project_id=project_id, **recorded))
        elif _target(request).endswith("/teams") and "id" in ours:
            members = self.store.teams.members(ours["id"])
            self.store.teams.remove(ours["id"])
            self.store.teams.add(Team(project_id=project_id, **recorded))
            for user_id in members:
                self.store.teams.add_member(recorded["id"], user_id, permission_id="team_admin")


def _projects(recordings: list[Recording]) -> dict[str, dict[str, Any]]:
    """Return the projects that existed, with the keys that they took."""
    found: dict[str, dict[str, Any]] = {}
    for each in recordings:
        sent, response, body = each["request"]["headers"], each["response"], each["request"]["body"] or ""
        in_path = re.findall(r"(?<=/projects/)[\w-]{36}", _target(each["request"]))
        client = re.findall(r"client_id=([\w-]{36})(?:%23main)?&client_secret=(pck_\w+)", str(body))
        project_id = sent.get("x-stack-project-id") or (client[0][0] if client else "".join(in_path))
        good = response["status"] in (200, 201) or "REFRESH_TOKEN_NOT_FOUND" in response["body"]
        if project_id and good and "x-stack-actual-status" not in response["headers"]:
            keys = {name.replace("-", "_"): sent[f"x-stack-{name}"] for name in KEYS if f"x-stack-{name}" in sent}
            keys |= {"publishable_client_key": client[0][1]} if client else {}
            found.setdefault(project_id, {}).update(keys)
    return found


def _projects_of(request: Recording) -> frozenset[str]:
    return frozenset({request["headers"]["x-stack-project-id"]})


def _nothing(_replay: Replay) -> None:
    pass


def _target(request: Recording) -> str:
    return str(request.get("path") or request["url"].removeprefix(BASE))


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _claims(request: Recording) -> dict[str, Any] | None:
    token = request["headers"].get("x-stack-access-token", "")
    return claims_of(token) if token.count(".") == 2 and not token.startswith(("aaa", "Bearer")) else None


def _from_claims(claims: Mapping[str, Any]) -> dict[str, Any]:
    reason = (claims["restricted_reason"] or {}).get("type")
    return {
        "id": claims["sub"],
        "projects": frozenset({claims["aud"].partition(":")[0]}),
        "primary_email": claims["email"],
        "primary_email_verified": claims["email_verified"],
        "primary_email_auth_enabled": claims["email"] is not None,
        "has_password": claims["email"] is not None,
        "display_name": claims["name"],
        "signed_up_at_millis": claims["signed_up_at"] * 1000,
        "is_anonymous": claims["is_anonymous"],
        "must_verify_email": reason == "email_not_verified",
        "restricted_by_admin": reason == "restricted_by_administrator",
    }


def _from_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored of a user, without what is computed from the rest."""
    reason = (body["restricted_reason"] or {}).get("type")
    names = {field.name for field in fields(Account)} & body.keys()
    return {**{name: body[name] for name in names - {"projects"}}, "must_verify_email": reason == "email_not_verified"}


# -- comparison -------------------------------------------------------------------------------------------


def _difference(got: Response, recorded: Recording) -> str:
    if got.status != recorded["status"]:
        return f"status {got.status}, not {recorded['status']}: {got.body.decode()[:200]}"
    ours, theirs = _headers(dict(got.headers), recorded["headers"]), _headers(recorded["headers"], recorded["headers"])
    if ours != theirs:
        return f"headers {ours.items() ^ theirs.items()}"
    body, text = got.body.decode(), recorded["body"]
    if text.startswith(DEVELOPMENT_ERROR) or PRODUCTION_ERROR.fullmatch(text):
        return "" if PRODUCTION_ERROR.fullmatch(body) else f"body {body}"
    ours_json, theirs_json = _json(body), _json(text)
    if ("\n" in body) != ("\n" in text) or (not isinstance(theirs_json, dict) and body != text):
        return f"body {body}"
    return _json_difference(ours_json, theirs_json)


def _headers(headers: Mapping[str, str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return what can be compared: the recorder left out some headers, and from one file most of CORS."""
    left_out = {"date", "content-length", "access-control-allow-headers"}
    left_out |= {name for name in CORS if name not in recorded}
    if "x-stack-request-id" not in recorded:  # the rate limiter sends it now and then
        left_out.add("access-control-allow-origin")
    return {name: "" if name in CHOSEN else value for name, value in headers.items() if name not in left_out}


def _json_difference(ours: Any, theirs: Any, path: str = "") -> str:
    name = path.rpartition(".")[2]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            return f"members of {path or 'body'}: {sorted(ours.keys() ^ theirs.keys())}"
        return next(filter(None, (_json_difference(ours[key], theirs[key], f"{path}.{key}") for key in theirs)), "")
    if isinstance(theirs, list) and isinstance(ours, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(filter(None, (_json_difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)), "")
    if name == "error":
        ours, theirs = (re.sub(r":\d\d\.\d{3}Z", "", each) for each in (ours, theirs))
    if ours == theirs or _agree(name, ours, theirs):
        return ""
    return f"{path}: {ours!r}, not {theirs!r}"


def _agree(name: str, ours: Any, theirs: Any) -> bool:
    """Return whether two values that the server chooses are of the same kind."""
    if name == "access_token":
        return not _json_difference(claims_of(ours), claims_of(theirs), "claims")
    if name in ("iat", "exp", "refresh_token_id") or (name in CHOSEN and type(ours) is type(theirs)):
        return True
    if name in ("kid", "x", "y"):
        return re.fullmatch(r"[\w-]{12}|[\w-]{42,43}", ours) is not None
    return name.endswith("_millis") and isinstance(ours, int) and abs(ours - theirs) < 5000
