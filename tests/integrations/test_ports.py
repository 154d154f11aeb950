"""examples/ports: what ten integrations wrote by hand, each with at most ten lines of authentication code."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from .ports import CHECKS, PORTS, TEAM

MAX_LINES = 10
JANE = "22222222-2222-4222-8222-222222222222"
ANSWERS: dict[str, list[Any]] = {
    "profile": [[401, "missing_token"], [200, {"id": JANE, "email": "jane@example.com"}], [200, {"plan": "pro"}]],
    "admin": [[403, "forbidden"], [204, None], [404, {"detail": "Not Found"}]],
    "rest": [[200, {"id": JANE, "name": "Jane"}]] * 2 + [1],
    "users": [[200, {"id": JANE, "email": "jane@example.com"}], [200, "Janet"], [204, None], False],
    "teams_and_keys": [
        [403, "forbidden"],
        [200, {"team": TEAM, "author": JANE, "by_program": False}],
        [200, {"team": TEAM, "author": JANE, "by_program": True}],
        [403, "forbidden"],
    ],
    "team_page": [[403, "forbidden"], [200, {"may_invite": True}]],
    "metadata": [[204, None], [200, {"plan": "pro"}]],
    "anonymous": [
        [200, {"draft_of": TEAM, "guest": True}],
        [401, "anonymous_not_allowed"],
        [201, {"published_by": JANE}],
    ],
    "key_account": [[200, {"account": 1}], [200, {"account": 1}], [401, "invalid_api_key"]],
}


@pytest.fixture(scope="module")
def answers() -> dict[str, list[Any]]:
    env = {
        **os.environ,
        "STACK_PROJECT_ID": "6fbbf22e-f4b2-4c6e-95a1-beab6fa41063",
        "STACK_SECRET_SERVER_KEY": "ssk_abcdefgh",
    }
    command = [sys.executable, "-m", "tests.integrations.ports"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PORTS.parents[1], env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_port_answers(name: str, answers: dict[str, list[Any]]) -> None:
    assert answers[name] == ANSWERS[name]


def test_port_of_the_websocket_answers(answers: dict[str, list[Any]]) -> None:
    refused, (status, pro), accepted, closed = answers["websocket"]
    assert (refused, status) == ([403, "forbidden"], 200)
    assert accepted == [["websocket.accept", None], ["websocket.send", {"id": pro["for"]}], ["websocket.close", 1000]]
    assert closed == [["websocket.close", 3000]]


def auth_lines(source: str) -> list[int]:
    """Return the lines that import from the package, or that use what they import or what is made of it at the top."""
    tree = ast.parse(source)
    names: set[str] = set()
    lines: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stackauth_middleware"):
            names |= {alias.asname or alias.name for alias in node.names}
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.Assign) and names & {
            each.id for each in ast.walk(node) if isinstance(each, ast.Name)
        }:
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sorted(lines | {each.lineno for each in ast.walk(tree) if isinstance(each, ast.Name) and each.id in names})


def test_lines_that_use_the_package_are_counted() -> None:
    source = (
        "from stackauth_middleware import (\n    Rule,\n)\nimport os\na = Rule(\n    '/x'\n)\nb = os.sep\nprint(a)\n"
    )
    assert auth_lines(source) == [1, 2, 3, 5, 6, 7, 9]


def test_every_port_is_run_and_has_at_most_ten_lines_of_authentication_code() -> None:
    sources = {path.stem: path.read_text("utf-8") for path in PORTS.glob("*.py")}
    assert (
        set(sources)
        == {f"port_{check.__name__}" for check in CHECKS}
        == {f"port_{name}" for name in ANSWERS} | {"port_websocket"}
    )
    counts = {name: len(auth_lines(source)) for name, source in sources.items()}
    assert {name: count for name, count in counts.items() if count > MAX_LINES} == {}
