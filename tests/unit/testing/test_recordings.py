"""The local Stack Auth against the recordings of the real server, all of them.

``recordings.json`` is here; the other files are in the shared folder (``--shared-root``). A selection of those is in
tests/data and is replayed by the tests of the endpoints, in ``endpoints/``.
"""

from __future__ import annotations

import json

import pytest

from tests.data import load_recorded
from tests.shared import shared_path
from tests.unit.testing.replay import NOT_OFFERED, Recording, differences


def test_recordings_of_this_repository_are_answered_alike() -> None:
    compare(load_recorded("recordings"), 136)


@pytest.mark.parametrize(
    ("name", "same"),
    [("users", 65), ("api-keys", 86), ("teams-permissions", 89), ("sessions", 67), ("production-mode", 18)],
)
def test_shared_recordings_are_answered_alike(name: str, same: int) -> None:
    compare(json.loads(shared_path("real", f"{name}.json").read_text("utf-8")), same)


def compare(recordings: list[Recording], same: int) -> None:
    assert differences(recordings) == {}
    assert len([each for each in recordings if each["name"] not in NOT_OFFERED]) == same
