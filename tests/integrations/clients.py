"""Starlette's test client, imported without its deprecation warning."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Starlette recommends a successor of httpx; it works with httpx.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

__all__ = ["TestClient", "WebSocketDenialResponse"]
