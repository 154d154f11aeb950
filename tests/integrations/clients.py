"""Starlette's test client, imported without its advice."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Starlette would rather be tested with another library of the same author; it works with httpx.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

__all__ = ["TestClient", "WebSocketDenialResponse"]
