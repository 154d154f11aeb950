from __future__ import annotations

from stackauth_middleware.testing import _store
from stackauth_middleware.testing._projects import Project
from stackauth_middleware.testing._store import ImplicitTokens, Store
from stackauth_middleware.testing._teams import Team
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, USER_ID


def test_only_the_newest_implicit_tokens_are_kept() -> None:
    tokens = ImplicitTokens()
    for number in range(_store._MAX_TOKENS + 1):
        tokens.add(str(number), lambda *where: "/".join(where))
    assert ("0" in tokens, "1" in tokens) == (False, True)
    assert tokens.signed_for("1", "p", "https://i") == "p/https://i"
    assert tokens.signed_for("0", "p", "https://i") is None


def test_what_belongs_to_a_user_or_team_goes_with_it() -> None:
    store = Store(any_project=False, clock=lambda: 1.5)
    store.add_project(Project(id=PROJECT), short_coordinates=True)
    store.add_project(Project(id=PROJECT), short_coordinates=False)
    store.accounts.create(USER_ID, projects=frozenset({PROJECT}))
    assert store.account(USER_ID, PROJECT)
    assert store.account(USER_ID, OTHER_PROJECT) is store.account(OTHER_PROJECT, PROJECT) is None
    session = store.start_session(USER_ID, PROJECT, seconds=2)
    assert (session.created_at_millis, session.expires_at_millis) == (1500, 3500)
    assert store.start_session(USER_ID, PROJECT).expires_at_millis is None
    store.teams.add(Team(id="t", project_id=PROJECT, display_name="T", created_at_millis=0))
    store.teams.add_member("t", USER_ID)
    keys = [
        store.api_keys.create("user", USER_ID, PROJECT, created_at_millis=0),
        store.api_keys.create("team", "t", PROJECT, created_at_millis=0),
    ]
    store.accounts.delete(USER_ID)
    assert store.teams.members("t") == []
    assert [store.api_keys.get(key.id, PROJECT) for key in keys] == [None, keys[1]]
    store.remove_team("t")
    assert store.api_keys.get(keys[1].id, PROJECT) is store.teams.get("t", PROJECT) is None
