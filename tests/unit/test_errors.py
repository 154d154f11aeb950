"""Error codes and exceptions: their values, messages, masking, pickling, and what tracebacks show."""

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
    "INVALID_API_KEY": ("invalid_api_key", 401, "invalid_token", "Invalid API key"),
    "EXPIRED_API_KEY": ("expired_api_key", 401, "invalid_token", "API key has expired"),
    "ANONYMOUS_NOT_ALLOWED": ("anonymous_not_allowed", 401, "invalid_token", "Sign-in required"),
    "RESTRICTED_NOT_ALLOWED": ("restricted_not_allowed", 403, "insufficient_scope", "Account is restricted"),
    "FORBIDDEN": ("forbidden", 403, "insufficient_scope", "Not allowed"),
    "SERVER_ERROR": ("auth_server_error", 503, None, "Authentication server error"),
    "MISCONFIGURED": ("auth_misconfigured", 500, None, "Authentication server error"),
}


def test_error_codes_are_the_documented_ones() -> None:
    """Clients branch on them."""
    assert {code.name: (code.value, code.status, code.challenge, code.message) for code in ErrorCode} == PROMISED


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_error_code_is_found_by_its_value_and_survives_pickling(code: ErrorCode) -> None:
    assert ErrorCode(code.value) is code
    assert pickle.loads(pickle.dumps(code)) is code


def test_exactly_the_5xx_codes_have_no_challenge() -> None:
    assert {code for code in ErrorCode if code.challenge is None} == {code for code in ErrorCode if code.status >= 500}


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
def test_text_of_an_error_is_its_code_and_detail(error: StackAuthError, text: str) -> None:
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
        ('x is "https://u:pa\'ss@h/"; it must', 'x is "https://***@h/"; it must'),
        ("x is 'https://u:pa ss@h'; it must", "x is 'https://***@h'; it must"),
        ("x is ['https://h', 'https://u:p\"ss@h']", "x is ['https://***@h']"),
        ("x is 'https:/u:pass@h'; it must", "x is '***@h'; it must"),
        ("x is 'u:pass@h'; it must", "x is '***@h'; it must"),
        ("x is 'u x:pa ss@h'; it must", "x is '***@h'; it must"),
        ("x is 'u:pass://x@h'; it must", "x is '***@h'; it must"),
        ("path is '/users/:id/@me'; 'user@h'", "path is '/users/:id/@me'; 'user@h'"),
        ("x is ['ssk_ab,REST', \"ssk_a'b\"]; it", "x is ['ssk_***', \"ssk_***\"]; it"),
        ("it must start with 'ssk_'", "it must start with 'ssk_'"),
        ("of another kind (ssk_\u2026, hidden)", "of another kind (ssk_\u2026, hidden)"),
        ("unknown setting 'risk_scores'; task_list", "unknown setting 'risk_scores'; task_list"),
        ("STACK_SECRET_SERVER_KEY of stackauth_middleware", "STACK_SECRET_SERVER_KEY of stackauth_middleware"),
    ],
)
def test_config_error_masks_secrets(message: str, shown: str) -> None:
    error = ConfigError(message)
    assert str(error) == shown
    assert error.args == (shown,)


def test_attributes_of_an_error_survive_pickling() -> None:
    """Process pools and task queues pickle exceptions."""
    refused = pickle.loads(pickle.dumps(RefusedError(ErrorCode.RESTRICTED_NOT_ALLOWED, "why", "email_not_verified")))
    assert (refused.code, refused.detail, refused.restricted_reason) == (
        ErrorCode.RESTRICTED_NOT_ALLOWED,
        "why",
        "email_not_verified",
    )
    failed = pickle.loads(pickle.dumps(AuthServerError(ErrorCode.SERVER_ERROR, 3, "why")))
    assert (failed.code, failed.retry_after, failed.detail) == (ErrorCode.SERVER_ERROR, 3, "why")
    assert str(pickle.loads(pickle.dumps(ConfigError("why")))) == "why"


def test_attributes_of_an_error_default_to_empty() -> None:
    refused, failed = RefusedError(ErrorCode.FORBIDDEN), AuthServerError(ErrorCode.MISCONFIGURED)
    assert (refused.detail, refused.restricted_reason) == ("", None)
    assert (failed.detail, failed.retry_after) == ("", None)


def test_only_config_error_is_a_value_error() -> None:
    """An ``except ValueError`` of an app must not swallow a refusal."""
    assert issubclass(ConfigError, StackAuthError)
    assert issubclass(ConfigError, ValueError)
    for kind in (RefusedError, AuthServerError):
        assert kind.__mro__[1:3] == (StackAuthError, Exception)


@pytest.mark.parametrize(
    "argument", [RefusalInfo("GET", "/"), Event("GET", "/")], ids=lambda argument: type(argument).__name__
)
def test_arguments_of_hooks_are_immutable(argument: RefusalInfo | Event) -> None:
    """All hooks of a request get the same object."""
    with pytest.raises(AttributeError):
        argument.path = "/other"
    assert pickle.loads(pickle.dumps(argument)) == argument


def test_module_exports_its_public_names() -> None:
    assert set(errors.__all__) == {
        "AuthServerError",
        "ConfigError",
        "ErrorCode",
        "Event",
        "RefusalInfo",
        "RefusedError",
        "StackAuthError",
    }


# -- tracebacks --------------------------------------------------------------------------------------

CANARY = "a token"
OURS = """
def decodes(text):
    header = text
    int(header)

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
    """Return functions that seem to belong to a module of this package."""
    names = {**vars(errors), "__name__": "stackauth_middleware._module"}
    exec(OURS, names)
    return types.SimpleNamespace(**names)


def raised_by(ours: types.SimpleNamespace, function: Callable[[str], None]) -> BaseException:
    with pytest.raises(RefusedError) as raised:
        ours.enters(function, CANARY)
    return raised.value


def shown(error: BaseException) -> str:
    """Return `error` as an error tracker shows it, with the variables of all frames except those of this file."""
    rendered = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in rendered.stack:
        if frame.filename == __file__ and frame.locals:
            frame.locals.clear()
    return "".join(rendered.format())


def test_variables_of_finished_frames_are_cleared(ours: types.SimpleNamespace) -> None:
    error = raised_by(ours, ours.refuses)
    assert CANARY not in shown(error)
    assert [each.name for each in traceback.extract_tb(error.__traceback__)][1:] == ["enters", "refuses"]


def test_internal_context_is_dropped(ours: types.SimpleNamespace) -> None:
    """The exception of a decoder holds its input in an attribute."""
    assert raised_by(ours, ours.refuses).__context__ is None


def test_explicit_cause_is_kept(ours: types.SimpleNamespace) -> None:
    """It comes from a ``check`` function of the app."""
    error = raised_by(ours, ours.names_its_cause)
    assert isinstance(error.__cause__, ValueError)
    assert error.__context__ is error.__cause__


def test_exception_that_the_caller_is_handling_is_kept(ours: types.SimpleNamespace) -> None:
    own = "a variable of the caller"
    handled = LookupError(own)
    try:
        raise handled
    except LookupError:
        error = raised_by(ours, ours.refuses)
    assert error.__context__ is handled
    assert handled.__traceback__ is not None
    assert handled.__traceback__.tb_frame.f_locals["own"] == own


def test_error_that_was_never_raised_is_unchanged() -> None:
    error = RefusedError(ErrorCode.INVALID_TOKEN)
    error.__context__ = ValueError("never raised either")
    clear_frame_locals(error)
    assert error.__context__ is not None
