from __future__ import annotations

import subprocess
import sys

import pytest

from stackauth_middleware import testing


def test_what_is_promised_is_there() -> None:
    assert sorted(testing.__all__) == ["Account", "Accounts", "LocalStackAuth", "OMIT", "SignedIn", "team"]
    for name in testing.__all__:
        assert getattr(testing, name).__module__.startswith("stackauth_middleware.testing.")
    with pytest.raises(AttributeError, match=r"module 'stackauth_middleware.testing' has no attribute 'nothing'"):
        testing.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["stackauth_middleware.testing", "stackauth_middleware.testing._local"])
def test_no_client_and_no_pytest_is_imported(name: str) -> None:
    code = f"import sys, {name}; print([m for m in ('pytest', 'requests', 'httpx', 'anyio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_plugin_imports_nothing_of_this_package_but_itself() -> None:
    code = (
        "import sys, stackauth_middleware; before = set(sys.modules)\n"
        "import stackauth_middleware.testing.plugin\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('stackauth_middleware')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['stackauth_middleware.testing', 'stackauth_middleware.testing.plugin']"
