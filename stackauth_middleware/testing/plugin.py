"""The pytest plugin: one fixture, ``stackauth``.

pytest loads this module in every run of everybody who has the package installed; so what it needs
is imported when the fixture is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import LocalStackAuth


@pytest.fixture
def stackauth() -> Iterator[LocalStackAuth]:
    """A local Stack Auth that every verifier of the process talks to for the length of the test.

    It knows every project that it is asked for, and takes any key for one. Tokens are by default for
    the project and issuer of the `StackAuthConfig` made last.
    """
    from . import LocalStackAuth

    with LocalStackAuth().in_process() as local:
        yield local
