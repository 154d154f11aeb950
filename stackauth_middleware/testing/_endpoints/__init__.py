"""The endpoints of the local Stack Auth, and the table of all of them."""

from __future__ import annotations

from .._context import Endpoint
from . import api_keys, keys, permissions, sessions, teams, users

ENDPOINTS: tuple[Endpoint, ...] = (
    *keys.ENDPOINTS,
    *users.ENDPOINTS,
    *sessions.ENDPOINTS,
    *teams.ENDPOINTS,
    *permissions.ENDPOINTS,
    *api_keys.ENDPOINTS,
)
"""Of several that match a request, the first is used."""
