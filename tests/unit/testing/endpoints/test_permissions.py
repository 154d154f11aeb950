from __future__ import annotations

from tests.data import load_endpoints
from tests.unit.testing.replay import differences


def test_recordings_are_answered_alike() -> None:
    assert differences(load_endpoints("teams-permissions")) == {}
