"""The pytest plugin: the fixture ``stackauth``.

pytest imports this module in every test run on a machine where the package is installed. So it imports the
local Stack Auth only when a test uses the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .testing import LocalStackAuth


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "stackauth_scope",
        "Scope of the fixture stackauth: function, class, module, package or session.",
        default="function",
    )


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    return config.getini("stackauth_scope")


@pytest.fixture(scope=_scope)
def stackauth() -> Iterator[LocalStackAuth]:
    """A local Stack Auth that answers every verifier of the process while the test runs.

    It accepts any project id and any key. Every config of the process accepts its tokens, whether it is made before or
    after them. The pytest setting ``stackauth_scope`` sets the scope of the fixture, such as ``module`` or ``session``.
    """
    from .testing import LocalStackAuth

    with LocalStackAuth().in_process() as local:
        yield local
