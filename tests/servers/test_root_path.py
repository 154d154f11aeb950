"""Litestar under servers with a root path, which it removes from any part of a path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stackauth_middleware.testing import LocalStackAuth

from .processes import Served, serving, settings_for
from .wire import ask


@pytest.fixture(scope="module", params=["hypercorn-root-path", "uvicorn-root-path"])
def served(request: pytest.FixtureRequest, local: LocalStackAuth) -> Iterator[Served]:
    with serving(request.param, "tests.servers.litestar_app:application", settings_for(local)) as served:
        yield served


def test_no_target_reaches_a_protected_handler(served: Served, local: LocalStackAuth) -> None:
    open_to_all = ["/r1/healthz", "/r1/public/a"] if served.name.startswith("hypercorn") else ["/healthz", "/public/a"]
    for target in open_to_all:
        answer = ask(served.port, target)
        assert (answer.status, answer.body.decode()[:4]) == (200, target.removeprefix("/r1")[:4])
    for target in (
        "/admin",
        "/r1/admin",
        "//r1/admin",
        "/r1//admin",
        "/public/r1/admin",
        "/public/r1admin",
        "/public/api/admin",
        "/public/../admin",
        "/r1/public/r1/admin",
        "/healthz/r1/admin",
        "//r1",
        "/r1%2fadmin",
        "/public%2fr1%2fadmin",
        "/r1/api/admin",
    ):
        answer = ask(served.port, target)
        if answer.status == 200:  # it must be the handler of a public route
            assert answer.body.decode() in ("/public/{name}", "/public", "/healthz", "/"), target
        else:
            assert answer.status in (401, 404), target
        assert ask(served.port, target, [("X-Stack-Access-Token", "garbage")]).body != b"/admin"
    plain = "/r1/admin" if served.name.startswith("hypercorn") else "/admin"
    assert ask(served.port, plain).code == "missing_token"
    refused = ask(served.port, "/public/r1/admin", [("X-Stack-Access-Token", local.token())])
    assert refused.body != b"/admin", "the check of the rule, which refuses all users, was bypassed"
