"""The pages of docs/: their code runs, and their tables say what the code does. Behaviour is tested where it lives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stackauth_middleware import StackAuthConfig, _cors, _notices
from stackauth_middleware._origins import Origins

from .test_readme import PROJECT

DOCS = Path(__file__).parents[1] / "docs"
CORS = (DOCS / "cors.md").read_text("utf-8")
CACHING = (DOCS / "caching.md").read_text("utf-8")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", [*blocks(CORS), *blocks(CACHING)])
def test_code_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_PROJECT_ID", PROJECT)
    if "django." in code:
        pytest.importorskip("django", reason="Django is not installed here")
        from .contrib.django import project  # noqa: F401 - gives Django its settings
    names: dict[str, object] = {}
    exec(compile(code, "docs", "exec"), names)
    assert "auth" not in names or isinstance(names["auth"], StackAuthConfig)


def test_table_of_origins_is_what_the_pattern_matches() -> None:
    rows = re.findall(r"^\| `(https?://\S+)` \| (yes|no) \|$", CORS, re.MULTILINE)
    assert len(rows) == 7
    allowed = Origins(["https://*.example.com"]).allowed
    assert [(origin, "yes" if allowed(origin) else "no") for origin, _ in rows] == rows


def test_figures_are_those_of_the_code() -> None:
    assert f"Access-Control-Max-Age: {_cors.MAX_AGE}" in CORS
    assert f"at most {_cors._MAX_METHOD}" in CORS
    assert f"(at most {_cors._MAX_HEADERS})" in CORS
    assert f"for at most {_notices.MAX_VALUES} origins a minute" in CORS.replace("\n", " ")
