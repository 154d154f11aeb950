"""Fixtures shared with the security tests: an issuer in place of the network, and clocks moved by hand."""

from __future__ import annotations

from tests.security.conftest import attempts, clock, config, issuer, keys, looks, network, up

__all__ = ["attempts", "clock", "config", "issuer", "keys", "looks", "network", "up"]
