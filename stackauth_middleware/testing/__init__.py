"""A local Stack Auth for test suites, without a network.

As a pytest fixture it is there with the package: ``def test_x(stackauth: LocalStackAuth)``. Elsewhere::

    local = LocalStackAuth()
    with local.in_process():
        response = client.get("/me", headers=local.headers(email="jane@example.com"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "OMIT": "_claims",
    "Account": "_account",
    "Accounts": "_accounts",
    "LocalStackAuth": "_local",
    "SignedIn": "_local",
    "team": "_account",
}

__all__ = ["OMIT", "Account", "Accounts", "LocalStackAuth", "SignedIn", "team"]

if TYPE_CHECKING:
    from ._account import Account as Account
    from ._account import team as team
    from ._accounts import Accounts as Accounts
    from ._claims import OMIT as OMIT
    from ._local import LocalStackAuth as LocalStackAuth
    from ._local import SignedIn as SignedIn
else:  # a type checker would take it for a promise of any name

    def __getattr__(name: str) -> Any:
        # the pytest plugin lives here too, and is imported in every run of everybody who has the package installed
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
