from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from stackauth_middleware import (
    ErrorCode,
    StackAuthConfig,
    UserType,
)
from stackauth_middleware._core import config as config_module
from stackauth_middleware.testing import OMIT, Account, LocalStackAuth
from stackauth_middleware.testing._signing import SOME_PROJECT
from tests.unit.testing.helpers import (
    ME,
    OTHER_PROJECT,
    PROJECT,
    REFRESH,
    SECRET,
    SERVER,
    USER_ID,
    ask,
    claims_of,
    code_of,
    header_of,
    verifier,
)

pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture
def local() -> Iterator[LocalStackAuth]:
    with LocalStackAuth(PROJECT).in_process() as local:
        yield local


def test_defaults_without_config_and_environment() -> None:
    local = LocalStackAuth()
    assert (local.project_id, local.issuer_url) == (SOME_PROJECT, "https://api.stack-auth.com")
    assert claims_of(local.token())["iss"] == f"https://api.stack-auth.com/api/v1/projects/{SOME_PROJECT}"


def test_the_environment_names_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    assert LocalStackAuth().project_id == PROJECT
    assert LocalStackAuth(OTHER_PROJECT).project_id == OTHER_PROJECT


def test_newest_config_decides_project_and_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", OTHER_PROJECT)
    config = StackAuthConfig(project_id=PROJECT, issuer_url="https://auth.example.com", api_url="https://stack.example")
    local = LocalStackAuth()
    monkeypatch.setattr(config_module, "newest_config", lambda: config)
    assert (local.project_id, local.issuer_url) == (PROJECT, "https://auth.example.com")
    assert LocalStackAuth(PROJECT).issuer_url == "https://api.stack-auth.com"
    named = LocalStackAuth(OTHER_PROJECT, api_url="https://Named.example.com/base/")
    assert (named.project_id, named.issuer_url) == (OTHER_PROJECT, "https://named.example.com")
    assert claims_of(local.token())["iss"] in config.issuers


def test_newest_config_is_read_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    config = StackAuthConfig(project_id=OTHER_PROJECT, api_url="https://newest_config.example.com")
    local = LocalStackAuth()
    assert (local.project_id, local.issuer_url) == (config.project_id, "https://newest_config.example.com")


def test_api_url_can_be_set_later() -> None:
    local = LocalStackAuth(PROJECT)
    local.api_url = "http://127.0.0.1:4711"
    assert claims_of(local.token())["iss"] == f"http://127.0.0.1:4711/api/v1/projects/{PROJECT}"


def test_a_token_has_a_header_of_two_members(local: LocalStackAuth) -> None:
    header = header_of(local.token())
    assert header == {"alg": "ES256", "kid": local.issuer.keys(PROJECT, UserType.NORMAL)[0].kid}
    assert re.fullmatch(r"[\w-]{12}", header["kid"])


@pytest.mark.parametrize("user_type", UserType)
def test_a_token_of_each_type_is_verified(local: LocalStackAuth, user_type: UserType) -> None:
    user = verifier(allow_anonymous=True).verify(local.token(user_type=user_type))
    assert user.user_type is user_type
    assert user.is_restricted is (user_type is not UserType.NORMAL)


def test_claims_can_be_overridden_and_omitted(local: LocalStackAuth) -> None:
    claims = claims_of(local.token(email="x@example.com", name=OMIT, aud=["a"], iss="i", exp=1, plan={"a": [1]}))
    assert (claims["email"], claims["aud"], claims["iss"], claims["exp"]) == ("x@example.com", ["a"], "i", 1)
    assert claims["plan"] == {"a": [1]}
    assert "name" not in claims


def test_header_and_key_can_be_set(local: LocalStackAuth) -> None:
    assert header_of(local.token(kid="x"))["kid"] == "x"
    assert header_of(local.token(header={"alg": "none", "typ": "JWT", "kid": OMIT})) == {"alg": "none", "typ": "JWT"}
    second = local.issuer.keys(PROJECT, UserType.NORMAL)[1].kid
    assert header_of(local.token(key="second"))["kid"] == second
    checked = verifier()
    assert checked.verify(local.token(key="second")).user_type is UserType.NORMAL
    for bent in ({"key": "foreign"}, {"key": "restricted"}, {"kid": "x"}, {"header": {"alg": "none"}}):
        assert code_of(checked, local.token(**bent)) is ErrorCode.INVALID_TOKEN


