"""Shared by Flask and Quart: refusals as werkzeug exceptions."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.wrappers import Response

from ..errors import AuthServerError, RefusedError
from ._shared import refusal_of


def exception_of(request: Any, error: RefusedError | AuthServerError) -> HTTPException:
    """Return the werkzeug exception for the status of `error`. Unhandled, it renders the middleware's own response."""
    refusal = refusal_of(request, error)
    answer = Response(refusal.response.body, refusal.status, list(refusal.response.headers))
    return default_exceptions[refusal.status](refusal.message, answer)
