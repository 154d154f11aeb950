"""Tokens and sessions of the local Stack Auth."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._core import config as config_module
from .._core.environment import from_environment
from .._core.users import UserType
from ._account import Account
from ._accounts import Session
from ._claims import LIFETIME, account_from_claims, full_claims, overridden, subject_of
from ._issuer import SigningKey, compact, origin
from ._projects import EVERY
from ._store import Store

SOME_PROJECT = "00000000-0000-4000-8000-00000000cafe"
"""The project id if neither the test, nor a config, nor the environment names one."""

_HOSTED = ("https://api.stack-auth.com", "https://api.hexclave.com")


class SignedIn(NamedTuple):
    """The tokens and ids of a session.

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


class Signing:
    """Base class that signs tokens. The arguments are those of `LocalStackAuth`."""

    def __init__(self, store: Store, project_id: str | None, api_url: str | None) -> None:
        super().__init__()
        self.api_url = api_url
        self.users = store.accounts
        self.issuer = store.issuer
        self._store = store
        self._project_id = project_id
        self._lock = threading.Lock()
        self._issuer_urls: frozenset[str] = frozenset()

    @property
    def project_id(self) -> str:
        """The current default project of tokens."""
        if self._project_id is not None:
            return self._project_id
        config = config_module.newest_config()
        if config is not None:
            return config.project_id
        found = from_environment({"project_id": config_module.typed_settings()["project_id"]})
        return found["project_id"].value if found else SOME_PROJECT

    @property
    def issuer_url(self) -> str:
        """The current base URL of the issuers: scheme, host and port, as in the real service."""
        if self.api_url is not None:
            return origin(self.api_url)
        config = config_module.newest_config() if self._project_id is None else None
        if config is None:
            return _HOSTED[0]
        return next(origin(issuer) for issuer, kind in config.issuers.items() if kind is UserType.NORMAL)

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

        A token that is made without `project_id` and `issuer_url` is accepted by every config of the process while
        `in_process` lasts, also by one that is made later: it is for the newest config, and is signed again for
        whichever config verifies it.

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
            KeyError: `user` is an id without an account.
            ValueError: `user_type` is unknown.
        """
        account, kind = subject_of(self.users, user, user_type, claims)
        now = self._store.clock()

        def sign(project_id: str, issuer_url: str, stored_in: str = EVERY) -> str:
            self._accept(issuer_url)
            full = full_claims(
                account,
                kind,
                project_id=project_id,
                issuer_url=issuer_url,
                session_id=session_id,
                now=now,
                expires_in=expires_in,
            )
            payload = overridden(full, claims)
            described = account_from_claims(payload, stored_in) if key in ("first", "second") else None
            if described is not None:
                self.users.auto_create(described)
            signing_key = self.issuer.key(project_id, kind, key)
            members = overridden({"alg": "ES256", "kid": kid or signing_key.kid}, header or {})
            return compact(signing_key, members, payload)

        url = origin(issuer_url) if issuer_url else self.issuer_url
        token = sign(project_id or self.project_id, url, project_id or self._stored_in)
        if project_id is None and issuer_url is None and self._project_id is None and self.api_url is None:
            self._store.implicit_tokens.add(token, sign)
        return token

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
        session = self._store.start_session(account.id, project_id or self._stored_in)
        token = self.token(account, user_type=kind, project_id=project_id, session_id=session.id, **claims)
        return SignedIn(token, session.refresh_token, session.id, account.id, project_id or self.project_id)

    def sign_out(self, signed_in: SignedIn) -> None:
        """End a session. Its access tokens stay valid until they expire, as in the real service."""
        self.users.end_session(signed_in.session_id)

    def own_issuer_urls(self) -> frozenset[str]:
        """Return the base URLs of the issuers of all tokens so far and of the default issuer.

        If one of the two hosted URLs is among them, both are returned.
        """
        urls = self._issuer_urls | {self.issuer_url}
        return urls | frozenset(_HOSTED) if urls & frozenset(_HOSTED) else urls

    @property
    def _stored_in(self) -> str:
        """The project id of objects that are created without naming a project."""
        return self._project_id or EVERY

    def _refreshed(self, account: Account, session: Session, project_id: str) -> str:
        return self.token(account, project_id=project_id, session_id=session.id)

    def _accept(self, issuer_url: str) -> None:
        if issuer_url not in self._issuer_urls:
            with self._lock:
                self._issuer_urls |= {issuer_url}
