"""Exceptions of the server API, which `stackauth_middleware.client` exports."""

from __future__ import annotations

from ...errors import StackAuthError, mask_secrets


class ApiError(StackAuthError):
    """Stack Auth answered a call of the server API with an error (docs/stack-auth.md section 6).

    The class depends on the code and the status, never on the text.

    Attributes:
        code: code of the answer, such as ``"SCHEMA_ERROR"``; "" if the answer has none.
        status: HTTP status of the answer.
        detail: method and path of the call, for logs.
        message: text of the answer, for developers. Stack Auth may quote an email address in it, so it is not part
            of ``str(error)``. Keys and tokens are masked.

    Not promised: a code for each error; old servers and some routes send a status alone.

    Example::

        try:
            client.request("POST", "/emails/send-email", json=email)
        except ApiError as error:
            log.warning("%s: %s", error, error.message)
    """

    def __init__(self, code: str, status: int, detail: str = "", message: str = "") -> None:
        message = mask_secrets(message[:1000])
        super().__init__(code, status, detail, message)
        self.code = code
        self.status = status
        self.detail = detail
        self.message = message

    def __str__(self) -> str:
        return f"{self.code or 'no code'} (status {self.status}): {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.status}, {self.detail!r})"


class NotFoundError(ApiError):
    """The user, team, permission, session or API key that a call of the server API names does not exist.

    Example::

        try:
            user = client.get_user(user_id)
        except NotFoundError:
            return page_not_found()
    """


class ConflictError(ApiError):
    """What a call of the server API would create exists already: a user with this email address, a membership.

    Example::

        try:
            client.update_user(user_id, primary_email=email)
        except ConflictError:
            return "another user signs in with this address"
    """


class PermissionDeniedError(ApiError):
    """Stack Auth does not allow this call of the server API; or an API key is expired or revoked.

    Example::

        try:
            key = client.check_api_key(value)
        except (NotFoundError, PermissionDeniedError) as error:
            raise HTTPException(401) from error
    """
