"""The recipes of examples/rows: one row for each user, on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .user_rows import AT_ONCE, ROWS

POSTGRES = os.environ.get("TEST_POSTGRES", "")
"""URL of an empty PostgreSQL database without its scheme, such as ``postgres@127.0.0.1:5432/rows``."""
RECIPES = sorted(path.stem for path in ROWS.glob("*.py"))
DRIVERS = {"rows_sqlalchemy": "psycopg", "rows_sqlmodel": "psycopg", "rows_sqlalchemy_async": "asyncpg"}


def rows(recipe: str, folder: Path, database: str) -> dict[str, Any]:
    """Run a recipe in a process of its own, with `database` as its ``DATABASE_URL``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.user_rows", recipe],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROWS.parents[1],
        env={
            **os.environ,
            "STACK_PROJECT_ID": "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063",
            "DATABASE_URL": database,
            "DATABASE_NAME": str(folder / "rows.db"),
        },
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any]) -> None:
    status, ada = found["first"][0]
    assert (status, ada["email"], ada["name"]) == (200, "ada@example.com", "Ada")
    assert found["first"] == [[200, ada]] * AT_ONCE, "requests at the same time get one row"
    assert len(found["processes"]) == 1, "processes that insert at the same time get one row"
    detail = {"detail": "Another account has this email address"}
    assert found["taken"] == [[409, detail]] * 2, "no row is taken over by its email address"
    assert found["renamed"] == [[200, {**ada, "name": "Ada L.", "email": "lovelace@example.com"}]]
    (status, bob), (_, eve) = found["after"]
    assert (status, bob["email"]) == (200, "ada@example.com"), "a refusal is not kept"
    assert eve == {"id": found["processes"][0], "email": None, "name": None}, "no unverified address is stored"
    assert len({ada["id"], bob["id"], eve["id"]}) == 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_row_is_inserted_once_and_updated_on_sqlite(recipe: str, tmp_path: Path) -> None:
    scheme = "sqlite+aiosqlite" if "async" in recipe else "sqlite"
    check(rows(recipe, tmp_path, f"{scheme}:///{tmp_path / 'rows.db'}"))


@pytest.mark.skipif(not POSTGRES, reason="TEST_POSTGRES names no empty PostgreSQL database")
@pytest.mark.parametrize("recipe", sorted(DRIVERS))
def test_row_is_inserted_once_and_updated_on_postgresql(recipe: str, tmp_path: Path) -> None:
    check(rows(recipe, tmp_path, f"postgresql+{DRIVERS[recipe]}://{POSTGRES}"))
