"""A local Stack Auth for test suites, which needs no network.

pytest finds the fixture ``stackauth`` by itself: ``def test_x(stackauth: LocalStackAuth)``. Elsewhere::

    local = LocalStackAuth()
    with local.in_process():
        response = client.get("/me", headers=local.headers(email="jane@example.com"))
"""

from ._account import Account, team
from ._accounts import Accounts
from ._claims import OMIT
from ._local import LocalStackAuth
from ._signing import SignedIn
from ._teams import Team

__all__ = ["OMIT", "Account", "Accounts", "LocalStackAuth", "SignedIn", "Team", "team"]
