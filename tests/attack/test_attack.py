"""That the oracle sees: each way to break a guard shows in seconds, and a finding can be replayed from its line."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys

import pytest

from . import requests, table
from .broken import BROKEN
from .report import Checked, summary


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"nothing"}))
def test_broken_guard_is_found_in_seconds(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack.broken", name, "20", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    found = [line for line in done.stdout.splitlines() if "FINDING handler" in line]
    assert found
    site, attack = requests.read(re.findall("--replay '(.*)'", found[0])[0])
    assert attack.line(site) in found[0]


def test_every_handler_requires_what_its_rule_says() -> None:
    """What is known of a route's caller and what its rule asks for are written apart: they must not drift apart."""
    for route in table.ROUTES:
        rule = route.rule()
        assert (rule.access == "public") == (table.MET_BY[route.requires] == set(table.CALLERS))
        assert (rule.access == "required") == ("none" not in table.MET_BY[route.requires])
        assert (rule.check is not None) == (table.MET_BY[route.requires] == {"admin"})
        assert bool(rule.allow_restricted or rule.allow_anonymous) == (
            "restricted" in (table.MET_BY[route.requires] - {"none"}) and route.requires != "public"
        )


@pytest.mark.parametrize(
    ("run", "caller", "is_wrong"),
    [
        (("me", "member", ""), "member", False),
        (("me", None, ""), "none", True),
        (("me", "admin", ""), "member", True),
        (("admin", "member", ""), "member", True),
        (("healthz", None, ""), "junk", False),
        (("hello", None, ""), "junk", True),
        (("guest", "anonymous", ""), "anonymous", False),
    ],
)
def test_trespass_is_judged_by_caller_and_user(
    run: tuple[str, str | None, str], caller: table.Caller, is_wrong: bool
) -> None:
    assert (table.trespass(table.Run(*run), caller) is not None) == is_wrong


def test_same_seed_draws_the_same_requests_and_each_survives_its_line() -> None:
    one, other = (random.Random("7") for _ in range(2))
    for _ in range(500):
        attack = requests.attack(one, ("http", "websocket"))
        assert attack == requests.attack(other, ("http", "websocket"))
        assert requests.read(attack.line("a/b")) == ("a/b", attack)
        assert json.loads(attack.line("a/b"))["site"] == "a/b"
        attack.target.encode("latin-1")


def test_summary_is_a_line_that_continuous_integration_counts() -> None:
    checked = [Checked("a", 5, "", []), Checked("b", 5, "", ["x"])]
    assert re.fullmatch(r"1 failed, 1 passed in [0-9.]+s", summary(checked, 1.0, "1").splitlines()[-1])
    assert summary(checked[:1], 1.0, "1").splitlines()[-1] == "1 passed in 1.0s"
