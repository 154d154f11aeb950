"""The README and docs/: every Python block is run, or its marker gives the reason why not; what they cite exists.

The comment before a block states how it is run:

- ``<!-- app: NAME -->``: it defines the app NAME, which refuses ``GET /me`` without a token and answers with one.
  ``<!-- app: NAME in FILE -->``: it is also a file beside the page's tests.
- ``<!-- run -->``: it runs without an error while the fixture `stackauth` is active.
- ``<!-- refusal: JSON -->``: its config `auth` answers a request without a token with this body.
- ``<!-- file: NAME -->``: a file beside the page's tests.
- ``<!-- pytest: NAME -->``, ``<!-- unittest: NAME -->``: a test file; all its tests pass in a process of its own.
- ``<!-- not run: WHY -->``: it only compiles.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from stackauth_middleware import StackAuthWSGIMiddleware, User
from stackauth_middleware._core import cors, rate_limited_log
from stackauth_middleware._core.origins import Origins

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyramid.config  # noqa: F401  (it imports modules that are deprecated)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
CORS = (DOCS / "cors.md").read_text("utf-8")
KINDS = ("app", "run", "refusal", "file", "pytest", "unittest", "not run")
TESTED = ("pytest", "unittest")


class Block(NamedTuple):
    """A Python block: its page and line, and the parts of its marker."""

    page: str
    line: int
    kind: str
    argument: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """Yield the Python blocks of a page, also those that are indented in a list."""
    pattern = re.compile(r"(?:^[ ]*<!-- ([^\n]*?) -->\n)?^([ ]*)```python\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(text):
        kind, _, argument = (match[1] or "").partition(": ")
        line = text[: match.start(2)].count("\n") + 1
        yield Block(page, line, kind, argument, re.sub(f"^{match[2]}", "", match[3], flags=re.MULTILINE))


SOURCES = (ROOT / "README.md", *PAGES)
BLOCKS = [block for path in SOURCES for block in blocks_of(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())]


def blocks(*kinds: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.kind in kinds]


@pytest.fixture(autouse=True)
def settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)


def executed(block: Block, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # some frameworks look for the module of a handler
    exec(compile(block.code, str(block), "exec"), vars(module))
    return vars(module)


def test_every_python_fence_is_found_and_has_a_marker() -> None:
    """Fences are counted by another pattern than the one that finds the blocks."""
    fence = re.compile(r"^\s*`{3,}\s*(?:python|py|pycon)\b", re.MULTILINE)
    assert len(BLOCKS) == sum(len(fence.findall(path.read_text("utf-8"))) for path in SOURCES)
    wrong = [str(block) for block in BLOCKS if block.kind not in KINDS or (block.kind != "run" and not block.argument)]
    assert wrong == [], "each needs a marker, see above"
    for block in BLOCKS:
        compile(block.code, str(block), "exec")


def test_blocks_are_found_without_marker_and_in_lists() -> None:
    page = "```python\n1\n```\n\n<!-- run -->\n```python\n2\n```\n\n- y\n\n  <!-- app: a -->\n  ```python\n  3\n  ```\n"
    found = [(block.kind, block.argument, block.code) for block in blocks_of(page, "x")]
    assert found == [("", "", "1\n"), ("run", "", "2\n"), ("app", "a", "3\n")]


def asked(app: Any, *requests: dict[str, str]) -> list[tuple[int, Any]]:
    """Return status and body of ``GET /me`` for each of the `requests` headers, sent to an ASGI or WSGI app."""
    if len(inspect.signature(inspect.unwrap(type(app).__call__)).parameters) == 4:
        return asyncio.run(_asked_asgi(app, *requests))
    return [_asked_wsgi(app, headers) for headers in requests]


async def _asked_asgi(app: Any, *requests: dict[str, str]) -> list[tuple[int, Any]]:
    """Send the requests within one lifespan, without which Sanic and BlackSheep answer nothing."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    lifespan = asyncio.create_task(app(scope, events.get, answers.put))
    await events.put({"type": "lifespan.startup"})
    assert await asyncio.wait_for(answers.get(), timeout=30) == {"type": "lifespan.startup.complete"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        responses = [await client.get("/me", headers=headers) for headers in requests]
    await events.put({"type": "lifespan.shutdown"})
    await lifespan
    return [(response.status_code, response.json()) for response in responses]


def _asked_wsgi(app: Callable[..., Any], headers: dict[str, str]) -> tuple[int, Any]:
    environ: dict[str, Any] = {"PATH_INFO": "/me", "wsgi.input": io.BytesIO()}
    environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = app(environ, lambda status, _headers, _error=None: statuses.append(status))
    try:
        return int(statuses[0].split()[0]), json.loads(b"".join(body))
    finally:
        getattr(body, "close", lambda: None)()


@pytest.mark.parametrize("block", blocks("app"))
def test_app_refuses_without_token_and_answers_with_one(
    block: Block, stackauth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = executed(block, monkeypatch)[block.argument.partition(" in ")[0]]
    user_id = "22222222-2222-4222-8222-222222222222"
    (status, body), answer = asked(app, {}, stackauth.headers(sub=user_id))
    assert (status, body["code"]) == (401, "missing_token")
    assert answer == (200, {"user": user_id})


@pytest.mark.parametrize("block", blocks("run"))
def test_block_runs(block: Block, stackauth: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if "django." in block.code:
        from .integrations.django import project  # noqa: F401 - gives Django its settings
    executed(block, monkeypatch)


@pytest.mark.parametrize("block", blocks("refusal"))
def test_error_body_is_as_shown(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> list[bytes]:
        raise AssertionError("a refused request reached the app")

    config = executed(block, monkeypatch)["auth"]
    assert asked(StackAuthWSGIMiddleware(unreachable, config), {}) == [(401, json.loads(block.argument))]


def files_of(page: str) -> Iterator[tuple[str, Block]]:
    """Yield the file name of each block of `page` that is a file."""
    for block in BLOCKS:
        app_file = block.argument.partition(" in ")[2] if block.kind == "app" else ""
        if block.page == page and (app_file or block.kind in ("file", *TESTED)):
            yield app_file or block.argument, block


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.kind in TESTED}))
def test_tests_on_a_page_pass(page: str, tmp_path: Path) -> None:
    """In a folder with the files of the page: as many tests pass as the page shows, and none fails."""
    names_and_blocks = list(files_of(page))
    files = [block for _, block in names_and_blocks]
    for name, block in names_and_blocks:
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(block.code + "\n")
    for kind, command in (
        ("pytest", ["pytest", "-q", "-p", "no:cacheprovider", "-p", "no:faker"]),
        ("unittest", ["unittest"]),
    ):
        shown = [block for block in files if block.kind == kind]
        if not shown:
            continue
        names = sorted({block.argument for block in shown})
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if any(name == "conftest.py" for name, _ in names_and_blocks):
            env.pop("STACK_PROJECT_ID", None)  # set by the page itself
        done = subprocess.run(
            [sys.executable, "-m", *command, *names], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        count = sum(len(re.findall(r"^ *(?:async )?def test_", block.code, re.MULTILINE)) for block in shown)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(rf"^(?:{count} passed|Ran {count} tests?)[ ,]", done.stdout + done.stderr, re.MULTILINE)


def test_cited_sections_of_stack_auth_exist() -> None:
    """The sections of stack-auth.md are cited by number, so they are numbered without a gap."""
    numbers = re.findall(r"^## (\d+)\. ", (DOCS / "stack-auth.md").read_text("utf-8"), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    sources = [
        path for folder in ("stackauth_middleware", "tests", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    cited = [
        (path.name, number)
        for path in (*sources, *PAGES)
        for match in re.findall(r"stack-auth\.md,?\s+sections?\s+([\d, and]+)", path.read_text("utf-8"))
        for number in re.findall(r"\d+", match)
    ]
    assert [each for each in cited if each[1] not in numbers] == []


def test_every_rfc_that_the_code_cites_is_listed() -> None:
    """In standards.md; the other way round, a listed RFC need not be cited."""
    listed = set(re.findall(r"\[RFC (\d+)\]", (DOCS / "standards.md").read_text("utf-8")))
    cited = {
        number
        for path in (ROOT / "stackauth_middleware").rglob("*.py")
        for number in re.findall(r"RFC\s+(\d{4})", path.read_text("utf-8"))
    }
    assert len(cited) >= 7
    assert cited - listed == set()


def test_files_that_the_docs_name_exist() -> None:
    roots = (ROOT, ROOT / "stackauth_middleware")
    named = {
        (path.name, name)
        for path in SOURCES
        for name in re.findall(r"`((?:tests|docs|\.github|examples|_core|_io)/[\w./-]+)`", path.read_text("utf-8"))
    }
    assert len(named) >= 5
    assert [each for each in sorted(named) if not any((root / each[1]).exists() for root in roots)] == []


# -- single pages ----------------------------------------------------------------------------


def test_table_of_origins_is_what_the_pattern_matches() -> None:
    lines = re.findall(r"^\| `(https?://\S+)` \| (yes|no) \|$", CORS, re.MULTILINE)
    assert len(lines) == 7
    allowed = Origins(["https://*.example.com"]).allowed
    assert [(origin, "yes" if allowed(origin) else "no") for origin, _ in lines] == lines


def test_figures_are_those_of_the_code() -> None:
    assert f"Access-Control-Max-Age: {cors.MAX_AGE}" in CORS
    assert f"at most {cors._MAX_METHOD}" in CORS
    assert f"(at most {cors._MAX_HEADERS})" in CORS
    assert f"for at most {rate_limited_log.MAX_VALUES} origins a minute" in CORS.replace("\n", " ")


def test_table_of_user_fields_is_complete() -> None:
    text = (DOCS / "users.md").read_text("utf-8")
    (table,) = re.findall(r"^\| field \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [each.name for each in fields(User)]