def test_times_follow_the_clock() -> None:
    now = [1_800_000_000.0]
    local = LocalStackAuth(PROJECT, clock=lambda: now[0])
    token = local.token(expires_in=60)
    assert (claims_of(token)["iat"], claims_of(token)["exp"]) == (1_800_000_000, 1_800_000_060)
    headers = {**SERVER, "x-stack-access-token": token}
    assert ask(local, ME, headers).status == 200
    now[0] += 60
    assert ask(local, ME, headers).code == "ACCESS_TOKEN_EXPIRED"


def test_an_expired_token_is_refused(local: LocalStackAuth) -> None:
    assert code_of(verifier(), local.token(expires_in=-60)) is ErrorCode.EXPIRED_TOKEN


def test_claims_follow_the_account(local: LocalStackAuth) -> None:
    ann = local.users.create(primary_email="ann@example.com", display_name="Ann")
    for token in (local.token(ann), local.token(ann.id), local.token(sub=ann.id)):
        claims = claims_of(token)
        assert (claims["sub"], claims["email"], claims["name"]) == (ann.id, "ann@example.com", "Ann")
    with pytest.raises(KeyError, match=USER_ID):
        local.token(USER_ID)


def test_token_auto_creates_an_account(local: LocalStackAuth) -> None:
    local.token(sub=USER_ID, email="ann@example.com")
    account = local.users.get(USER_ID)
    assert account is not None
    assert account.primary_email == "ann@example.com"
    assert verifier(mode="rest", secret_server_key=SECRET).verify(local.token(sub=USER_ID)).user_id == USER_ID


@pytest.mark.parametrize("bent", [{"key": "foreign"}, {"key": "anonymous"}, {"sub": OMIT}, {"sub": 7}])
def test_forged_token_creates_no_account(local: LocalStackAuth, bent: dict[str, Any]) -> None:
    local.token(**{"sub": USER_ID, **bent})
    assert len(local.users) == 0


def test_headers_are_those_of_a_client(local: LocalStackAuth) -> None:
    ann = local.users.create()
    headers = local.headers(ann, email="ann@example.com")
    assert list(headers) == ["x-stack-access-token"]
    claims = claims_of(headers["x-stack-access-token"])
    assert (claims["sub"], claims["email"]) == (ann.id, "ann@example.com")
    user = verifier().authenticate(local.headers())
    assert user is not None


def test_a_session_has_two_tokens(local: LocalStackAuth) -> None:
    ann = local.users.create()
    session = local.sign_in(ann, expires_in=60, email="ann@example.com")
    claims = claims_of(session.access_token)
    assert (claims["sub"], claims["email"], claims["refresh_token_id"]) == (
        ann.id,
        "ann@example.com",
        session.session_id,
    )
    assert claims["exp"] - claims["iat"] == 60
    assert (session.user_id, session.project_id) == (ann.id, PROJECT)
    assert repr(session) == f"SignedIn(user_id='{ann.id}', session_id='{session.session_id}', project_id='{PROJECT}')"
    assert local.users.session(session.refresh_token, PROJECT) is not None
    local.sign_out(session)
    assert local.users.session(session.refresh_token, PROJECT) is None


def test_a_refreshed_token_is_for_the_same_session_and_the_account_as_it_is_now(local: LocalStackAuth) -> None:
    session = local.sign_in(project_id=OTHER_PROJECT)
    local.users.restrict(session.user_id)
    headers = {**SERVER, "x-stack-project-id": OTHER_PROJECT, "x-stack-refresh-token": session.refresh_token}
    claims = claims_of(ask(local, REFRESH, headers, method="POST").json["access_token"])
    assert claims["refresh_token_id"] == session.session_id
    assert (claims["sub"], claims["aud"]) == (session.user_id, f"{OTHER_PROJECT}:restricted")


@pytest.mark.parametrize("user_type", ["normal", "restricted", "anonymous"])
def test_default_users_can_sign_in(local: LocalStackAuth, user_type: str) -> None:
    session = local.sign_in(user_type=user_type, project_id=OTHER_PROJECT)
    account = local.users.get(session.user_id)
    assert account is not None
    assert account.user_type == user_type
    assert local.users.session(session.refresh_token, OTHER_PROJECT) is not None
    assert local.sign_in(sub=USER_ID).user_id == USER_ID


def test_account_object_need_not_be_stored() -> None:
    local = LocalStackAuth(PROJECT)
    assert claims_of(local.token(Account(id=USER_ID, is_anonymous=True)))["aud"] == f"{PROJECT}:anon"
