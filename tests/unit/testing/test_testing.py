"""Public names of `stackauth_middleware.testing`, and what it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stackauth_middleware import testing


def test_public_names_exist() -> None:
    assert sorted(testing.__all__) == ["Account", "Accounts", "LocalStackAuth", "OMIT", "SignedIn", "Team", "team"]
    for name in testing.__all__:
        assert getattr(testing, name).__module__.startswith("stackauth_middleware.testing.")


@pytest.mark.parametrize("name", ["stackauth_middleware.testing", "stackauth_middleware.testing._local"])
def test_neither_http_clients_nor_pytest_are_imported(name: str) -> None:
    code = f"import sys, {name}; print([m for m in ('pytest', 'requests', 'httpx', 'anyio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_plugin_does_not_import_the_local_stack_auth() -> None:
    code = (
        "import sys, stackauth_middleware; before = set(sys.modules)\n"
        "import stackauth_middleware._pytest_plugin\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('stackauth_middleware')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['stackauth_middleware._pytest_plugin']"
