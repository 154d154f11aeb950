from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from stackauth_middleware import UserType
from stackauth_middleware.testing import Account, Accounts
from stackauth_middleware.testing._accounts import opaque
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, USER_ID


@pytest.fixture
def users() -> Accounts:
    return Accounts()


def test_created_account_is_found(users: Accounts) -> None:
    ann = users.create(primary_email="ann@example.com", display_name="Ann")
    assert str(uuid.UUID(ann.id)) == ann.id
    assert users.get(ann.id) == ann
    assert users.get(USER_ID) is None
    assert ann.id in users
    assert USER_ID not in users
    bob = users.create(USER_ID)
    assert bob.id == USER_ID
    assert list(users) == [ann, bob]
    assert len(users) == 2


def test_create_replaces_an_account_with_the_same_id(users: Accounts) -> None:
    users.create(USER_ID, display_name="Ann")
    assert users.create(USER_ID).display_name is None
    assert len(users) == 1


def test_update_changes_an_account(users: Accounts) -> None:
    users.create(USER_ID, display_name="Ann", has_password=True)
    changed = users.update(USER_ID, display_name="Anna")
    assert users.get(USER_ID) == changed == Account(id=USER_ID, display_name="Anna", has_password=True)


def test_restrict_and_unrestrict(users: Accounts) -> None:
    users.create(USER_ID)
    restricted = users.restrict(USER_ID, "spam", private_details="ticket 1")
    assert restricted.user_type is UserType.RESTRICTED
    assert restricted.restricted_reason == {"type": "restricted_by_administrator"}
    assert restricted.restricted_by_admin_reason == "spam"
    assert restricted.restricted_by_admin_private_details == "ticket 1"
    assert users.restrict(USER_ID).restricted_by_admin_reason is None
    assert users.unrestrict(USER_ID) == Account(id=USER_ID)


def test_verify_lifts_only_the_restriction_for_the_address(users: Accounts) -> None:
    users.create(USER_ID, must_verify_email=True)
    assert users.unrestrict(USER_ID).restricted_reason == {"type": "email_not_verified"}
    assert users.verify(USER_ID).restricted_reason is None
    users.restrict(USER_ID)
    assert users.verify(USER_ID).restricted_reason == {"type": "restricted_by_administrator"}


def test_deleted_account_is_not_found(users: Accounts) -> None:
    users.create(USER_ID)
    users.delete(USER_ID)
    assert users.get(USER_ID) is None
    assert list(users) == []
    assert users.create(USER_ID) == users.get(USER_ID)


def test_unknown_user_id_raises_key_error(users: Accounts) -> None:
    for change in (users.update, users.restrict, users.unrestrict, users.verify, users.delete):
        with pytest.raises(KeyError, match=USER_ID):
            change(USER_ID)


def test_auto_created_account_follows_tokens_until_updated(users: Accounts) -> None:
    users.auto_create(Account(id=USER_ID, display_name="One"))
    users.auto_create(Account(id=USER_ID, display_name="Two"))
    assert users.get(USER_ID) == Account(id=USER_ID, display_name="Two")
    assert users.explicit(USER_ID) is None
    touched = users.update(USER_ID, has_password=True)
    assert users.explicit(USER_ID) == touched
    users.auto_create(Account(id=USER_ID, display_name="Three"))
    assert users.get(USER_ID) == touched
    assert users.explicit("unknown") is None


def test_an_account_made_over_an_implied_one_is_chosen(users: Accounts) -> None:
    users.auto_create(Account(id=USER_ID, display_name="One"))
    made = users.create(USER_ID)
    assert users.explicit(USER_ID) == made
    users.auto_create(Account(id=USER_ID, display_name="Two"))
    assert users.get(USER_ID) == made


def test_deleted_account_is_not_auto_created_again(users: Accounts) -> None:
    users.auto_create(Account(id=USER_ID))
    users.delete(USER_ID)
    users.auto_create(Account(id=USER_ID))
    assert users.get(USER_ID) is None
    users.create(USER_ID)
    users.delete(USER_ID)
    users.auto_create(Account(id=USER_ID))
    assert USER_ID not in users


def test_a_session_belongs_to_one_project(users: Accounts) -> None:
    session = users.start_session(USER_ID, PROJECT)
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{45}", session.refresh_token)
    assert str(uuid.UUID(session.id)) == session.id
    assert users.session(session.refresh_token, PROJECT) == session
    assert users.session(session.refresh_token, OTHER_PROJECT) is None
    assert users.session("unknown", PROJECT) is None


def test_end_session_returns_whether_it_existed(users: Accounts) -> None:
    one, other = users.start_session(USER_ID, PROJECT), users.start_session(USER_ID, PROJECT)
    assert users.end_session(one.id) is True
    assert users.end_session(one.id) is False
    assert users.session(one.refresh_token, PROJECT) is None
    assert users.session(other.refresh_token, PROJECT) == other


def test_a_deleted_user_has_no_session_left(users: Accounts) -> None:
    users.create(USER_ID)
    other = users.create()
    gone, left = users.start_session(USER_ID, PROJECT), users.start_session(other.id, PROJECT)
    users.delete(USER_ID)
    assert users.session(gone.refresh_token, PROJECT) is None
    assert users.session(left.refresh_token, PROJECT) == left


def test_opaque_values_differ() -> None:
    assert len(opaque(16)) == 16
    assert len({opaque(16) for _ in range(100)}) == 100


def test_concurrent_creates_lose_no_account(users: Accounts) -> None:
    def work(number: int) -> None:
        account = users.create(display_name=str(number))
        users.restrict(account.id)
        list(users)
        users.end_session(users.start_session(account.id, PROJECT).id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert len(users) == 200
    assert all(each.restricted_by_admin for each in users)


def test_sessions_are_listed_newest_first_until_they_end() -> None:
    accounts = Accounts()
    old, new = (accounts.start_session("ann", "p", now_millis=at) for at in (1, 2))
    other = accounts.start_session("bob", "p", expires_at_millis=5)
    assert accounts.sessions("p", "ann") == [new, old]
    assert accounts.sessions("q") == []
    assert accounts.session_by_id(other.id, "p") == other
    assert accounts.session_by_id(other.id, "q") is None
    assert (accounts.session(other.refresh_token, "p", 4), accounts.session(other.refresh_token, "p", 5)) == (
        other,
        None,
    )
    assert other.refresh_token not in repr(other)
    accounts.use_session(old, 9)
    assert [each.last_used_at_millis for each in accounts.sessions("p", "ann")] == [2, 9]
    assert accounts.sessions("p", "ann")[1].read(old.id)["is_current_session"] is True
    accounts.end_sessions("ann")
    accounts.use_session(old, 10)
    assert accounts.sessions("p") == [other]


def test_auto_created_account_is_in_all_projects_of_its_tokens() -> None:
    accounts = Accounts()
    for projects in (frozenset({"p"}), frozenset({"q"})):
        accounts.auto_create(Account(id="ann", projects=projects))
    assert [account.projects for account in accounts] == [frozenset({"p", "q"})]
    accounts.auto_create(Account(id="ann"))
    accounts.auto_create(Account(id="ann", projects=frozenset({"p"})))
    assert [account.projects for account in accounts] == [None]


def test_deletion_is_reported() -> None:
    deleted: list[str] = []
    accounts = Accounts(deleted.append)
    accounts.delete(accounts.create().id)
    assert len(deleted) == 1
