"""The checks that all endpoints share."""

from __future__ import annotations

import pytest

from stackauth_middleware.testing import LocalStackAuth
from tests.unit.testing.helpers import (
    CLIENT,
    JWKS,
    ME,
    OTHER_PROJECT,
    PROJECT,
    PUBLISHABLE,
    SERVER,
    USER_ID,
    ask,
    me,
    two_projects,
)


@pytest.fixture
def local() -> LocalStackAuth:
    return two_projects()


ADMIN = {
    "x-stack-project-id": PROJECT,
    "x-stack-access-type": "admin",
    "x-stack-super-secret-admin-key": "sak_right",
}


@pytest.mark.parametrize(("base", "members"), [(SERVER, 27), (ADMIN, 27), (CLIENT, 21)])
def test_a_user_is_read(local: LocalStackAuth, base: dict[str, str], members: int) -> None:
    got = me(local, base, token=local.token(email="ann@example.com", sub=USER_ID))
    assert (got.status, got.code) == (200, None)
    assert (got.json["id"], got.json["primary_email"], len(got.json)) == (USER_ID, "ann@example.com", members)


def test_headers_of_the_new_brand_are_accepted(local: LocalStackAuth) -> None:
    headers = {name.replace("x-stack-", "x-hexclave-"): value for name, value in SERVER.items()}
    got = ask(local, ME, {**headers, "x-hexclave-access-token": local.token()})
    assert got.status == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"access_type": "", "secret_server_key": "", "project_id": ""}, 400, "ACCESS_TYPE_REQUIRED"),
        ({"access_type": ""}, 400, "PROJECT_KEY_WITHOUT_ACCESS_TYPE"),
        (
            {"access_type": "", "secret_server_key": "", "admin_access_token": "x"},
            400,
            "PROJECT_KEY_WITHOUT_ACCESS_TYPE",
        ),
        ({"access_type": "root"}, 400, "INVALID_ACCESS_TYPE"),
        ({"project_id": ""}, 400, "ACCESS_TYPE_WITHOUT_PROJECT_ID"),
        ({"secret_server_key": ""}, 401, "SERVER_AUTHENTICATION_REQUIRED"),
        ({"secret_server_key": "ssk_wrong"}, 401, "INVALID_SECRET_SERVER_KEY"),
        ({"access_type": "admin"}, 401, "ADMIN_AUTHENTICATION_REQUIRED"),
        ({"access_type": "admin", "super_secret_admin_key": "x"}, 401, "INVALID_SUPER_SECRET_ADMIN_KEY"),
        ({"access_type": "client", "publishable_client_key": "x"}, 401, "INVALID_PUBLISHABLE_CLIENT_KEY"),
        ({"access_type": "client", "publishable_client_key": ""}, 200, None),
        ({"access_type": "client", "publishable_client_key": "__stack_public_client__"}, 200, None),
        ({"project_id": OTHER_PROJECT}, 401, "INVALID_PROJECT_FOR_ACCESS_TOKEN"),
        ({"project_id": "no", "access_token": ""}, 400, "CURRENT_PROJECT_NOT_FOUND"),
        ({"branch_id": "dev"}, 400, "BRANCH_DOES_NOT_EXIST"),
        ({"branch_id": "main"}, 200, None),
        ({"access_token": ""}, 400, "CANNOT_GET_OWN_USER_WITHOUT_USER"),
        ({"access_token": "garbage"}, 401, "UNPARSABLE_ACCESS_TOKEN"),
    ],
)
def test_each_check_has_its_error(
    local: LocalStackAuth, changes: dict[str, str], status: int, code: str | None
) -> None:
    got = me(local, **changes)
    assert (got.status, got.code) == (status, code)
    if code is not None:
        assert got.json["code"] == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        # each line is wrong in two ways; the earlier check speaks
        ({"access_type": "root", "project_id": ""}, "INVALID_ACCESS_TYPE"),
        ({"project_id": "", "access_token": "garbage"}, "ACCESS_TYPE_WITHOUT_PROJECT_ID"),
        ({"access_token": "garbage", "project_id": "no"}, "UNPARSABLE_ACCESS_TOKEN"),
        ({"access_token": "garbage", "secret_server_key": "x"}, "UNPARSABLE_ACCESS_TOKEN"),
        ({"access_token": "", "project_id": "no", "secret_server_key": ""}, "CURRENT_PROJECT_NOT_FOUND"),
        ({"secret_server_key": "x", "branch_id": "dev"}, "INVALID_SECRET_SERVER_KEY"),
        ({"branch_id": "dev", "access_token": ""}, "BRANCH_DOES_NOT_EXIST"),
    ],
)
def test_checks_run_in_the_order_of_the_back_end(local: LocalStackAuth, changes: dict[str, str], code: str) -> None:
    assert me(local, **changes).code == code


