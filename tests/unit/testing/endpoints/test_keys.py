from __future__ import annotations

from stackauth_middleware.testing import LocalStackAuth
from tests.data import load_endpoints
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("production-mode")) == {}


def test_project_id_with_a_nul_breaks_the_server() -> None:
    assert LocalStackAuth().answer("GET", "/api/v1/projects/a%00b/.well-known/jwks.json").status == 500
