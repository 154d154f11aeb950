"""The pages of docs/: every Python block is run, or a marker says why it cannot be; what they cite exists.

The comment before a block says how it is run:

- ``<!-- app: NAME -->``: it defines the app NAME, which refuses ``GET /me`` without a token and answers with one.
- ``<!-- run -->``: it runs without an error while the fixture `stackauth` is active.
- ``<!-- file: NAME -->``: a file beside the page's tests.
- ``<!-- pytest: NAME -->``, ``<!-- unittest: NAME -->``: a test file; all its tests pass in a process of its own.
- ``<!-- not run: WHY -->``: it only compiles.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from stackauth_middleware._core import cors, rate_limited_log
from stackauth_middleware._core.origins import Origins
from tests.test_readme import PROJECT, asked

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
CORS = (DOCS / "cors.md").read_text("utf-8")
KINDS = ("app", "run", "file", "pytest", "unittest", "not run")


class Block(NamedTuple):
    """A Python block: where it stands, and its marker taken apart."""

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


BLOCKS = [block for path in PAGES for block in blocks_of(path.read_text("utf-8"), path.relative_to(DOCS).as_posix())]


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


def test_every_python_fence_is_found_and_says_how_it_is_run() -> None:
    """Counted in another way than the blocks are: a fence that the pattern misses is a failure here."""
    fence = re.compile(r"^\s*`{3,}\s*(?:python|py|pycon)\b", re.MULTILINE)
    assert len(BLOCKS) == sum(len(fence.findall(path.read_text("utf-8"))) for path in PAGES)
    wrong = [str(block) for block in BLOCKS if block.kind not in KINDS or (block.kind != "run" and not block.argument)]
    assert wrong == [], "each needs a marker, see above"
    for block in BLOCKS:
        compile(block.code, str(block), "exec")


def test_a_block_without_a_marker_is_seen() -> None:
    page = "```python\n1\n```\n\n<!-- run -->\n```python\n2\n```\n\n- y\n\n  <!-- app: a -->\n  ```python\n  3\n  ```\n"
    found = [(block.kind, block.argument, block.code) for block in blocks_of(page, "x")]
    assert found == [("", "", "1\n"), ("run", "", "2\n"), ("app", "a", "3\n")]


@pytest.mark.parametrize("block", blocks("app"))
def test_app_refuses_and_admits(block: Block, stackauth: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = executed(block, monkeypatch)[block.argument]
    status, body = asked(app, {})
    assert (status, body["code"]) == (401, "missing_token")
    user_id = "22222222-2222-4222-8222-222222222222"
    assert asked(app, stackauth.headers(sub=user_id)) == (200, {"user": user_id})


@pytest.mark.parametrize("block", blocks("run"))
def test_block_runs(block: Block, stackauth: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if "django." in block.code:
        from .integrations.django import project  # noqa: F401 - gives Django its settings
    executed(block, monkeypatch)


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.kind in ("pytest", "unittest")}))
def test_tests_on_a_page_pass(page: str, tmp_path: Path) -> None:
    """In a folder with the files of the page: as many tests pass as the page shows, and none fails."""
    files = [block for block in BLOCKS if block.page == page and block.kind in ("file", "pytest", "unittest")]
    for block in files:
        with (tmp_path / block.argument).open("a", encoding="utf-8") as file:
            file.write(block.code + "\n")
    for kind, command in (("pytest", ["pytest", "-q", "-p", "no:cacheprovider"]), ("unittest", ["unittest"])):
        shown = [block for block in files if block.kind == kind]
        if not shown:
            continue
        names = sorted({block.argument for block in shown})
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        env.pop("STACK_PROJECT_ID", None)  # the page has to set what its tests need
        done = subprocess.run(
            [sys.executable, "-m", *command, *names], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        count = sum(len(re.findall(r"^ *(?:async )?def test_", block.code, re.MULTILINE)) for block in shown)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(rf"^(?:{count} passed|Ran {count} tests?)[ ,]", done.stdout + done.stderr, re.MULTILINE)


def test_the_sections_that_are_cited_exist() -> None:
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


# -- what single pages say ----------------------------------------------------------------------------


def test_table_of_origins_is_what_the_pattern_matches() -> None:
    rows = re.findall(r"^\| `(https?://\S+)` \| (yes|no) \|$", CORS, re.MULTILINE)
    assert len(rows) == 7
    allowed = Origins(["https://*.example.com"]).allowed
    assert [(origin, "yes" if allowed(origin) else "no") for origin, _ in rows] == rows


def test_figures_are_those_of_the_code() -> None:
    assert f"Access-Control-Max-Age: {cors.MAX_AGE}" in CORS
    assert f"at most {cors._MAX_METHOD}" in CORS
    assert f"(at most {cors._MAX_HEADERS})" in CORS
    assert f"for at most {rate_limited_log.MAX_VALUES} origins a minute" in CORS.replace("\n", " ")
