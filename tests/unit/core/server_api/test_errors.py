"""Exceptions of the server API: masking, pickling and what they show."""

from __future__ import annotations

import pickle

import pytest

from stackauth_middleware import StackAuthError
from stackauth_middleware._core.server_api.errors import ApiError, ConflictError, NotFoundError, PermissionDeniedError


@pytest.mark.parametrize("kind", [ApiError, NotFoundError, ConflictError, PermissionDeniedError])
def test_error_masks_keys_shows_no_message_and_can_be_pickled(kind: type[ApiError]) -> None:
    error = kind("A_CODE", 400, "GET /users", "ssk_canary of jane")
    same = pickle.loads(pickle.dumps(error))
    assert type(same) is kind
    assert (same.code, same.status, same.detail, same.message) == ("A_CODE", 400, "GET /users", "ssk_*** of jane")
    assert isinstance(error, ApiError)
    assert isinstance(error, StackAuthError)
    assert str(error) == "A_CODE (status 400): GET /users"
    assert repr(error) == f"{kind.__name__}('A_CODE', 400, 'GET /users')"
    assert str(kind("", 404, "x")) == "no code (status 404): x"
