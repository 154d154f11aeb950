from __future__ import annotations

from stackauth_middleware.testing._projects import EVERY, Project, Projects, is_in
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, SECRET


def test_only_added_projects_exist() -> None:
    projects = Projects(any_id=False)
    assert projects.get(PROJECT) is None
    project = Project(id=PROJECT, secret_server_key=SECRET)
    projects.add(project)
    assert projects.get(PROJECT) is project
    assert projects.get(OTHER_PROJECT) is None
    projects.remove(PROJECT)
    assert projects.get(PROJECT) is None


def test_every_project_exists_unless_removed() -> None:
    projects = Projects(any_id=True)
    assert projects.get(PROJECT) == Project(id=PROJECT)
    projects.add(Project(id=PROJECT, secret_server_key=SECRET))
    assert projects.get(PROJECT) == Project(id=PROJECT, secret_server_key=SECRET)
    projects.remove(PROJECT)
    projects.remove(OTHER_PROJECT)
    assert projects.get(PROJECT) is None
    assert projects.get(OTHER_PROJECT) is None


def test_what_is_stored_for_every_project_is_in_each() -> None:
    assert (is_in(EVERY, "p"), is_in("p", "p"), is_in("q", "p")) == (True, True, False)
