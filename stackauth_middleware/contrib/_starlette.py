"""What Starlette and FastAPI share: a response with the octets that the middleware would send."""

from __future__ import annotations

from starlette.responses import Response

from .._core import records


def response_of(response: records.Response) -> Response:
    """Return `response` as Starlette's."""
    made = Response(response.body, response.status)
    made.raw_headers = list(response.raw_headers)
    return made
