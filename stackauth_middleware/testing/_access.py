"""The checks that all endpoints share, in the order of the back end (docs/stack-auth.md section 5).

Combinations of headers, then the token, project, project keys and branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ._account import Account
from ._decode import Seen, decode
from ._projects import Project
from ._request import Request
from ._responses import KnownError, server_fault
from ._store import Store

PUBLIC_CLIENT: Final = "__stack_public_client__"
"""Placeholder for the publishable client key if none is required."""

ACCESS_TYPES: Final = ("client", "server", "admin")


class Access(NamedTuple):
    """The caller, after all checks that every endpoint makes.

    Attributes:
        project: the project.
        type: the access type: ``"client"``, ``"server"`` or ``"admin"``.
        seen: the content of the access token; None without a token.
        account: the user of the token; None without a token, and for a user who was deleted.
    """

    project: Project
    type: str
    seen: Seen | None
    account: Account | None

    @property
    def session_id(self) -> str | None:
        """The session of the token."""
        return None if self.seen is None else self.seen.session_id

    @property
    def own_account(self) -> Account:
        """The user of the token.

        Raises:
            KnownError: there is none.
        """
        if self.account is None:
            raise KnownError("CANNOT_GET_OWN_USER_WITHOUT_USER")
        return self.account


def checked_access(
    request: Request, store: Store, issuer_urls: Callable[[], frozenset[str]], *, database_down: bool
) -> Access | None:
    """Run the shared checks. Return None if the request has no access type.

    Args:
        request: the request.
        store: projects, accounts and keys.
        issuer_urls: returns the base URLs of the accepted issuers.
        database_down: fail once the token is checked.

    Raises:
        KnownError: a check fails.
        PlainError: the database is down, or the token's claims contradict each other.
    """
    access_type = request.header("access-type")
    names = ("publishable-client-key", "secret-server-key", "super-secret-admin-key", "admin-access-token")
    if not access_type:
        if any(request.header(name) for name in names):
            raise KnownError("PROJECT_KEY_WITHOUT_ACCESS_TYPE")
        return None
    if access_type not in ACCESS_TYPES:
        raise KnownError("INVALID_ACCESS_TYPE", access_type=access_type)
    project_id = request.header("project-id")
    if not project_id:
        raise KnownError("ACCESS_TYPE_WITHOUT_PROJECT_ID", {"request_type": access_type})
    seen = _seen(request, project_id, store, issuer_urls)
    if database_down:
        raise server_fault()
    project = store.projects.get(project_id)
    if project is None:
        raise KnownError("CURRENT_PROJECT_NOT_FOUND", {"project_id": project_id})
    _check_key(project, access_type, request)
    branch_id = request.header("branch-id") or "main"
    if branch_id != "main":
        raise KnownError("BRANCH_DOES_NOT_EXIST", {"branch_id": branch_id})
    return Access(project, access_type, seen, None if seen is None else store.account(seen.user_id, project_id))


def _seen(request: Request, project_id: str, store: Store, issuer_urls: Callable[[], frozenset[str]]) -> Seen | None:
    token = request.header("access-token")
    if not token:
        return None
    seen = decode(token, store.issuer, issuer_urls(), store.clock())
    if seen.project_id != project_id and token not in store.implicit_tokens:
        details = {"expected_project_id": project_id, "actual_project_id": seen.project_id}
        raise KnownError("INVALID_PROJECT_FOR_ACCESS_TOKEN", details)
    allow_anonymous = request.header("allow-anonymous-user") == "true"
    if seen.is_anonymous and not allow_anonymous:
        raise KnownError("ANONYMOUS_AUTHENTICATION_NOT_ALLOWED")
    if seen.is_restricted and not (allow_anonymous or request.header("allow-restricted-user") == "true"):
        reason = seen.restricted_reason
        raise KnownError("RESTRICTED_USER_NOT_ALLOWED", {"restricted_reason": reason}, reason=reason["type"])
    return seen


def _check_key(project: Project, access_type: str, request: Request) -> None:
    if access_type == "client":
        check_publishable_key(project, request.header("publishable-client-key"))
        return
    name = "secret-server-key" if access_type == "server" else "super-secret-admin-key"
    right = project.secret_server_key if access_type == "server" else project.super_secret_admin_key
    sent = request.header(name)
    if not sent:
        raise KnownError(f"{access_type.upper()}_AUTHENTICATION_REQUIRED")
    if right not in (None, sent):
        raise KnownError(f"INVALID_{name.upper().replace('-', '_')}", {"project_id": project.id})


def check_publishable_key(project: Project, sent: str) -> None:
    """Check a publishable client key.

    Raises:
        KnownError: it is missing but required, or wrong.
    """
    if sent in ("", PUBLIC_CLIENT):
        if project.require_publishable_client_key:
            raise KnownError("PUBLISHABLE_CLIENT_KEY_REQUIRED_FOR_PROJECT", {"project_id": project.id})
    elif project.publishable_client_key not in (None, sent):
        raise KnownError("INVALID_PUBLISHABLE_CLIENT_KEY", {"project_id": project.id})