def test_a_key_may_be_required_of_clients(local: LocalStackAuth) -> None:
    local.add_project(PROJECT, publishable_client_key=PUBLISHABLE, require_publishable_client_key=True)
    assert me(local, CLIENT).status == 200
    for key in ("", "__stack_public_client__"):
        got = me(local, CLIENT, publishable_client_key=key)
        assert (got.status, got.code) == (401, "PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT")
        assert got.json["details"] == {"project_id": PROJECT}


def test_a_project_without_a_set_key_takes_any(local: LocalStackAuth) -> None:
    token = local.token(project_id=OTHER_PROJECT)
    for base in (SERVER, CLIENT, ADMIN):
        assert me(local, base, token=token, project_id=OTHER_PROJECT).status == 200
    got = me(local, token=token, project_id=OTHER_PROJECT, secret_server_key="")
    assert got.code == "SERVER_AUTHENTICATION_REQUIRED"


@pytest.mark.parametrize(
    ("user_type", "allow", "status", "code"),
    [
        ("anonymous", {}, 401, "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED"),
        ("anonymous", {"allow_restricted_user": "true"}, 401, "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED"),
        ("anonymous", {"allow_anonymous_user": "1"}, 401, "ANONYMOUS_AUTHENTICATION_NOT_ALLOWED"),
        ("anonymous", {"allow_anonymous_user": "true"}, 200, None),
        ("restricted", {}, 403, "RESTRICTED_USER_NOT_ALLOWED"),
        ("restricted", {"allow_restricted_user": "True"}, 403, "RESTRICTED_USER_NOT_ALLOWED"),
        ("restricted", {"allow_restricted_user": "true"}, 200, None),
        ("restricted", {"allow_anonymous_user": "true"}, 200, None),
    ],
)
def test_anonymous_and_restricted_users_pass_where_they_are_allowed(
    local: LocalStackAuth, user_type: str, allow: dict[str, str], status: int, code: str | None
) -> None:
    got = me(local, token=local.token(user_type=user_type), **allow)
    assert (got.status, got.code) == (status, code)
    if status == 200:
        assert got.json["is_restricted"] is True


def test_token_is_checked_and_the_body_shows_the_account(local: LocalStackAuth) -> None:
    ann = local.users.create()
    token = local.token(ann)
    local.users.restrict(ann.id, "spam")
    got = me(local, token=token)
    assert (got.status, got.json["is_restricted"], got.json["restricted_by_admin_reason"]) == (200, True, "spam")
    restricted = local.token(ann.id)
    local.users.unrestrict(ann.id)
    assert me(local, token=restricted).code == "RESTRICTED_USER_NOT_ALLOWED"


def test_token_of_a_deleted_user_has_no_user(local: LocalStackAuth) -> None:
    token = local.token(sub=USER_ID)
    local.users.delete(USER_ID)
    assert me(local, token=token).code == "CANNOT_GET_OWN_USER_WITHOUT_USER"
    assert me(local, token=local.token(sub=USER_ID)).code == "CANNOT_GET_OWN_USER_WITHOUT_USER"


def test_contradicting_token_is_a_server_error(local: LocalStackAuth) -> None:
    got = me(local, token=local.token(branch_id="dev"))
    assert (got.status, got.code) == (500, None)
    assert got.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("issuer_url", "api_url", "status"),
    [
        ("https://api.stack-auth.com", None, 200),
        ("https://api.hexclave.com", None, 200),
        ("https://api.hexclave.com", "https://own.example.com", 401),
        ("https://own.example.com", "https://own.example.com/base", 200),
    ],
)
def test_accepted_issuers(issuer_url: str, api_url: str | None, status: int) -> None:
    local = LocalStackAuth(PROJECT, api_url=api_url)
    token = local.token(iss=f"{issuer_url}/api/v1/projects/{PROJECT}")
    assert me(local, token=token).status == status


def test_issuer_url_of_a_created_token_is_accepted_afterwards(local: LocalStackAuth) -> None:
    bent = local.token(iss=f"https://two.example.com/api/v1/projects/{PROJECT}")
    assert me(local, token=bent).status == 401
    assert me(local, token=local.token(issuer_url="https://two.example.com/x")).status == 200
    assert me(local, token=bent).status == 200


def test_tokens_are_checked_without_the_database(local: LocalStackAuth) -> None:
    with local.database_down():
        assert me(local, token="garbage").code == "UNPARSABLE_ACCESS_TOKEN"
        assert me(local).status == 500
        assert ask(local, JWKS).status == 500
        assert ask(local, "/nowhere").status == 404
    assert me(local).status == 200


def test_session_of_the_token_is_the_current_one(local: LocalStackAuth) -> None:
    session = local.sign_in()
    got = ask(local, "/api/v1/auth/sessions?user_id=me", {**CLIENT, "x-stack-access-token": session.access_token})
    assert [(each["id"], each["is_current_session"]) for each in got.json["items"]] == [(session.session_id, True)]
    assert me(local, token="", access_type="client").code == "CANNOT_GET_OWN_USER_WITHOUT_USER"
