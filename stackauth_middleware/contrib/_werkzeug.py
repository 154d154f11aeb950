"""What Flask and Quart share: a refusal as an exception of werkzeug."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.wrappers import Response

from ..errors import AuthServerError, RefusedError
from ._shared import refusal_of


def exception_of(request: Any, error: RefusedError | AuthServerError) -> HTTPException:
    """Return `error` as werkzeug's exception for its status; unanswered it is what the middleware would send."""
    refusal = refusal_of(request, error)
    answer = Response(refusal.response.body, refusal.status, list(refusal.response.headers))
    return default_exceptions[refusal.status](refusal.message, answer)
