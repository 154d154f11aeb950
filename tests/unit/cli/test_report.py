"""Findings and their text form."""

from __future__ import annotations

import argparse
import math

import pytest

from stackauth_middleware._cli._report import (
    add_settings,
    bare,
    config_from,
    fails,
    holds,
    shown,
    skipped,
    span,
)
from tests.unit.cli.ask import PROJECT


def test_findings_are_lines() -> None:
    assert str(holds("form", "good")) == "ok    form        good"
    assert str(fails("form", "bad")) == "FAIL  form        bad"
    assert str(skipped("form", "dark")) == "--    form        dark"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86400 * 3 + 1, "3 d 1 s"),
        (math.inf, "for ever"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_shown_escapes_and_cuts() -> None:
    """Control characters are escaped, and long values are cut."""
    assert shown("\x1b[2J\u202eé") == r"'\x1b[2J\u202e\xe9'"
    assert shown("x" * 50, 10) == "'xxxxxxxxx... (52 characters)"
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "(nested too deeply)"
    while nested:  # some interpreters recurse when they free it
        nested = nested.pop()


def test_bare_names_need_no_quotes() -> None:
    assert bare("dCt-mFmwjW6F") == "dCt-mFmwjW6F"
    assert bare("a b\n") == r"'a b\n'"
    assert bare("a" * 41) == "'" + "a" * 39 + "... (43 characters)"


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STACK_API_URL", "HEXCLAVE_API_URL", "NEXT_PUBLIC_STACK_API_URL", "NEXT_PUBLIC_HEXCLAVE_API_URL"):
        monkeypatch.delenv(name, raising=False)
    parser = argparse.ArgumentParser()
    add_settings(parser)
    options = parser.parse_args(
        f"--project-id {PROJECT} --api-url http://stack:8102 --allow-http "
        "--issuer-url https://a.example.com --issuer-url https://b.example.com".split()
    )
    config = config_from(options, allow_restricted=True)
    assert config.project_id == PROJECT
    assert config.api_url == "http://stack:8102"
    assert config.issuer_url == ("https://a.example.com", "https://b.example.com")
    assert (config.allow_restricted, config.allow_anonymous) == (True, False)
    plain = config_from(parser.parse_args(["--project-id", PROJECT]))
    assert plain.api_url == "https://api.stack-auth.com"
    assert plain.issuer_url == ()
