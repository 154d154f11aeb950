"""Every recorded answer of users/me to a GET: what was asked, and what the answer means.

The names are those of the recordings. What was asked is kept here too, so that the same list can be put
to the local Stack Auth where the recordings are not at hand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from stackauth_middleware import ErrorCode, UserType
from stackauth_middleware.testing import LocalStackAuth
from tests.unit.core.helpers import OTHER_PROJECT, PROJECT
from tests.unit.testing.helpers import ask

from .upstream import PUBLISHABLE, SECRET, USERS_ME

OTHER_SECRET = "ssk_" + "o" * 45
ADMIN = "sak_" + "a" * 45

Token = Literal["good", "missing", "empty", "garbage", "bad signature", "other project", "expired", "Bearer good"]
State = Literal["as it was", "deleted", "restricted since", "signed out"]
Outage = Literal["none", "throttled", "throttled for 5", "database down", "project removed"]


@dataclass(frozen=True)
class Case:
    """A recorded response.

    Attributes:
        means: the error code that it leads to; None for the profile of an accepted user.
        access: value of ``x-stack-access-type``, with its key.
        token: value of ``x-stack-access-token``.
        user_type: of the token.
        state: what happened to the user after the token was issued.
        reason: why the user is restricted, as in the response.
        outage: the fault of Stack Auth.
        also: other headers of the request, in place of those that follow from the above; None to leave one out.
        target: the target of the request.
    """

    means: ErrorCode | None = None
    access: Literal["server", "client", "admin", "none"] = "server"
    token: Token = "good"
    user_type: UserType = UserType.NORMAL
    state: State = "as it was"
    reason: str | None = None
    outage: Outage = "none"
    also: Mapping[str, str | None] = field(default_factory=dict)
    target: str = USERS_ME


NORMAL, RESTRICTED, ANONYMOUS = UserType.NORMAL, UserType.RESTRICTED, UserType.ANONYMOUS
INVALID, EXPIRED, FAULT, OUTAGE = (
    ErrorCode.INVALID_TOKEN,
    ErrorCode.EXPIRED_TOKEN,
    ErrorCode.MISCONFIGURED,
    ErrorCode.SERVER_ERROR,
)
NO_ANONYMOUS, NO_RESTRICTED = ErrorCode.ANONYMOUS_NOT_ALLOWED, ErrorCode.RESTRICTED_NOT_ALLOWED
ALLOW_ANONYMOUS = {"x-stack-allow-anonymous-user": "true"}
ALLOW_RESTRICTED = {"x-stack-allow-restricted-user": "true"}
NO_KEY = {"x-stack-publishable-client-key": None, "x-stack-secret-server-key": None}
BY_ADMIN, UNVERIFIED = "restricted_by_administrator", "email_not_verified"

CASES: dict[str, Case] = {
    "002-internal-owner-users-me": Case(access="client"),
    "025-users-me-server-ok": Case(),
    "026-users-me-client-ok": Case(access="client"),
    "027-users-me-admin-ok": Case(access="admin"),
    "028-users-me-client-no-publishable-key": Case(access="client", also=NO_KEY),
    "029-users-me-server-missing-token": Case(INVALID, token="missing"),
    "030-users-me-client-missing-token": Case(INVALID, access="client", token="missing"),
    "031-users-me-server-empty-token": Case(INVALID, token="empty"),
    "032-users-me-server-garbage-token": Case(INVALID, token="garbage"),
    "033-users-me-client-garbage-token": Case(INVALID, access="client", token="garbage"),
    "034-users-me-server-bad-signature": Case(INVALID, token="bad signature"),
    "035-users-me-server-garbage-three-part": Case(INVALID, also={"x-stack-access-token": "aaa.bbb.ccc"}),
    "036-users-me-server-token-with-space-bearer": Case(INVALID, token="Bearer good"),
    "037-users-me-server-authorization-bearer-only": Case(
        INVALID, token="missing", also={"authorization": "Bearer aaa.bbb.ccc"}
    ),
    "038-users-me-server-refresh-token-as-access-token": Case(INVALID, also={"x-stack-access-token": "v" * 45}),
    "040-users-me-server-token-of-other-project": Case(INVALID, token="other project"),
    "041-users-me-client-token-of-other-project": Case(INVALID, access="client", token="other project"),
    "042-users-me-server-bad-secret-key": Case(FAULT, also={"x-stack-secret-server-key": "ssk_wrong"}),
    "043-users-me-server-secret-key-of-other-project": Case(FAULT, also={"x-stack-secret-server-key": OTHER_SECRET}),
    "044-users-me-server-missing-secret-key": Case(FAULT, also=NO_KEY),
    "045-users-me-server-publishable-key-as-secret": Case(FAULT, also={"x-stack-secret-server-key": PUBLISHABLE}),
    "046-users-me-client-bad-publishable-key": Case(
        FAULT, access="client", also={"x-stack-publishable-client-key": "pck_wrong"}
    ),
    "047-users-me-bad-secret-and-garbage-token": Case(
        INVALID, token="garbage", also={"x-stack-secret-server-key": "ssk_wrong"}
    ),
    "048-users-me-server-missing-project-id": Case(FAULT, also={"x-stack-project-id": None}),
    "049-users-me-missing-access-type": Case(FAULT, also={"x-stack-access-type": None}),
    "050-users-me-no-headers": Case(FAULT, access="none", token="missing", also={"x-stack-project-id": None}),
    "051-users-me-only-access-token": Case(FAULT, access="none", also={"x-stack-project-id": None}),
    "052-users-me-invalid-access-type": Case(FAULT, also={"x-stack-access-type": "superuser"}),
    "053-users-me-unknown-project-no-token": Case(FAULT, token="missing", outage="project removed"),
    "054-users-me-unknown-project-with-token": Case(INVALID, token="other project", outage="project removed"),
    "055-users-me-unknown-branch": Case(FAULT, also={"x-stack-branch-id": "nope"}),
    "056-users-me-garbage-override-error-status": Case(
        INVALID, token="garbage", also={"x-stack-override-error-status": "true"}
    ),
    "057-users-me-accept-html": Case(also={"accept": "text/html"}),
    "063-users-me-server-expired-token": Case(EXPIRED, token="expired"),
    "064-users-me-client-expired-token": Case(EXPIRED, access="client", token="expired"),
    "065-users-me-server-expired-token-of-other-project": Case(
        EXPIRED, token="expired", also={"x-stack-project-id": OTHER_PROJECT, "x-stack-secret-server-key": OTHER_SECRET}
    ),
    "066-users-me-server-expired-token-and-bad-secret": Case(
        EXPIRED, token="expired", also={"x-stack-secret-server-key": "ssk_wrong"}
    ),
    "074-users-me-server-anonymous-not-allowed": Case(NO_ANONYMOUS, user_type=ANONYMOUS),
    "075-users-me-client-anonymous-not-allowed": Case(NO_ANONYMOUS, access="client", user_type=ANONYMOUS),
    "076-users-me-server-anonymous-allowed": Case(user_type=ANONYMOUS, reason="anonymous", also=ALLOW_ANONYMOUS),
    "077-users-me-client-anonymous-allowed": Case(
        access="client", user_type=ANONYMOUS, reason="anonymous", also=ALLOW_ANONYMOUS
    ),
    "078-users-me-server-anonymous-only-restricted-allowed": Case(
        NO_ANONYMOUS, user_type=ANONYMOUS, also=ALLOW_RESTRICTED
    ),
    "079-users-me-server-anonymous-allow-value-1": Case(
        NO_ANONYMOUS, user_type=ANONYMOUS, also={"x-stack-allow-anonymous-user": "1"}
    ),
    "082-users-me-server-carol-ok": Case(),
    "084-users-me-server-carol-old-token-after-restriction": Case(state="restricted since", reason=BY_ADMIN),
    "086-users-me-server-restricted-not-allowed": Case(NO_RESTRICTED, user_type=RESTRICTED, reason=BY_ADMIN),
    "087-users-me-server-restricted-allowed": Case(user_type=RESTRICTED, reason=BY_ADMIN, also=ALLOW_RESTRICTED),
    "088-users-me-client-restricted-allowed": Case(
        access="client", user_type=RESTRICTED, reason=BY_ADMIN, also=ALLOW_RESTRICTED
    ),
    "089-users-me-server-restricted-anon-allowed": Case(user_type=RESTRICTED, reason=BY_ADMIN, also=ALLOW_ANONYMOUS),
    "093-users-me-server-after-session-revoked": Case(state="signed out"),
    "094-users-me-client-after-session-revoked": Case(access="client", state="signed out"),
    "099-users-me-server-after-sign-out": Case(state="signed out"),
    "106-users-me-server-deleted-user": Case(INVALID, state="deleted"),
    "107-users-me-client-deleted-user": Case(INVALID, access="client", state="deleted"),
    "173-users-me-server-api-key-as-access-token": Case(INVALID, also={"x-stack-access-token": "sk_" + "k" * 99}),
    "183-users-me-server-C-unverified": Case(NO_RESTRICTED, user_type=RESTRICTED, reason=UNVERIFIED),
    "184-users-me-server-C-unverified-allow-restricted": Case(
        user_type=RESTRICTED, reason=UNVERIFIED, also=ALLOW_RESTRICTED
    ),
    "189-users-me-server-session-expired-token-still-valid": Case(state="signed out"),
    "191-users-id-me-server": Case(FAULT, target=f"{USERS_ME}?x=1"),
    "197-SHORT-users-me-server-ok": Case(),
    "202-dev-rate-limit-429": Case(OUTAGE, outage="throttled"),
    "203-dev-rate-limit-429": Case(OUTAGE, outage="throttled for 5"),
    "204-dev-rate-limit-429": Case(OUTAGE, outage="throttled"),
    "205-dev-rate-limit-429": Case(OUTAGE, outage="throttled"),
    "206-db-down-users-me-server": Case(OUTAGE, outage="database down"),
    "207-db-down-users-me-server-garbage-token": Case(INVALID, token="garbage", outage="database down"),
    "209-db-up-again-users-me-server": Case(),
    "212-D-users-me-server-after-project-deleted": Case(FAULT, outage="project removed"),
}


class Recorded:
    """An answer to be sent again: by the real server, or by the local one to the same question.

    Attributes:
        user_id: the user whom it is about.
    """

    def __init__(self, user_id: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.user_id = user_id
        self.status = status
        self.headers = headers
        self.body = body


def answered_locally(case: Case) -> Recorded:
    """Put the question of `case` to a local Stack Auth in the right state."""
    local = LocalStackAuth(PROJECT, any_project=False)
    local.add_project(
        PROJECT,
        secret_server_key=SECRET,
        publishable_client_key=PUBLISHABLE,
        super_secret_admin_key=ADMIN,
    )
    local.add_project(OTHER_PROJECT, secret_server_key=OTHER_SECRET)
    account = local.users.create(
        is_anonymous=case.user_type is ANONYMOUS,
        must_verify_email=case.reason == UNVERIFIED,
        restricted_by_admin=case.user_type is RESTRICTED and case.reason == BY_ADMIN,
    )
    signed_in = local.sign_in(account, **_claims(case.token))
    if case.state == "deleted":
        local.users.delete(account.id)
    elif case.state == "restricted since":
        local.users.restrict(account.id)
    elif case.state == "signed out":
        local.sign_out(signed_in)
    if case.outage == "project removed":
        local.remove_project(PROJECT)
    headers = {name: value for name, value in _headers(case, signed_in.access_token).items() if value is not None}
    with ExitStack() as stack:
        if case.outage == "database down":
            stack.enter_context(local.database_down())
        elif case.outage.startswith("throttled"):
            stack.enter_context(local.throttle(case.outage.partition(" for ")[2] or None))
        got = ask(local, case.target, headers)
    return Recorded(account.id, got.status, list(got.headers.items()), got.body)


def _claims(token: Token) -> dict[str, Any]:
    changes: dict[Token, dict[str, Any]] = {
        "expired": {"exp": int(time.time()) - 60},
        "bad signature": {"key": "foreign"},
        "other project": {"project_id": OTHER_PROJECT},
    }
    return changes.get(token, {})


def _headers(case: Case, token: str) -> dict[str, str | None]:
    sent: dict[Token, str | None] = {
        "missing": None,
        "empty": "",
        "garbage": "garbage",
        "Bearer good": f"Bearer {token}",
    }
    keys: dict[str, dict[str, str | None]] = {
        "server": {"x-stack-secret-server-key": SECRET},
        "client": {"x-stack-publishable-client-key": PUBLISHABLE},
        "admin": {"x-stack-super-secret-admin-key": ADMIN},
        "none": {},
    }
    return {
        "x-stack-project-id": PROJECT,
        "x-stack-access-type": None if case.access == "none" else case.access,
        "x-stack-access-token": sent.get(case.token, token),
        **keys[case.access],
        **case.also,
    }
