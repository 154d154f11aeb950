from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware.testing import LocalStackAuth
from stackauth_middleware.testing._context import Context
from stackauth_middleware.testing._request import Request
from stackauth_middleware.testing._responses import KnownError
from tests.data import load_endpoints
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("teams-permissions")) == {}
    assert differences(load_endpoints("users")) == {}


def test_context_without_access_names_the_missing_header() -> None:
    local: Any = LocalStackAuth()
    context = Context(local._store, local._refreshed, Request("GET", "/", {}, {}, b""), {}, None)
    with pytest.raises(KnownError, match="ACCESS_TYPE_REQUIRED"):
        context.project_id  # noqa: B018
