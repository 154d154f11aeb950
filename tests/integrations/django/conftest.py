"""The project of this folder, in each way in which Django may run the middleware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackauth_middleware.testing import LocalStackAuth

from . import project
from .project import Site, installed

CHAINS = {
    "WSGI": (False, ()),
    "ASGI": (True, ()),
    "WSGI, above an async-only middleware": (False, (f"{project.__name__}.AsyncOnly",)),
    "ASGI, above a sync-only middleware": (True, (f"{project.__name__}.SyncOnly",)),
}


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    yield
    project.ran.clear()


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> tuple[bool, tuple[str, ...]]:
    """Whether Django runs under ASGI, and the middlewares below ours."""
    found: tuple[bool, tuple[str, ...]] = CHAINS[request.param]
    return found


@pytest.fixture
def site(chain: tuple[bool, tuple[str, ...]], stackauth: LocalStackAuth) -> Iterator[Site]:
    """A test client of the project, for each chain."""
    asgi, below = chain
    with installed(*below):
        yield Site(asgi=asgi)


@pytest.fixture(params=["WSGI", "ASGI"])
def asgi(request: pytest.FixtureRequest, stackauth: LocalStackAuth) -> bool:
    """Whether Django runs under ASGI, for tests that install the project themselves."""
    return bool(request.param == "ASGI")
