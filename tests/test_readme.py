"""The README: its code runs, its tables are the code's, and its commands are the ones that are run."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from stackauth_middleware import StackAuthConfig, StackAuthWSGIMiddleware, User
from stackauth_middleware._cli import COMMANDS
from stackauth_middleware.errors import ErrorCode

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"


class Block(NamedTuple):
    """A code block: the comment before it, the heading above it, its language and its text."""

    comment: str
    heading: str
    language: str
    code: str
    line: int


def blocks() -> Iterator[Block]:
    pattern = re.compile(r"(?:<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(TEXT):
        before = TEXT[: match.start()]
        heading = re.findall(r"^#+ (.+)$", before, re.MULTILINE)[-1]
        yield Block(match[1] or "", heading, match[2], match[3], before.count("\n") + 1)


BLOCKS = list(blocks())
PYTHON = [block for block in BLOCKS if block.language == "python"]


def marked(kind: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{block.heading}-{block.line}")
        for block in PYTHON
        if block.comment.partition(":")[0] == kind
    ]


def executed(block: Block, **names: Any) -> dict[str, Any]:
    """Return the names of a module that holds the block: Litestar looks for the one of its handlers."""
    module = sys.modules["readme"] = ModuleType("readme")
    vars(module).update(names)
    exec(compile(block.code, f"README.md:{block.line}", "exec"), vars(module))
    return vars(module)


@pytest.fixture(autouse=True)
def settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    yield
    sys.modules.pop("readme", None)


# -- code ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{block.heading}-{block.line}") for block in PYTHON])
def test_every_block_compiles(block: Block) -> None:
    compile(block.code, f"README.md:{block.line}", "exec")


def test_blocks_are_found() -> None:
    """A block that the tests below pass over for want of a marker is named here, and has a test of its own."""
    headings = Counter(block.heading for block in PYTHON if not block.comment)
    contrib = {  # each goes on from the app above it; tests/integrations holds the same, and runs it
        "FastAPI, with the user as a dependency": 1,
        "Litestar, with a guard": 1,
        "Quart, with a decorator": 1,
        "Falcon, with a hook": 1,
        "Flask": 2,
        "Bottle": 1,
        "Django": 3,
    }
    assert headings == {"Anything else": 1, **contrib}
    assert len(marked("django")) == 2
    assert len(marked("test")) == 1
    assert len(marked("app")) == 15
    assert len(marked("settings")) == 10


def asked(app: Any, headers: dict[str, str]) -> tuple[int, Any]:
    """Return the status and body of ``GET /me``, asked in whichever of the two ways `app` speaks."""
    return (_asked_asgi if _is_asgi(app) else _asked_wsgi)(app, headers)


def _is_asgi(app: Any) -> bool:
    call = inspect.unwrap(type(app).__call__)
    return len(inspect.signature(call).parameters) == 4


def _asked_asgi(app: Any, headers: dict[str, str]) -> tuple[int, Any]:
    async def ask() -> tuple[int, Any]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            response = await client.get("/me", headers=headers)
            return response.status_code, response.json()

    return asyncio.run(ask())


def _asked_wsgi(app: Callable[..., Any], headers: dict[str, str]) -> tuple[int, Any]:
    environ: dict[str, Any] = {"PATH_INFO": "/me", "wsgi.input": io.BytesIO()}
    environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    setup_testing_defaults(environ)
    seen: list[str] = []
    body = app(environ, lambda status, _headers, _error=None: seen.append(status))
    try:
        return int(seen[0].split()[0]), json.loads(b"".join(body))
    finally:
        getattr(body, "close", lambda: None)()


@pytest.mark.parametrize("block", marked("app"))
def test_every_app_refuses_and_admits(block: Block, stackauth: Any) -> None:
    """Each way of mounting keeps nobody out of nothing: 401 without a token, the user's id with one."""
    app = executed(block)[block.comment.partition(": ")[2]]
    status, body = asked(app, {})
    assert (status, body["code"]) == (401, "missing_token")
    user_id = "22222222-2222-4222-8222-222222222222"
    assert asked(app, stackauth.headers(sub=user_id)) == (200, {"user": user_id})


DJANGO = """
from django.conf import settings
from django.http import JsonResponse
from django.test import Client
from django.urls import path
import django

from stackauth_middleware import require_user
from stackauth_middleware.testing import LocalStackAuth

settings.configure(
    INSTALLED_APPS=INSTALLED_APPS, MIDDLEWARE=MIDDLEWARE, STACK_AUTH=STACK_AUTH,
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None,
)
urlpatterns = [
    path("me", lambda request: JsonResponse({"user": require_user(request).user_id})),
    path("healthz", lambda request: JsonResponse({})),
]
django.setup()
from django.core.management import call_command

call_command("check", fail_level="WARNING")
with LocalStackAuth().in_process() as local:
    client = Client()
    print([client.get(path, headers=headers).status_code
        for path, headers in (("/me", {}), ("/me", local.headers()), ("/healthz", {}))])
"""


@pytest.mark.parametrize("block", marked("django"))
def test_the_django_settings(block: Block) -> None:
    """In a process of its own, since a process has one set of Django settings."""
    done = subprocess.run([sys.executable, "-c", block.code + DJANGO], capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["[401, 200, 200]"], 0), done.stderr


@pytest.mark.parametrize("block", marked("settings"))
def test_every_settings_block_makes_a_config(block: Block) -> None:
    config = executed(block)["auth"]
    assert isinstance(config, StackAuthConfig)
    expected = block.comment.partition(": ")[2]
    if expected:
        status, body = _asked_wsgi(StackAuthWSGIMiddleware(_unreachable, config), {})
        assert (status, body) == (401, json.loads(expected))


