"""Shared by Starlette and FastAPI: conversion of our response records."""

from __future__ import annotations

from starlette.responses import Response

from .._core import records


def response_of(response: records.Response) -> Response:
    """Return `response` as a Starlette response with the same bytes."""
    made = Response(response.body, response.status)
    made.raw_headers = list(response.raw_headers)
    return made
