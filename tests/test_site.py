"""The built site: every page is there, and the directives and checks that build it work.

Runs in the session ``docs``, after the build.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sphinx", reason="the session docs has Sphinx")

DOCS = Path(__file__).parents[1] / "docs"
SITE = DOCS / "_build" / "site"
if not SITE.exists():
    pytest.skip("the session docs builds the site before these tests", allow_module_level=True)
sys.path.insert(0, str(DOCS / "_ext"))

import from_code  # noqa: E402 - after the path is extended

from stackauth_middleware import ErrorCode, StackAuthConfig  # noqa: E402 - after the path is extended

from_code.set_up_django(SimpleNamespace())  # as the build does: the names of modules for Django need it

PAGES = sorted(path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md") if "_build" not in path.parts)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page_is_there_as_html_and_as_markdown(page: Path) -> None:
    assert (SITE / page.with_suffix(".html")).stat().st_size > 1000
    markdown = (SITE / page.with_suffix(".md")).read_text("utf-8")
    assert markdown.startswith("# ")
    assert not re.search(r"^```\{", markdown, re.MULTILINE), "a directive that was not executed"


def test_llms_txt_lists_every_page_once() -> None:
    listed = re.findall(r"^- \[.+\]\((.+)\): \S", (SITE / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(f"{page.as_posix()}.md" for page in PAGES if page.name != "index")


def test_every_setting_and_error_code_is_in_its_table() -> None:
    settings = (SITE / "reference" / "settings.md").read_text("utf-8")
    assert [each for each in StackAuthConfig.__annotations__ if f"| `{each}` " not in settings] == [
        each.name for each in dataclasses.fields(StackAuthConfig) if not each.init
    ]
    codes = (SITE / "reference" / "error-codes.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` ", codes, re.MULTILINE) == [each.value for each in ErrorCode]


def test_a_public_name_without_a_place_is_found() -> None:
    names = {f"{module}.{name}" for module, name, _ in from_code.public_names()}
    assert "stackauth_middleware.contrib.flask.require_auth" in names
    members = {
        f"{module}.{name}.{member}"
        for module, name, value in from_code.public_names()
        if isinstance(value, type)
        for member in from_code.public_members(value)
    }
    assert from_code.undocumented(names | members) == []
    for lost in ("stackauth_middleware.contrib.flask.require_auth", "stackauth_middleware.Verifier.verify"):
        assert from_code.undocumented((names | members) - {lost}) == [lost]


def test_a_public_name_without_an_example_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_code.without_example() == []
    fake = type("Fake", (), {"__doc__": "Do nothing.", "__module__": "stackauth_middleware.fake"})
    monkeypatch.setattr(from_code, "public_names", lambda: [("stackauth_middleware.fake", "Fake", fake)])
    assert from_code.without_example() == ["stackauth_middleware.fake.Fake"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (["a: x"], r"without a line here: \['b'\]"),
        (["a: x", "b:"], r"without a line here: \['b'\]"),
        (["a: x", "b: y", "c: z"], r"not in the code: \['c'\]"),
    ],
)
def test_a_table_whose_lines_do_not_fit_the_code_is_an_error(body: list[str], complaint: str) -> None:
    table: Any = SimpleNamespace(content=body)
    with pytest.raises(ValueError, match=complaint):
        from_code.FromCode.described(table, ["a", "b"])


class Settings:
    """Do something."""

    one: int = 1
    """Documented below
    the field."""

    two: int = 2


def test_field_docs_are_read_from_below_the_field() -> None:
    assert from_code.field_docs(Settings) == {"one": "Documented below the field."}
