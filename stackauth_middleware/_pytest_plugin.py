"""The pytest plugin: the fixture ``stackauth``.

pytest imports this module in every test run on a machine where the package is installed. So it imports the
local Stack Auth only when a test uses the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .testing import LocalStackAuth


@pytest.fixture
def stackauth() -> Iterator[LocalStackAuth]:
    """A local Stack Auth that answers every verifier of the process while the test runs.

    It accepts any project id and any key. Tokens are by default for the project and issuer of the newest
    `StackAuthConfig`.
    """
    from .testing import LocalStackAuth

    with LocalStackAuth().in_process() as local:
        yield local
