"""The rows that design.md promises, and the exceptions that carry them."""

from __future__ import annotations

import pickle
import traceback
import types
from collections.abc import Callable

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
    clear_frame_locals,
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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("project_id is 'ssk_abc'; it must be", "project_id is 'ssk_***'; it must be"),
        ("x is ['pck_a', 'sak_b', sk_c, PK_d, wrt_e]", "x is ['pck_***', 'sak_***', sk_***, PK_***, wrt_***]"),
        ("x is 'ssk_abc\\ndef'", "x is 'ssk_***'"),
        ("x is 'my_ssk_abc'", "x is 'my_ssk_***'"),
        ("x is 'pck_ssk_abc'", "x is 'pck_***'"),
        ("x is 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIi.c2ln-_'", "x is 'eyJ***'"),
        ("x is 'Bearer stackauth_eyJhY2Nlc3N+/=='", "x is 'Bearer stackauth_eyJ***'"),
        ("x is 'https://user:p@ss@host/x'", "x is 'https://***@host/x'"),
        ("it must start with 'ssk_'", "it must start with 'ssk_'"),
        ("of another kind (ssk_\u2026, hidden)", "of another kind (ssk_\u2026, hidden)"),
        ("unknown setting 'risk_scores'; task_list", "unknown setting 'risk_scores'; task_list"),
        ("STACK_SECRET_SERVER_KEY of stackauth_middleware", "STACK_SECRET_SERVER_KEY of stackauth_middleware"),
    ],
)
def test_a_config_error_hides_what_looks_like_a_secret(message: str, shown: str) -> None:
    error = ConfigError(message)
    assert str(error) == shown
    assert error.args == (shown,)


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


# -- what an exception shows --------------------------------------------------------------------------

CANARY = "a token"
OURS = """
def decodes(text):
    carrier = text
    int(carrier)

def refuses(text):
    token = text
    try:
        decodes(token)
    except ValueError:
        raise RefusedError(ErrorCode.INVALID_TOKEN) from None

def names_its_cause(text):
    token = text
    try:
        decodes(token)
    except ValueError as error:
        raise RefusedError(ErrorCode.FORBIDDEN) from error

def enters(function, text):
    try:
        function(text)
    except BaseException as error:
        clear_frame_locals(error)
        del text
        raise
"""


@pytest.fixture
def ours() -> types.SimpleNamespace:
    """Return functions that pass for those of a module of the package."""
    names = {**vars(errors), "__name__": "stackauth_middleware._of_ours"}
    exec(OURS, names)
    return types.SimpleNamespace(**names)


def raised_by(ours: types.SimpleNamespace, function: Callable[[str], None]) -> BaseException:
    with pytest.raises(RefusedError) as raised:
        ours.enters(function, CANARY)
    return raised.value


def shown(error: BaseException) -> str:
    """Return what an error tracker shows of `error`, with the variables of each frame but this file's."""
    rendered = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in rendered.stack:
        if frame.filename == __file__ and frame.locals:
            frame.locals.clear()
    return "".join(rendered.format())


def test_the_variables_of_frames_that_were_left_are_forgotten(ours: types.SimpleNamespace) -> None:
    error = raised_by(ours, ours.refuses)
    assert CANARY not in shown(error)
    assert [each.name for each in traceback.extract_tb(error.__traceback__)][1:] == ["enters", "refuses"]


def test_what_it_came_of_inside_is_dropped(ours: types.SimpleNamespace) -> None:
    """A failed decoder holds its input, which no rendering shows and any inspection finds."""
    assert raised_by(ours, ours.refuses).__context__ is None


def test_a_cause_that_was_named_stays(ours: types.SimpleNamespace) -> None:
    """It is an app's own, raised by a check."""
    error = raised_by(ours, ours.names_its_cause)
    assert isinstance(error.__cause__, ValueError)
    assert error.__context__ is error.__cause__


def test_what_the_caller_was_handling_stays(ours: types.SimpleNamespace) -> None:
    own = "a variable of the caller"
    handled = LookupError(own)
    try:
        raise handled
    except LookupError:
        error = raised_by(ours, ours.refuses)
    assert error.__context__ is handled
    assert handled.__traceback__ is not None
    assert handled.__traceback__.tb_frame.f_locals["own"] == own


def test_an_error_that_was_never_raised_has_nothing_to_forget() -> None:
    error = RefusedError(ErrorCode.INVALID_TOKEN)
    error.__context__ = ValueError("never raised either")
    clear_frame_locals(error)
    assert error.__context__ is not None
