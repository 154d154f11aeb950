"""The fixture ``stackauth`` as test suites use it: in each scope, in any order, and with a clock that stands still.

Each test runs a suite of its own in this process.
"""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CLOCKS = {
    "freezegun": "from freezegun import freeze_time as at\nstep = lambda clock, seconds: clock.tick(seconds)\n",
    "time_machine": (
        "import time_machine\n"
        "at = lambda when: time_machine.travel(when, tick=False)\n"
        "step = lambda clock, seconds: clock.shift(seconds)\n"
    ),
}

SUITE = '''
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from stackauth_middleware import StackAuthASGIMiddleware, Verifier, get_user, load_profile


def me(request):
    return JSONResponse([get_user(request).claims["project_id"], load_profile(request).display_name])


@pytest.fixture(scope="{scope}")
def headers(stackauth):
    """Made before the config: the middleware is built at the first request."""
    return stackauth.headers(name="Ada")


@pytest.fixture(scope="{scope}")
def client(headers):
    app = Starlette(routes=[Route("/me", me)])
    app.add_middleware(
        StackAuthASGIMiddleware,
        project_id="12345678-1234-4234-8234-123456789012",
        secret_server_key="ssk_for_tests",
        api_url="https://auth.example.com",
    )
    return TestClient(app)


def test_first_request(headers, client):
    response = client.get("/me", headers=headers)
    assert response.json() == ["12345678-1234-4234-8234-123456789012", "Ada"]


@pytest.mark.parametrize("when", ["2020-02-29", "2031-05-01 12:00"])
def test_frozen_time(client, stackauth, when):
    with at(when) as clock:
        headers = stackauth.headers()
        assert client.get("/me", headers=headers).status_code == 200
        step(clock, 599)
        assert client.get("/me", headers=headers).status_code == 200
        step(clock, 20)
        assert client.get("/me", headers=headers).json()["code"] == "expired_token"
        assert client.get("/me", headers=stackauth.headers()).status_code == 200
    assert client.get("/me", headers=stackauth.headers()).status_code == 200


def test_other_configs_take_the_same_token(headers, stackauth):
    for project_id in ("internal", "87654321-4321-4321-8321-210987654321"):
        user = Verifier(project_id=project_id).verify(headers["x-stack-access-token"])
        assert user.claims["project_id"] == project_id
        assert user.user_id == stackauth.user().id
'''


@pytest.mark.parametrize(
    ("scope", "clock"), [("function", "freezegun"), ("module", "time_machine"), ("session", "freezegun")]
)
def test_tokens_are_good_in_any_order_and_at_any_time(pytester: pytest.Pytester, scope: str, clock: str) -> None:
    pytester.makeini(f"[pytest]\nstackauth_scope = {scope}\nfilterwarnings = ignore\n")
    pytester.makepyfile(CLOCKS[clock] + SUITE.replace("{scope}", scope))
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly").assert_outcomes(passed=4)


def test_unknown_scope_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nstackauth_scope = always\n")
    pytester.makepyfile("def test_x(stackauth): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*always*"])
    assert result.ret != 0
