"""The rows that design.md promises, and the exceptions that carry them."""

from __future__ import annotations

import pickle

import pytest

from stackauth_middleware import errors
from stackauth_middleware.errors import (
    AuthServerError,
    ConfigError,
    ErrorCode,
    Event,
    RefusalInfo,
    RefusedError,
    StackAuthError,
)

PROMISED = {
    "MISSING_TOKEN": ("missing_token", 401, "", "Access token required"),
    "INVALID_REQUEST": ("invalid_request", 400, "invalid_request", "Ambiguous or malformed credentials"),
    "INVALID_TOKEN": ("invalid_token", 401, "invalid_token", "Invalid or expired access token"),
    "EXPIRED_TOKEN": ("expired_token", 401, "invalid_token", "Access token has expired"),
    "ANONYMOUS_NOT_ALLOWED": ("anonymous_not_allowed", 401, "invalid_token", "Sign-in required"),
    "RESTRICTED_NOT_ALLOWED": ("restricted_not_allowed", 403, "insufficient_scope", "Account is restricted"),
    "FORBIDDEN": ("forbidden", 403, "insufficient_scope", "Not allowed"),
    "SERVER_ERROR": ("auth_server_error", 503, None, "Authentication server error"),
    "MISCONFIGURED": ("auth_misconfigured", 500, None, "Authentication server error"),
}


def test_the_rows_are_those_of_the_promise() -> None:
    """No row more, none less, none changed: clients branch on the codes."""
    assert {row.name: (row.value, row.status, row.challenge, row.message) for row in ErrorCode} == PROMISED


@pytest.mark.parametrize("row", ErrorCode, ids=lambda row: row.name)
def test_a_row_is_found_by_its_code(row: ErrorCode) -> None:
    assert ErrorCode(row.value) is row  # type: ignore[call-arg]
    assert pickle.loads(pickle.dumps(row)) is row


def test_our_failures_are_never_blamed_on_the_client() -> None:
    """A 5xx brings no challenge, and nothing but a 5xx goes without one."""
    assert {row for row in ErrorCode if row.challenge is None} == {row for row in ErrorCode if row.status >= 500}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RefusedError(ErrorCode.INVALID_TOKEN, "the signature does not hold"),
            "invalid_token: the signature does not hold",
        ),
        (RefusedError(ErrorCode.MISSING_TOKEN), "missing_token: Access token required"),
        (AuthServerError(ErrorCode.SERVER_ERROR, 7, "no keys"), "auth_server_error: no keys"),
        (AuthServerError(ErrorCode.MISCONFIGURED), "auth_misconfigured: Authentication server error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_says_its_row_and_its_detail(error: StackAuthError, text: str) -> None:
    assert str(error) == text


def test_the_attributes_of_an_error_survive_pickling() -> None:
    """Process pools and task queues send exceptions from one process to another."""
    refused = pickle.loads(pickle.dumps(RefusedError(ErrorCode.RESTRICTED_NOT_ALLOWED, "why", "email_not_verified")))
    assert (refused.code, refused.detail, refused.restricted_reason) == (
        ErrorCode.RESTRICTED_NOT_ALLOWED,
        "why",
        "email_not_verified",
    )
    failed = pickle.loads(pickle.dumps(AuthServerError(ErrorCode.SERVER_ERROR, 3, "why")))
    assert (failed.code, failed.retry_after, failed.detail) == (ErrorCode.SERVER_ERROR, 3, "why")
    assert str(pickle.loads(pickle.dumps(ConfigError("why")))) == "why"


def test_what_an_error_knows_when_it_is_told_nothing() -> None:
    refused, failed = RefusedError(ErrorCode.FORBIDDEN), AuthServerError(ErrorCode.MISCONFIGURED)
    assert (refused.detail, refused.restricted_reason) == ("", None)
    assert (failed.detail, failed.retry_after) == ("", None)


def test_the_family_tree() -> None:
    """A wrong setting is a ValueError too; a refusal is not, lest a handler of its own kind swallow it."""
    assert issubclass(ConfigError, StackAuthError)
    assert issubclass(ConfigError, ValueError)
    for kind in (RefusedError, AuthServerError):
        assert kind.__mro__[1:3] == (StackAuthError, Exception)


@pytest.mark.parametrize("told", [RefusalInfo("GET", "/"), Event("GET", "/")], ids=lambda told: type(told).__name__)
def test_what_hooks_are_told_cannot_be_changed(told: RefusalInfo | Event) -> None:
    """All hooks of a request are handed the same object."""
    with pytest.raises(AttributeError):
        told.path = "/other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(told)) == told


def test_the_module_exports_what_it_defines() -> None:
    assert set(errors.__all__) == {
        "AuthServerError",
        "ConfigError",
        "ErrorCode",
        "Event",
        "RefusalInfo",
        "RefusedError",
        "StackAuthError",
    }
