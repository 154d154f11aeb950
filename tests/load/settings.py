"""What the apps under load and those who judge them have to agree on."""

from __future__ import annotations

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d11"
SECRET = "the-secret-server-key-of-the-soak"
PROFILE_TTL = 2.0
"""Seconds, so few that users/me is asked all the time."""
STALL = 0.25
"""Seconds without a turn that are noted: four of them take the one second that a request waits for an unknown key."""
CACHE_SIZE = 1000
"""Bound of each cache: small, so that it is full early and later growth is visible."""
