"""The one object that a test holds."""

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
from ._answers import Answer
from ._breakable import Breakable
from ._claims import LIFETIME, full_claims, implied_account, overridden, subject_of
from ._faces import AsgiFace, InProcess, Outcome, WsgiFace
from ._faults import Asked, RequestLog
from ._issuer import Issuer, SigningKey, compact, origin
from ._projects import Project, Projects
from ._server import Server, kind_of

SOME_PROJECT = "00000000-0000-4000-8000-00000000cafe"
"""The project where neither the test, nor a config, nor the environment names one."""

_HOSTED = ("https://api.stack-auth.com", "https://api.hexclave.com")


class SignedIn(NamedTuple):
    """A session, as the client holds it."""

    access_token: str
    refresh_token: str
    session_id: str
    user_id: str
    project_id: str

    def __repr__(self) -> str:  # the tokens are as good as a password
        return f"SignedIn(user_id={self.user_id!r}, session_id={self.session_id!r}, project_id={self.project_id!r})"


class LocalStackAuth(Breakable):
    """A Stack Auth of one's own: it signs tokens, publishes keys, keeps accounts, answers, and breaks down.

    It has three faces: `asgi` and `wsgi`, to be served over HTTP, and `in_process`, which takes the
    place of the network for every verifier of this process.

    Args:
        project_id: the project that tokens are for by default; else that of the newest_config living
            `StackAuthConfig`, else the environment's ``STACK_PROJECT_ID``, else a fixed one.
        api_url: base URL that issuers are made of; else, where `project_id` is not given either, that
            of an issuer which the newest_config config accepts; else the hosted service's. May be set
            later, once a port is known.
        secret_server_key: the only one that `project_id` takes; else any that is not empty.
        publishable_client_key: likewise.
        short_coordinates: have a key of `project_id` published with a coordinate of 31 octets.
        any_project: whether every project is known that is asked for; else only those that were added.
        clock: returns the seconds since the epoch.

    Attributes:
        api_url: as above.
        users: the accounts. Verifiers remember what they were told of one; after a change, `forget`
            has them ask again, instead of up to half a minute later.
        requests: what was asked, and how often.
        issuer: the keys.

    Not promised: anything of Stack Auth beyond the key set, users/me, a user by id, refresh and sign-out.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._project_id = project_id
        self._clock = clock
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
            clock=clock,
        )
        self.asgi = AsgiFace(self._ask)
        self.wsgi = WsgiFace(self._ask)
        self._in_process = InProcess(self._ask)
        if project_id is not None:
            self.add_project(
                project_id,
                secret_server_key=secret_server_key,
                publishable_client_key=publishable_client_key,
                short_coordinates=short_coordinates,
            )

    @property
    def project_id(self) -> str:
        """The project that tokens are for by default, as of now."""
        if self._project_id is not None:
            return self._project_id
        config = config_module.newest_config()
        return config.project_id if config else from_environment("project_id") or SOME_PROJECT

    @property
    def issuer_url(self) -> str:
        """The base URL of the issuers, as of now: only scheme and host, as the real one has it."""
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
        """Have a project, in place of what went by its id.

        Args:
            project_id: the project.
            secret_server_key: the only one that it takes; None for any that is not empty.
            publishable_client_key: likewise.
            super_secret_admin_key: likewise.
            require_publishable_client_key: whether client access needs one.
            short_coordinates: publish a key with a coordinate of 31 octets, as one project in 130 has.
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
        """Have no such project. Its tokens are still signed by its keys."""
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
        """Return an access token with every claim of a real one.

        Unless a test made or changed it, the account of ``sub`` is afterwards as this token says.

        Args:
            user: an account, or the id of one; else that of the claim ``sub``; else one for the type.
            user_type: ``"normal"``, ``"restricted"`` or ``"anonymous"``, which decides issuer, audience,
                key and flags; else the flags among `claims` decide, else the account.
            expires_in: seconds from now to the expiry; negative for a token that has expired.
            project_id: the project; else the default one.
            issuer_url: the base URL of the issuer; else the default one.
            session_id: the claim ``refresh_token_id``; else one that goes with the user's id.
            key: what signs it.
            kid: the header's ``kid``, where it is not that of the key.
            header: more members of the header, or others in place of its own; ``alg`` too, which
                changes nothing but what is said.
            claims: in place of the claims by these names; with `OMIT`, a claim is left out. Nothing
                keeps them from contradicting each other.

        Raises:
            KeyError: `user` is an id that no account has.
            ValueError: there is no such user type.
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
        implied = implied_account(payload) if key in ("first", "second") else None
        if implied is not None:
            self.users.imply(implied)
        members = overridden({"alg": "ES256", "kid": kid or signing_key.kid}, header or {})
        return compact(signing_key, members, payload)

    def headers(self, user: Account | str | None = None, **claims: Any) -> dict[str, str]:
        """Return the request headers of a client that is signed in; takes what `token` takes."""
        return {"x-stack-access-token": self.token(user, **claims)}

    def sign_in(self, user: Account | str | None = None, *, project_id: str | None = None, **claims: Any) -> SignedIn:
        """Start a session, and return its two tokens.

        Args:
            user: an account, or the id of one; else the one that `token` has by default.
            project_id: the project; else the default one.
            claims: for the access token, as `token` takes them; refreshed ones say what the account says.
        """
        account, kind = subject_of(self.users, user, claims.pop("user_type", None), claims)
        project_id = project_id or self.project_id
        session = self.users.start_session(account.id, project_id)
        token = self.token(account, user_type=kind, project_id=project_id, session_id=session.id, **claims)
        return SignedIn(token, session.refresh_token, session.id, account.id, project_id)

    def sign_out(self, signed_in: SignedIn) -> None:
        """End a session. Its access tokens are good until they expire, as with the real one."""
        self.users.end_session(signed_in.session_id)

    def rotate(self, project_id: str | None = None, *, keep_old: bool = False, reset: bool = True) -> None:
        """Replace the keys of a project, or of all.

        Args:
            project_id: the project; else all that have keys.
            keep_old: rotate softly, as `Issuer.rotate` says; else old tokens fail at once.
            forget: have the verifiers of this process ask for the new keys at once; else they find
                out as they would in production.
        """
        self.issuer.rotate(project_id, keep_old=keep_old)
        if reset:
            self.reset()

    def answer(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Answer a request as if nothing were wrong, and without a word in `requests`.

        Args:
            method: in upper case.
            target: path and query.
            headers: names in lower case.
            body: the whole of it.
        """
        return self._server.answer(method, target, headers or {}, body)

    @contextmanager
    def in_process(self) -> Iterator[LocalStackAuth]:
        """Take the place of the network for every verifier of this process, for the length of the context.

        The verifiers forget everything on the way in and on the way out.
        """
        before, network.transport_override = network.transport_override, self._in_process
        self.reset()
        try:
            yield self
        finally:
            network.transport_override = before
            self.reset()

    def _ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Outcome:
        kind = kind_of(target)
        self.requests.add(Asked(kind, method, target, headers))
        trouble = self._faults.meeting(kind)
        if trouble.down:
            return Outcome(trouble.seconds, None)
        answer = trouble.answer or self._server.answer(
            method, target, headers, body, database_down=trouble.database_down
        )
        return Outcome(trouble.seconds, answer)

    def _refreshed(self, account: Account, session: Session) -> str:
        return self.token(account, project_id=session.project_id, session_id=session.id)

    def _accept(self, issuer_url: str) -> None:
        if issuer_url not in self._issuer_urls:
            with self._lock:
                self._issuer_urls |= {issuer_url}

    def _own_issuer_urls(self) -> frozenset[str]:
        """Every base URL that a token was minted under, and the default one; of the hosted pair, both."""
        urls = self._issuer_urls | {self.issuer_url}
        return urls | frozenset(_HOSTED) if urls & frozenset(_HOSTED) else urls
