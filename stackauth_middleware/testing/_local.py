"""`LocalStackAuth`, the object that tests use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from .._core import config as config_module
from .._core.environment import from_environment
from .._core.users import UserType
from .._io import network
from ._account import Account
from ._accounts import Accounts, Session
from ._apps import AsgiApp, DelayedResponse, TransportOverride, WsgiApp
from ._claims import LIFETIME, account_from_claims, full_claims, overridden, subject_of
from ._fault_injection import FaultInjection
from ._faults import LoggedRequest, RequestLog
from ._issuer import Issuer, SigningKey, compact, origin
from ._projects import Project, Projects
from ._responses import Response
from ._server import Server, kind_of

SOME_PROJECT = "00000000-0000-4000-8000-00000000cafe"
"""The project id if neither the test, nor a config, nor the environment names one."""

_HOSTED = ("https://api.stack-auth.com", "https://api.hexclave.com")


class SignedIn(NamedTuple):
    """A session, as a client has it.

    Example::

        session = local.sign_in()
        headers = {"x-stack-access-token": session.access_token}
    """

    access_token: str
    refresh_token: str
    session_id: str
    user_id: str
    project_id: str

    def __repr__(self) -> str:  # the tokens are credentials
        return f"SignedIn(user_id={self.user_id!r}, session_id={self.session_id!r}, project_id={self.project_id!r})"


class LocalStackAuth(FaultInjection):
    """A local Stack Auth: it signs tokens, publishes keys, stores accounts and sessions, and fails on request.

    Use `in_process` to answer all verifiers of this process without a network, or serve `asgi` or `wsgi` over
    HTTP.

    Args:
        project_id: the default project of tokens; None for that of the newest `StackAuthConfig`, else of
            ``STACK_PROJECT_ID`` in the environment, else a fixed one.
        api_url: base URL of the issuers; None for an issuer that the newest config accepts if `project_id` is
            None too, else for the hosted service. Can be set later, once the port is known.
        secret_server_key: the accepted key of `project_id`; None accepts any that is not empty.
        publishable_client_key: likewise.
        short_coordinates: publish a key of `project_id` with a coordinate of 31 bytes.
        any_project: whether every project id exists; if False, only those that were added.
        clock: returns the seconds since the epoch; None for ``time.time``, frozen or not.

    Attributes:
        api_url: as above.
        users: the accounts. Verifiers cache profiles; call `reset` after a change, or they use the old profile
            until `profile_ttl` has passed.
        requests: the received requests.
        issuer: the keys.

    Not promised: other endpoints than the key set, users/me, a user by id, refresh and sign-out.

    Example::

        with LocalStackAuth().in_process() as local:
            response = client.get("/me", headers=local.headers())
    """

    def __init__(
        self,
        project_id: str | None = None,
        *,
        api_url: str | None = None,
        secret_server_key: str | None = None,
        publishable_client_key: str | None = None,
        short_coordinates: bool = False,
        any_project: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._project_id = project_id
        self._clock = clock or _now
        self._lock = threading.Lock()
        self._issuer_urls: frozenset[str] = frozenset()
        self.api_url = api_url
        self.users = Accounts()
        self.requests = RequestLog()
        self.issuer = Issuer()
        self._projects = Projects(any_id=any_project)
        self._server = Server(
            issuer=self.issuer,
            projects=self._projects,
            accounts=self.users,
            mint=self._refreshed,
            issuer_urls=self._own_issuer_urls,
            clock=self._clock,
        )
        self.asgi = AsgiApp(self._handle)
        self.wsgi = WsgiApp(self._handle)
        self._transport_override = TransportOverride(self._handle)
        if project_id is not None:
            self.add_project(
                project_id,
                secret_server_key=secret_server_key,
                publishable_client_key=publishable_client_key,
                short_coordinates=short_coordinates,
            )

    @property
    def project_id(self) -> str:
        """The current default project of tokens."""
        if self._project_id is not None:
            return self._project_id
        config = config_module.newest_config()
        return config.project_id if config else from_environment("project_id") or SOME_PROJECT

    @property
    def issuer_url(self) -> str:
        """The current base URL of the issuers: scheme, host and port, as in the real service."""
        if self.api_url is not None:
            return origin(self.api_url)
        config = config_module.newest_config() if self._project_id is None else None
        if config is None:
            return _HOSTED[0]
        return next(origin(issuer) for issuer, kind in config.issuers.items() if kind is UserType.NORMAL)

    def add_project(
        self,
        project_id: str,
        *,
        secret_server_key: str | None = None,
        publishable_client_key: str | None = None,
        super_secret_admin_key: str | None = None,
        require_publishable_client_key: bool = False,
        short_coordinates: bool = False,
    ) -> None:
        """Add a project, or replace the one with its id.

        Args:
            project_id: the project.
            secret_server_key: the accepted key; None accepts any that is not empty.
            publishable_client_key: likewise.
            super_secret_admin_key: likewise.
            require_publishable_client_key: whether client access needs one.
            short_coordinates: publish a key with a coordinate of 31 bytes, as about one project in 130 has.
        """
        self._projects.add(
            Project(
                id=project_id,
                secret_server_key=secret_server_key,
                publishable_client_key=publishable_client_key,
                super_secret_admin_key=super_secret_admin_key,
                require_publishable_client_key=require_publishable_client_key,
            )
        )
        if short_coordinates:
            self.issuer.with_short_coordinates(project_id)

    def remove_project(self, project_id: str) -> None:
        """Remove a project. `token` still signs tokens with its keys."""
        self._projects.remove(project_id)

    def token(
        self,
        user: Account | str | None = None,
        *,
        user_type: UserType | str | None = None,
        expires_in: float = LIFETIME,
        project_id: str | None = None,
        issuer_url: str | None = None,
        session_id: str | None = None,
        key: SigningKey = "first",
        kid: str | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return an access token with all claims of a real one.

        The account of ``sub`` is auto-created or updated from the claims, unless a test created or changed it.

        Args:
            user: an account or its id; None for the account of the claim ``sub``, else the default one of the type.
            user_type: ``"normal"``, ``"restricted"`` or ``"anonymous"``, which decides issuer, audience, key and flags;
                None for that of the flags in `claims`, else of the account.
            expires_in: seconds from now to the expiry; negative for an expired token.
            project_id: the project; None for the default one.
            issuer_url: the base URL of the issuer; None for the default one.
            session_id: the claim ``refresh_token_id``; None for one derived from the user id.
            key: the signing key.
            kid: the ``kid`` in the header; None for that of the key.
            header: members to add to the header, or to override. ``alg`` changes the header only; the signature
                is always ES256.
            claims: claims to add or override; `OMIT` leaves one out. They may contradict each other.

        Raises:
            KeyError: `user` is the id of no account.
            ValueError: `user_type` is unknown.
        """
        account, kind = subject_of(self.users, user, user_type, claims)
        issuer_url = origin(issuer_url) if issuer_url else self.issuer_url
        self._accept(issuer_url)
        project_id = project_id or self.project_id
        full = full_claims(
            account,
            kind,
            project_id=project_id,
            issuer_url=issuer_url,
            session_id=session_id,
            now=self._clock(),
            expires_in=expires_in,
        )
        payload = overridden(full, claims)
        signing_key = self.issuer.key(project_id, kind, key)
        described = account_from_claims(payload) if key in ("first", "second") else None
        if described is not None:
            self.users.auto_create(described)
        members = overridden({"alg": "ES256", "kid": kid or signing_key.kid}, header or {})
        return compact(signing_key, members, payload)

    def headers(self, user: Account | str | None = None, **claims: Any) -> dict[str, str]:
        """Return the request headers of a signed-in client. Takes the arguments of `token`."""
        return {"x-stack-access-token": self.token(user, **claims)}

    def sign_in(self, user: Account | str | None = None, *, project_id: str | None = None, **claims: Any) -> SignedIn:
        """Start a session and return its tokens.

        Args:
            user: as for `token`.
            project_id: the project; None for the default one.
            claims: of the access token, as for `token`. Refreshed tokens have the claims of the account instead.
        """
        account, kind = subject_of(self.users, user, claims.pop("user_type", None), claims)
        project_id = project_id or self.project_id
        session = self.users.start_session(account.id, project_id)
        token = self.token(account, user_type=kind, project_id=project_id, session_id=session.id, **claims)
        return SignedIn(token, session.refresh_token, session.id, account.id, project_id)

    def sign_out(self, signed_in: SignedIn) -> None:
        """End a session. Its access tokens stay valid until they expire, as in the real service."""
        self.users.end_session(signed_in.session_id)

    def rotate(self, project_id: str | None = None, *, keep_old: bool = False, reset: bool = True) -> None:
        """Replace the keys of a project, or of all projects.

        Args:
            project_id: the project; None for all that have keys.
            keep_old: keep the previous signing key published, as `Issuer.rotate` describes; if False, old tokens
                fail at once.
            reset: whether to reset the caches of all verifiers of this process, so that they fetch the new keys
                at once; if False, they fetch them as in production.
        """
        self.issuer.rotate(project_id, keep_old=keep_old)
        if reset:
            self.reset()

    def answer(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        """Return the response to a request, without faults and without logging it in `requests`.

        Args:
            method: in upper case.
            target: path and query.
            headers: names in lower case.
            body: the whole of it.
        """
        return self._server.answer(method, target, headers or {}, body)

    @contextmanager
    def in_process(self) -> Iterator[LocalStackAuth]:
        """Answer the calls of all verifiers of this process, instead of the network.

        Sets the transport override. All caches are reset at the start and at the end.
        """
        before, network.transport_override = network.transport_override, self._transport_override
        self.reset()
        try:
            yield self
        finally:
            network.transport_override = before
            self.reset()

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> DelayedResponse:
        kind = kind_of(target)
        self.requests.add(LoggedRequest(kind, method, target, headers))
        active = self._faults.active_for(kind)
        if active.down:
            return DelayedResponse(active.seconds, None)
        response = active.response or self._server.answer(
            method, target, headers, body, database_down=active.database_down
        )
        return DelayedResponse(active.seconds, response)

    def _refreshed(self, account: Account, session: Session) -> str:
        return self.token(account, project_id=session.project_id, session_id=session.id)

    def _accept(self, issuer_url: str) -> None:
        if issuer_url not in self._issuer_urls:
            with self._lock:
                self._issuer_urls |= {issuer_url}

    def _own_issuer_urls(self) -> frozenset[str]:
        """Return the base URLs of the issuers of all tokens so far and the default one; both of the hosted service."""
        urls = self._issuer_urls | {self.issuer_url}
        return urls | frozenset(_HOSTED) if urls & frozenset(_HOSTED) else urls


def _now() -> float:
    """Return ``time.time()``, looked up at each call since freezegun and time_machine replace it."""
    return time.time()