def _unreachable(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError("a refused request reached the app")


def test_rules_do_what_is_said_of_them() -> None:
    only_api, all_but, _ = (
        executed(block)["auth"].policy for block in PYTHON if block.heading == "Rules" and block.comment
    )
    assert [only_api("GET", path, "").access for path in ("/", "/api", "/api/x")] == ["public", "required", "required"]
    assert [all_but("GET", path, "").access for path in ("/docs/x", "/healthz", "/x")] == [
        "public",
        "public",
        "required",
    ]
    assert all_but("POST", "/healthz", "").access == "required"


def test_the_staff_rule_lets_in_staff_only(stackauth: Any) -> None:
    block = next(block for block in PYTHON if "/staff" in block.code)
    check = next(rule.check for rule in executed(block)["auth"].rules if rule.check)
    from stackauth_middleware import Verifier

    with Verifier(project_id=PROJECT) as verifier:
        users = [
            verifier.verify(stackauth.token(email=email, email_verified=verified))
            for email, verified in (("a@example.com", True), ("a@example.com", False), ("a@example.org", True))
        ]
    assert [check(user) for user in users] == [True, False, False]


@pytest.mark.filterwarnings("default:Using `httpx` with `starlette.testclient`")  # httpx is what this package needs
@pytest.mark.parametrize("block", marked("test"))
def test_the_test_of_an_app_passes_and_can_fail(block: Block, stackauth: Any) -> None:
    """The five lines hold for a protected app, and fail for one that is not."""
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    first = next(each for each in PYTHON if each.heading == "Starlette")
    protected = executed(first)["app"]
    executed(block, app=protected, TestClient=TestClient)["test_me"](stackauth)
    unprotected = Starlette(routes=protected.routes)
    with pytest.raises(Exception, match=r"user|401"):
        executed(block, app=unprotected, TestClient=TestClient)["test_me"](stackauth)


def test_the_verifier_without_a_door(stackauth: Any) -> None:
    block = next(block for block in PYTHON if block.heading == "Anything else")
    names = executed(block)
    try:
        assert names["user_of"]({}) is None
        assert names["user_of"](stackauth.headers()).user_type == "normal"
        with pytest.raises(PermissionError, match="Invalid"):
            names["user_of"]({"x-stack-access-token": "undefined"})
    finally:
        names["verifier"].close()


# -- tables --------------------------------------------------------------------------------------------


def table(first_cell: str) -> list[list[str]]:
    """Return the rows of the table whose head begins with `first_cell`, without the head."""
    found = re.search(rf"^\| {first_cell} \|.*\n\| ---.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found, first_cell
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in found[1].splitlines()]


def test_settings_table() -> None:
    """Names, order and defaults are those of `StackAuthConfig`."""
    from_environment = ("project_id", "secret_server_key", "publishable_client_key", "api_url")
    expected = [
        (f"`{each.name}`", "env" if each.name in from_environment else f"`{each.default!r}`")
        for each in fields(StackAuthConfig)
        if each.init
    ]
    assert [(row[0], row[1]) for row in table("setting")] == expected


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table marks is read from the environment under the names that the text gives."""
    for prefix in ("STACK_", "HEXCLAVE_", "NEXT_PUBLIC_STACK_", "NEXT_PUBLIC_HEXCLAVE_"):
        monkeypatch.delenv("STACK_PROJECT_ID", raising=False)
        with monkeypatch.context() as patch:
            patch.setenv(f"{prefix}PROJECT_ID", PROJECT)
            patch.setenv(f"{prefix}SECRET_SERVER_KEY", "ssk_1")
            config = StackAuthConfig()
            assert config.project_id == PROJECT
            assert config.secret_server_key == ("" if "PUBLIC" in prefix else "ssk_1")


def test_error_table() -> None:
    """Codes, statuses, messages and their order are those of `ErrorCode`; each says what to do."""
    rows = table("code")
    assert [row[:3] for row in rows] == [[f"`{each.value}`", str(each.status), each.message] for each in ErrorCode]
    assert all(len(row) == 4 and row[3] for row in rows)


def test_challenges_are_as_said() -> None:
    with_challenge = {each.status for each in ErrorCode if each.challenge is not None}
    assert with_challenge == {400, 401, 403}
    assert [each.status for each in ErrorCode if each.challenge is None] == [503, 500]


def test_user_table() -> None:
    assert [row[0] for row in table("field")] == [f"`{each.name}`" for each in fields(User)]


def test_command_table() -> None:
    assert [row[0] for row in table("command")] == [f"`{name}`" for name in COMMANDS]


# -- commands ------------------------------------------------------------------------------------------


def command(name: str) -> str:
    (found,) = (block for block in BLOCKS if block.comment == f"command: {name}")
    assert found.language == "sh"
    assert found.code.count("\n") == 1, "one line, to be pasted"
    return found.code.strip()


def test_ci_runs_the_command_of_the_readme() -> None:
    """The line that .ci/run takes out of the README is the one shown there, whole."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (extract,) = re.findall(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    done = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == command("all checks")
    assert 'bash -c "$command"' in script


def test_commands_install_what_is_declared() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra, script = re.findall(r'"\.\[(\w+)\]".*\.venv/bin/(\S+) demo', command("demo"))[0]
    assert extra in project["optional-dependencies"]
    assert project["scripts"][script] == "stackauth_middleware._cli:main"
    assert "nox" in command("all checks")
    assert (ROOT / "noxfile.py").exists()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
