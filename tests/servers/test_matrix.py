"""The matrix of servers and frameworks: docs/reference/matrix.md says what each cell shows, and each is run here."""

from __future__ import annotations

import pytest

from stackauth_middleware.testing import LocalStackAuth

from . import matrix
from .scenarios import LIMITS, RACES, WORKS

COMMITTED = matrix.committed()


def _same(title: str, row: matrix.Row) -> None:
    expected = COMMITTED[title]
    assert row.keys() == expected.keys(), title
    for scenario, outcome in row.items():
        may_work = scenario in RACES and expected[scenario] in LIMITS
        assert outcome == expected[scenario] or (may_work and outcome == WORKS), f"{title}: {scenario} is {outcome}"


@pytest.mark.parametrize("cell", matrix.CELLS, ids=lambda cell: f"{cell.title}-{'-'.join(cell.sites)}")
def test_server_is_as_the_page_says(cell: matrix.Cell, local: LocalStackAuth) -> None:
    for title, row in matrix.run(cell, local).items():
        _same(title, row)


@pytest.mark.parametrize("library", matrix.LIBRARIES)
def test_events_of_functions_are_as_the_page_says(library: str, local: LocalStackAuth) -> None:
    for title, row in matrix.run_events(library, local).items():
        _same(title, row)


def test_page_is_what_the_run_would_write() -> None:
    """By hand nothing is changed: the page is made of its own cells, and has each cell that is run."""
    assert matrix.table(COMMITTED) == matrix.PAGE.read_text("utf-8")
    titles = [f"{cell.title} | {site}" for cell in matrix.CELLS for site in cell.sites]
    assert list(COMMITTED) == [*titles, "mangum | asgi", "serverless-wsgi | wsgi"]
