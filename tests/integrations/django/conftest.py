"""The project of this folder, under each way in which Django may run the middleware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackauth_middleware.testing import LocalStackAuth

from . import project
from .project import Site, installed

CHAINS = {
    "WSGI": (False, ()),
    "ASGI": (True, ()),
    "WSGI above an async-only middleware": (False, (f"{project.__name__}.AsyncOnly",)),
    "ASGI above a sync-only middleware": (True, (f"{project.__name__}.SyncOnly",)),
}


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    yield
    project.ran.clear()


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> tuple[bool, tuple[str, ...]]:
    """Whether Django runs under ASGI, and what stands below the middleware."""
    found: tuple[bool, tuple[str, ...]] = CHAINS[request.param]
    return found


@pytest.fixture
def site(chain: tuple[bool, tuple[str, ...]], stackauth: LocalStackAuth) -> Iterator[Site]:
    """The project, asked by a test client, in each of these ways."""
    asgi, below = chain
    with installed(*below):
        yield Site(asgi=asgi)


@pytest.fixture(params=["WSGI", "ASGI"])
def asgi(request: pytest.FixtureRequest, stackauth: LocalStackAuth) -> bool:
    """Whether Django runs under ASGI, for tests that install the project in their own way."""
    return bool(request.param == "ASGI")
